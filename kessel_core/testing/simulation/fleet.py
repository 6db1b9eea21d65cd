"""The processes of a simulation: each has a manager and a worker of its own, dies, stops, and is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from kessel_core.client.manager import JobManager
from kessel_core.config.options import Config
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.store import Store
from kessel_core.plugins.registry import Plugins
from kessel_core.runtime.worker import Worker
from kessel_core.testing.simulation.network import Network
from kessel_core.testing.simulation.queue import SimulatedQueue, SimulatedStore
from kessel_core.testing.simulation.seeds import Chances, Seed
from kessel_core.testing.simulation.strand import TEST

__all__ = ["Crew", "Fleet", "Shared"]

#: The longest pause before a process that is gone is replaced, in seconds.
_LONGEST_ABSENCE: Final = 20.0
#: How often a process may be told to stop, in seconds.
_MINUTE: Final = 60.0


@attrs.frozen(kw_only=True)
class Crew:
    """What the processes are like; the fields are those of `Simulation`."""

    workers: int
    slots: int
    queues: Sequence[str] | None
    handlers: Mapping[str, object] | Iterable[object]
    middleware: Sequence[str] | None
    config: Config
    plugins: Plugins
    follow: bool
    may_stop: bool


@attrs.frozen
class Shared:
    """What all processes share."""

    #: The open queue.
    queue: QueueAdapter
    #: The open store; None: there is none.
    store: Store | None

    @property
    def has_own_store(self) -> bool:
        """Whether the store is the queue's own."""
        return self.store is not None and self.queue.facet(Store) is self.store


class Fleet:
    """Starts processes, and another one for each that is gone.

    Args:
        crew: What they are like.
        shared: The queue and the store.
        network: Between them and the processes.
        chances: Decides who is told to stop.
        seed: Decides how long it takes until a process is replaced.
    """

    def __init__(self, crew: Crew, shared: Shared, network: Network, chances: Chances, seed: Seed) -> None:
        self._crew = crew
        self._shared = shared
        self._network = network
        self._chances = chances
        self._absence = seed.random("absence").random
        self._started = TEST
        self._managers: list[JobManager] = []
        #: Also those whose process is dead.
        self._workers: list[Worker] = []

    def start(self) -> None:
        """Start all processes."""
        for _ in range(self._crew.workers):
            self._begin(absence=0.0)

    def replace(self) -> None:
        """Start another process after a while."""
        self._begin(self._absence() * _LONGEST_ABSENCE)

    def manager(self) -> JobManager:
        """Return a manager as a process of its own has it."""
        crew, shared, network = self._crew, self._shared, self._network
        store = SimulatedStore(shared.store, network) if shared.store is not None else None
        own = store if shared.has_own_store else None
        manager = JobManager(
            SimulatedQueue(shared.queue, network, own, crew.follow),
            store=None if own is store else store,
            handlers=crew.handlers,
            middleware=crew.middleware,
            clock=network.strands,
            config=crew.config,
            plugins=crew.plugins,
        )
        self._managers.append(manager.connect())
        return manager

    def close(self) -> None:
        """Close what the processes had open; their threads have ended."""
        # A slot that dies while it waits for the queue, or is stuck, does not tell its worker: nobody is to
        # wait for that, neither here nor when the interpreter ends.
        for worker in self._workers:
            worker._alive = 0
        for manager in self._managers:
            manager._workers.clear()
            manager.close()

    def _begin(self, absence: float) -> None:
        self._started += 1
        number = self._started
        self._network.strands.thread_of(lambda: self._main(number, absence), "main", number).start()

    def _main(self, number: int, absence: float) -> None:
        """Do what the main thread of a worker's process does."""
        if absence:
            self._network.pause(absence)
        self._network.ledger.note(f"process {number} begins")
        worker = self.manager().worker(slots=self._crew.slots, queues=self._crew.queues)
        self._workers.append(worker)
        worker.start()
        if self._crew.may_stop:
            self._stop_sometime(number, worker)

    def _stop_sometime(self, number: int, worker: Worker) -> None:
        self._network.pause(_MINUTE)
        while (place := self._chances.stop()) is None:
            self._network.pause(_MINUTE)
        ledger = self._network.ledger
        ledger.note(f"PROCESS {number} IS TOLD TO STOP [{place}]")
        ledger.counts["stops"] += 1
        worker.stop()
        worker.join()
        ledger.note(f"process {number} ends")
        self._network.exit()

"""The queue and the store as one simulated process sees them; both are shared by all processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar, cast

import attrs

from kessel_core.contract.adapter import QueueAdapter, need
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.facets import Buried, Delete, Facet, FacetKind, Pause
from kessel_core.contract.messages import Reservation
from kessel_core.contract.operations import QueueStats, StoredJob
from kessel_core.contract.promises import Capabilities, Reach
from kessel_core.contract.store import Entry, Store, StoreCapabilities
from kessel_core.errors import AdapterError, EnqueueUnknown, LeaseLost, StoreUnknown
from kessel_core.model.message import Message
from kessel_core.model.settlement import Commit, Settlement
from kessel_core.testing.simulation.network import Network

__all__ = ["SimulatedQueue", "SimulatedStore"]

F = TypeVar("F", bound=Facet)
R = TypeVar("R")


class SimulatedStore(Store):
    """A store behind a network."""

    def __init__(self, real: Store, network: Network) -> None:
        super().__init__(network.strands)
        self.real = real
        self.name = real.name  # type: ignore[misc]  # of the instance: it stands for another class
        self._network = network

    @property
    def capabilities(self) -> StoreCapabilities:
        """Those of the real one."""
        return self.real.capabilities

    def get_entry(self, space: str, key: str) -> Entry | None:
        """As `Store.get_entry`."""
        return self._network.call("get", lambda: self.real.get_entry(space, key), job=key)

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        """As `Store.put_entry`."""

        def put() -> int:
            version = self.real.put_entry(space, key, value, expect, ttl)
            self._network.ledger.note(f"put into {space}", key, f"version {version}")
            return version

        return self._network.call("put", put, lost=lambda why: StoreUnknown(space, key, why), job=key)

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        """As `Store.delete_entry`."""

        def delete() -> bool:
            there = self.real.delete_entry(space, key, expect)
            self._network.ledger.note(f"deleted from {space}", key)
            return there

        return self._network.call("delete", delete, lost=lambda why: StoreUnknown(space, key, why), job=key)

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        """As `Store.scan_entries`."""
        return self._network.call("scan", lambda: self.real.scan_entries(space, prefix, after, limit))

    def wait_entry(self, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
        """As `Store.wait_entry`."""
        return self._network.call("wait", lambda: self.real.wait_entry(space, key, seen, timeout), job=key)


class SimulatedQueue(Buried, Delete, Pause, QueueAdapter):
    """A queue behind a network; operations are those of an operator who sits beside the server.

    Args:
        real: The queue that all processes share.
        network: Between it and the process.
        store: The queue's own store, seen from this process; None: it has none.
        follow: Whether the queue may store follow-ups with a settlement, if it can.
    """

    def __init__(
        self, real: QueueAdapter, network: Network, store: SimulatedStore | None, follow: bool
    ) -> None:
        self.real = real
        self.name = real.name  # type: ignore[misc]  # of the instance: it stands for another class
        self._network = network
        self._ledger = network.ledger
        self._store = store
        promises = real.capabilities
        # The processes are simulated, but they are processes: no function can be called back in another one.
        reach = Reach.HOST if promises.reach is Reach.PROCESS else promises.reach
        self._promises = attrs.evolve(promises, reach=reach, follow=promises.follow and follow)

    @property
    def capabilities(self) -> Capabilities:
        """Those of the real one, as seen by several processes, and perhaps without `follow`."""
        return self._promises

    def facet(self, kind: FacetKind[F]) -> F | None:
        """Those of the real one."""
        found = self.real.facet(kind)
        if kind is Store:
            return cast("F | None", self._store)
        return cast("F", self) if found is not None and kind in (Buried, Delete, Pause) else found

    # producer side

    def enqueue(self, message: Message) -> None:
        """As `QueueAdapter.enqueue`."""

        def enqueue() -> None:
            self.real.enqueue(message)
            self._ledger.stored(message)

        self._network.call(
            "enqueue", enqueue, lost=lambda why: EnqueueUnknown(message.id, why), job=message.id
        )

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """As `QueueAdapter.enqueue_many`; a call for each, so that each may go wrong."""
        return super().enqueue_many(messages)

    # consuming side

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        """As `QueueAdapter.make_consumer`."""
        make = self.real.make_consumer
        return self._network.call("connect", lambda: _SimulatedConsumer(make(queues), queues, self._network))

    def give_back(self, reservation: Reservation) -> None:
        """As `QueueAdapter.give_back`."""

        def give_back() -> None:
            self.real.give_back(reservation)
            self._ledger.given_back(reservation)

        self._network.call("give back", give_back, job=str(reservation.id))

    # operations

    def queues(self) -> list[str]:
        """As `QueueAdapter.queues`."""
        return self.real.queues()

    def stats(self, queue: str) -> QueueStats:
        """As `QueueAdapter.stats`."""
        return self.real.stats(queue)

    def purge(self, queue: str) -> int:
        """As `QueueAdapter.purge`."""
        removed = self.real.purge(queue)
        self._ledger.purged(queue)
        return removed

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """As `Buried.buried`."""
        return need(self.real, Buried).buried(queue, limit)

    def kick(self, queue: str, job_id: str) -> None:
        """As `Buried.kick`."""
        need(self.real, Buried).kick(queue, job_id)
        self._ledger.kicked(job_id)

    def kick_shown(self, job: StoredJob) -> None:
        """As `Buried.kick_shown`."""
        need(self.real, Buried).kick_shown(job)
        self._ledger.kicked(job.id)

    def delete_shown(self, job: StoredJob) -> None:
        """As `Delete.delete_shown`."""
        need(self.real, Delete).delete_shown(job)
        self._ledger.deleted(job.id)

    def delete(self, queue: str, job_id: str) -> None:
        """As `Delete.delete`."""
        need(self.real, Delete).delete(queue, job_id)
        self._ledger.deleted(job_id)

    def pause(self, queue: str, duration: timedelta) -> None:
        """As `Pause.pause`."""
        need(self.real, Pause).pause(queue, duration)
        self._ledger.paused(queue, duration)

    def close(self) -> None:
        """Do nothing: the others still need the real one."""


class _SimulatedConsumer(Consumer):
    """The consuming side of one slot, behind a network."""

    def __init__(self, real: Consumer, queues: tuple[str, ...], network: Network) -> None:
        self._real = real
        self._queues = queues
        self._network = network
        self._ledger = network.ledger
        #: What the queue delivered last, also where the answer was lost.
        self._last: Reservation | None = None

    def reserve(self, timeout: timedelta) -> Reservation | None:
        """As `Consumer.reserve`."""
        self._hold(None)

        def reserve() -> Reservation | None:
            return self._took(self._real.reserve(timeout))

        return self._hold(self._network.call("reserve", reserve, awaits=self._queues))

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """As `Consumer.settle`."""

        def settle() -> None:
            self._checked("settle", reservation, lambda: self._real.settle(reservation, settlement))
            self._settled(reservation, settlement)

        self._call_settle("settle", reservation, settle)

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """As `Consumer.settle_and_reserve`."""

        def settle() -> Reservation | None:
            real = self._real
            following = self._checked(
                "settle", reservation, lambda: real.settle_and_reserve(reservation, settlement)
            )
            self._settled(reservation, settlement)
            return self._took(following)

        return self._hold(self._call_settle("settle and reserve", reservation, settle))

    def extend(self, reservation: Reservation) -> None:
        """As `Consumer.extend`."""

        def extend() -> None:
            self._checked("extend", reservation, lambda: self._real.extend(reservation))
            self._ledger.note("extended", str(reservation.id))

        self._network.call("extend", extend, job=str(reservation.id))

    def attempt(self, reservation: Reservation) -> int:
        """As `Consumer.attempt`."""
        return self._network.call("attempt", lambda: self._real.attempt(reservation), job=str(reservation.id))

    def kicks(self, reservation: Reservation) -> int:
        """As `Consumer.kicks`."""
        return self._network.call("kicks", lambda: self._real.kicks(reservation), job=str(reservation.id))

    def cancel(self) -> None:
        """As `Consumer.cancel`."""
        self._real.cancel()

    def close(self) -> None:
        """As `Consumer.close`."""
        self._hold(None)

        def close() -> None:
            self._real.close()
            if self._last is not None:
                self._ledger.dropped(self._last)

        self._network.call("close", close)

    def _call_settle(self, what: str, reservation: Reservation, settle: Callable[[], R]) -> R:
        job_id = str(reservation.id)
        return self._network.call(what, settle, lost=lambda why: LeaseLost(job_id, why), job=job_id)

    def _checked(self, what: str, reservation: Reservation, do: Callable[[], R]) -> R:
        try:
            return do()
        except LeaseLost:
            self._ledger.refused(reservation, what)
            raise

    def _settled(self, reservation: Reservation, settlement: Settlement) -> None:
        self._ledger.settled(reservation, settlement)
        me = self._network.strands.me
        if isinstance(settlement, Commit) and me is not None and me.asked:
            self._ledger.asked(str(reservation.id), [one.job.id for one in me.asked])

    def _took(self, reservation: Reservation | None) -> Reservation | None:
        if reservation is not None:
            self._last = reservation
            self._ledger.delivered(reservation, self._queues)
        return reservation

    def _hold(self, reservation: Reservation | None) -> Reservation | None:
        """Take note of what the slot knows that it has."""
        me = self._network.strands.me
        if me is not None:
            me.holds, me.asked = reservation is not None, []
        return reservation

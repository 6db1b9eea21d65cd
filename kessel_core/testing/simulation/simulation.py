"""A whole application, with all its workers, run from one seed (S43).

More than 350 lines, a third of which tell the user of this class what it does and what its parts mean.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

import attrs

from kessel_core.client.manager import JobManager
from kessel_core.clock import Clock
from kessel_core.config.options import Config, HistoryConfig
from kessel_core.contract.adapter import need
from kessel_core.contract.facets import Find, VirtualTime
from kessel_core.errors import CapabilityMissing, KesselError
from kessel_core.features.results import SPACE
from kessel_core.handlers.context import JobContext
from kessel_core.hooks import hookimpl
from kessel_core.plugins.loading import build_plugins
from kessel_core.testing.simulation.fleet import Crew, Fleet, Shared
from kessel_core.testing.simulation.history import Event, Violation
from kessel_core.testing.simulation.ledger import Ledger
from kessel_core.testing.simulation.network import Network
from kessel_core.testing.simulation.search import record
from kessel_core.testing.simulation.seeds import Chances, Seed
from kessel_core.testing.simulation.strand import Strand, Stuck
from kessel_core.testing.simulation.strands import Strands
from kessel_core.testing.simulation.surroundings import seeded, silent

__all__ = ["Simulation"]

_MOMENT: Final = timedelta(microseconds=1)
#: A jump of the wall clock wakes nobody; adapters look at it again within a minute.
_UNTIL_SEEN: Final = timedelta(seconds=61)
#: Turns that no sensible test takes; a run of a hundred jobs takes a few thousand.
_MOST_TURNS: Final = 300_000
#: Deaths in vain that no sensible test needs; each takes real time, and leaves its threads until the end.
_MOST_IN_VAIN: Final = 200
#: Lines of history in a failure.
_LINES: Final = 60

_running = threading.Lock()


class Simulation:
    """Runs an application with all its workers on virtual time, and one seed decides what happens (S43).

    Use it as a context manager; a process has one at a time. Each worker is a simulated process of its own: a
    manager and a worker of kessel with its slots and its heartbeat, over the queue and the store that all
    share. One thread runs at a time. While they work, processes die in the middle of what they do and are
    replaced, calls are lost on their way, and the wall clock jumps. Whatever happens is checked against the
    clauses. The same seed and the same code give the same history, on every Python.

    For the thread that opened it, and for handlers. Ids, the jitter of pauses, and what is drawn from the
    module `random` follow from the seed; nothing is logged by kessel.

    Args:
        handlers: As for `JobManager`.
        seed: Decides everything.
        workers: How many processes.
        slots: How many jobs each of them runs at the same time.
        deaths: The chance that a process dies, at each place where it calls queue or store; 0 to 1.
        faults: The chance that a call is lost, or takes long; 0 to 1.
        jumps: The chance that the wall clock is set, by up to an hour off, when time moves; 0 to 1.
        stops: The chance that a process is told to stop, as by a deployment, in each of its minutes; 0 to 1.
            It has its configured grace period.
        adapter: The queue: a URL. It needs the facet `VirtualTime`.
        store: As for `JobManager`; it needs `StoreCapabilities.virtual_time`.
        follow: Whether follow-ups may be stored in one transaction with a settlement, if the queue can do so.
            False: as on a queue that cannot, such as beanstalkd.
        config: As for `JobManager`; workers write no entries about themselves.
        plugins: Plugins by name, in addition to those that are installed.
        middleware: As for `JobManager`.
        queues: The queues that workers serve; None: as configured.

    Raises:
        ValueError: Chances that are not from 0 to 1, or no workers; all mistakes at once.
        InvalidConfig: As for `JobManager` and `JobManager.worker`.
        CapabilityMissing: The queue or the store does not take its time from the given clock.
        KesselError: Another simulation is running in this process.

    Example:
        >>> shipped = []
        >>> with Simulation({"ship": shipped.append}, seed=1, deaths=0.01) as simulation:
        ...     jobs = simulation.manager.request_many([("ship", n) for n in range(20)])
        ...     simulation.run_until_idle()
        >>> sorted(set(shipped)) == list(range(20))
        True
    """

    def __init__(
        self,
        handlers: Mapping[str, object] | Iterable[object],
        *,
        seed: int | Seed,
        workers: int = 3,
        slots: int = 2,
        deaths: float = 0.0,
        faults: float = 0.0,
        jumps: float = 0.0,
        stops: float = 0.0,
        adapter: str = "memory://",
        store: str | None = None,
        follow: bool = True,
        config: Config | None = None,
        plugins: Mapping[str, object] | None = None,
        middleware: Sequence[str] | None = None,
        queues: Sequence[str] | None = None,
    ) -> None:
        chances = {"deaths": deaths, "faults": faults, "jumps": jumps, "stops": stops}
        problems = [
            f"{name} must be a chance from 0 to 1, got {chance!r}"
            for name, chance in chances.items()
            if not (isinstance(chance, (int, float)) and 0 <= chance <= 1)
        ]
        if not (isinstance(workers, int) and workers >= 1):
            problems.append(f"workers must be a number from 1 up, got {workers!r}")
        if problems:
            raise ValueError("; ".join(problems))
        #: What decides everything.
        self.seed = seed if isinstance(seed, Seed) else Seed(seed)
        self._chances = Chances(self.seed, **chances)
        config = config if config is not None else Config()
        # What workers say about themselves names their process, and is written every ten seconds.
        # A history of every event is what a simulation is; the thread that writes one is none of its strands.
        self._config = attrs.evolve(
            config, worker=attrs.evolve(config.worker, listed=False), history=HistoryConfig()
        )
        self._adapter, self._store = adapter, store
        self._crew = Crew(
            workers=workers,
            slots=slots,
            queues=queues,
            handlers=handlers if isinstance(handlers, Mapping) else list(handlers),
            middleware=middleware,
            config=self._config,
            plugins=build_plugins(
                disabled=self._config.plugins.disabled,
                required=self._config.plugins.required,
                extra={**(plugins or {}), "simulation": _Watching(self)},
            ),
            follow=follow,
            may_stop=stops > 0,
        )
        self._draw = self.seed.random("handlers").random
        self._closing: ExitStack | None = None
        self._left: list[str] = []
        self._calm_from = timedelta(0)
        self._until: timedelta | None = None

    # --- for tests -----------------------------------------------------------------------------

    @property
    def manager(self) -> JobManager:
        """The test's own manager; what it calls never fails. For the test, and for handlers that request."""
        return self._manager

    @property
    def clock(self) -> Clock:
        """The clock of the application."""
        return self._strands

    @property
    def history(self) -> list[Event]:
        """What happened so far."""
        return list(self._ledger.history.events)

    @property
    def digest(self) -> str:
        """A digest of the history, to compare runs by."""
        return self._ledger.history.digest()

    @property
    def counts(self) -> dict[str, int]:
        """Number of `jobs`, `runs` of handlers, `deaths`, `faults`, `jumps` and `stops` so far."""
        counts = self._ledger.counts
        kinds = ("runs", "deaths", "faults", "jumps", "stops")
        return {"jobs": len(self._ledger.jobs), **{kind: counts[kind] for kind in kinds}}

    @property
    def checks(self) -> dict[str, int]:
        """How often each promise was checked so far, by clause."""
        return dict(sorted(self._ledger.checks.items()))

    @property
    def mishaps(self) -> list[int]:
        """The numbers of the places where something went wrong so far; some of them make a `Seed.only`."""
        return list(self._chances.hits)

    def spend(self, seconds: float) -> None:
        """Let virtual time pass in a handler, as its work would take it; its process may die meanwhile.

        Args:
            seconds: Zero or more.

        Raises:
            KesselError: The simulation is not open.
        """
        if self._strands.is_over:
            raise KesselError("the simulation is over")
        self._network.pause(seconds)
        self._network.place("spending time")

    def random(self) -> float:
        """Return a number from 0 to 1 that the seed decides, for handlers that do now this and now that."""
        return self._draw()

    def run_until_idle(self, limit: timedelta = timedelta(days=1)) -> None:
        """Let the workers work until no job is left but buried ones, and check what is left.

        Args:
            limit: How far time may move, from now.

        Raises:
            Violation: A promise was broken, or jobs are left at the limit, or hundreds of processes have died
                while a job was due, and none was settled.
            Stuck: A handler waits in real time, or for what another one holds.
            KesselError: The simulation is not open, or this is not the thread that opened it.
        """
        if self._strands.is_over or self._strands.me is not self._strands.test:
            raise KesselError("only the test itself can run a simulation, while it is open")
        self._until = self._strands.passed + limit
        try:
            self._strands.rest()
        finally:
            self._until = None
        self._strands.turn()  # what has just ended has its last word
        self.check()

    def check(self) -> None:
        """Compare what the queue holds with the history, and raise what was found so far.

        Raises:
            Violation: A promise was broken.
        """
        if self._ledger.violation is None:
            self._ledger.at_rest()
        if self._ledger.violation is not None:
            raise self._ledger.violation

    # --- opening and closing -------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # What `__enter__` makes.
        if name in ("_strands", "_ledger", "_network", "_manager", "_shared"):
            raise KesselError("the simulation is not open: use it as `with Simulation(...) as simulation`")
        raise AttributeError(name)

    def __enter__(self) -> Self:
        if self._closing is not None:
            raise KesselError("a simulation runs once: make another one, with the same seed if you like")
        if not _running.acquire(blocking=False):
            raise KesselError("another simulation is running in this process; end it first")
        with ExitStack() as stack:
            stack.callback(_running.release)
            self._open(stack)
            self._closing = stack.pop_all()
        return self

    def __exit__(
        self, cls: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is not None:
            self._ledger.note("the test fails", detail=type(exc).__name__)
            exc.add_note(self.story(exc.jobs if isinstance(exc, Violation) else None))
        record(self.counts, self.checks, self.mishaps)
        assert self._closing is not None
        self._closing.close()
        if self._left and exc is None:
            raise Stuck(f"threads that do not end: {', '.join(self._left)}")

    def _open(self, stack: ExitStack) -> None:
        seeded(self.seed, stack)
        silent(stack, self._unforeseen)
        self._strands = strands = Strands(self.seed.random("order"), self._rest)
        server = JobManager(
            self._adapter,
            store=self._store,
            clock=strands,
            config=self._config,
            plugins=self._crew.plugins,
            only_requests=True,
        )
        stack.enter_context(server)
        need(
            server.adapter, VirtualTime, "a simulation needs a queue that takes its time from the given clock"
        )
        try:
            self._shared = Shared(server.adapter, server.store)
        except CapabilityMissing:
            self._shared = Shared(server.adapter, None)
        store = self._shared.store
        if store is not None and not store.capabilities.virtual_time:
            raise CapabilityMissing(
                "virtual_time", store.name, "a simulation needs a store on the given clock"
            )
        self._ledger = Ledger(
            strands,
            server.adapter.capabilities,
            server.adapter.facet(Find),
            self._most_attempts,
            self._is_kept if self._config.results.keep is not None else None,
        )
        self._network = Network(strands, self._ledger, self._chances, lambda: fleet.replace())
        fleet = Fleet(self._crew, self._shared, self._network, self._chances, self.seed)
        stack.callback(fleet.close)
        stack.callback(lambda: self._left.extend(strands.end()))
        self._manager = fleet.manager()
        self._manager.worker(slots=self._crew.slots, queues=self._crew.queues)  # so that mistakes show now
        fleet.start()

    # --- what the parts ask for ------------------------------------------------------------------

    def _most_attempts(self, job_type: str) -> int:
        found = self.manager.registry.get(job_type)
        own = found.max_attempts if found is not None else None
        return own or self._config.jobs.max_attempts

    def _is_kept(self, job_id: str) -> bool:
        store = self._shared.store
        return store is not None and store.get(SPACE, job_id) is not None

    def _unforeseen(self, error: BaseException) -> None:
        me = self._strands.me
        if me is not None and not me.is_dead:
            self._ledger.unforeseen(error)

    def _rest(self) -> timedelta | None:
        """Look around while nobody can go on; return how far time may move."""
        strands, ledger = self._strands, self._ledger
        if ledger.violation is not None:
            raise ledger.violation
        slots = list(strands.others())
        is_idle = not ledger.open and not any(strand.holds for strand in slots)
        if is_idle and strands.test.is_waiting and strands.test.end is None:
            strands.test.is_notified = True
            return None
        if strands.turns > _MOST_TURNS or (self._until is not None and strands.passed >= self._until):
            after = f"{strands.turns:,} turns and {strands.passed} of virtual time"
            raise Violation(
                "liveness", f"not idle after {after}: {len(ledger.open)} jobs are left", ledger.open
            )
        if ledger.in_vain > _MOST_IN_VAIN:
            text = f"{ledger.in_vain} processes died one after the other, and no job was settled meanwhile"
            raise Violation("liveness", f"{text}: are so many `deaths` meant?", ledger.open)
        jump = self._chances.jump(strands.wrong)
        if jump is not None:
            number, span = jump
            strands.jump_wall(span)
            ledger.note(f"WALL CLOCK JUMPS [{number}]", detail=f"{span.total_seconds():+g} s")
            ledger.counts["jumps"] += 1
            self._calm_from = strands.passed + _UNTIL_SEEN
        if strands.passed < self._calm_from or not self._shared.queue.capabilities.blocking_reserve:
            return self._until
        due = ledger.next_due(_awaited(slots))
        if ledger.violation is not None:
            raise ledger.violation
        bounds = [self._until, None if due is None else strands.passed + max(due, _MOMENT)]
        return min((bound for bound in bounds if bound is not None), default=None)

    # --- telling -------------------------------------------------------------------------------

    def story(self, jobs: Iterable[str] | None = None) -> str:
        """Return what a person needs to understand a failure: the seed, and the history of some jobs.

        Args:
            jobs: Their ids; None: all.
        """
        history = self._ledger.history
        events = list(history.events if jobs is None else history.of(jobs))
        left_out = max(0, len(events) - _LINES)
        counts = ", ".join(f"{number} {what}" for what, number in self.counts.items())
        return "\n".join(
            [
                f"{self.seed!r}: {counts}",
                f"{len(history.events)} events in {self._strands.passed} of virtual time",
                f"mishaps at places {', '.join(map(str, self._chances.hits)) or 'none'}",
                *([f"({left_out} earlier events are left out)"] if left_out else []),
                *map(str, events[-_LINES:]),
            ]
        )


class _Watching:
    """Takes note of the handlers that run."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    @hookimpl
    def kessel_job_started(self, job: JobContext) -> None:
        simulation = self._simulation
        me = simulation._strands.me
        if me is not None:
            me.asked = getattr(job._held, "asked", ())  # the list of the lease, filled while the handler runs
        simulation._ledger.started(job.request, job.attempt)


def _awaited(slots: Iterable[Strand]) -> set[str]:
    return {queue for strand in slots if strand.is_waiting and strand.inside for queue in strand.awaits}

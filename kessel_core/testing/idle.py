"""Runs an application's jobs to their end in one thread and in virtual time (S18)."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Final

from kessel_core.client.manager import JobManager
from kessel_core.clock import later
from kessel_core.contract.adapter import QueueAdapter, need
from kessel_core.contract.facets import VirtualTime
from kessel_core.errors import KesselError
from kessel_core.model.result import JobResult, Reason
from kessel_core.model.settlement import NO_PAUSE
from kessel_core.testing.clock import VirtualClock
from kessel_core.testing.delivery import run_delivery

__all__ = ["NeverIdle", "run_until_idle"]


#: The adapters whose jobs are being run, as the jobs themselves see it.
_running: Final[ContextVar[tuple[QueueAdapter, ...]]] = ContextVar("kessel_run_until_idle", default=())


class NeverIdle(AssertionError):
    """The jobs did not come to an end within the limits.

    `results` holds the results of the attempts until then.
    """

    def __init__(self, why: str, results: Sequence[JobResult]) -> None:
        self.results = list(results)
        super().__init__(why, self.results)  # as they are, so that it can be pickled and copied

    def __str__(self) -> str:
        return f"not idle after {self.args[0]}; {len(self.results)} attempts were run"


def run_until_idle(
    manager: JobManager,
    *,
    queues: Sequence[str] | None = None,
    limit: timedelta = timedelta(days=365),
    max_jobs: int = 100_000,
) -> list[JobResult]:
    """Run everything that is ready, then move time to the end of the next delay, pause or lease, and so on.

    All in the calling thread, one job after the other, through middleware, handlers, settlement and
    callbacks as in a worker. Jobs that handlers request on the way are run, too. Buried jobs stay.

    Args:
        manager: A connected manager with a `VirtualClock`.
        queues: Queues to serve; None: every queue that holds jobs.
        limit: How far time may move, from now.
        max_jobs: Most attempts to run.

    Returns:
        The result of every attempt, in the order in which they were run; one that failed and was
        retried appears as `failed-transient`, followed sooner or later by its next attempt.

    Raises:
        CapabilityMissing: The adapter does not have the facet `VirtualTime` (S17).
        TypeError: The manager's clock is not a `VirtualClock`.
        NeverIdle: Jobs are left at a limit; `NeverIdle.results` holds the results until then.
        KesselError: The manager is not connected, or a job that this runs has called it: time would move past
            the end of that job's own lease.

    Example:
        >>> with JobManager("memory://", clock=VirtualClock(), handlers={"a": print}) as manager:
        ...     job = manager.request("a", delay=timedelta(hours=3))
        ...     results = run_until_idle(manager)
    """
    adapter, clock = manager.adapter, manager.clock
    time = need(adapter, VirtualTime, "run_until_idle needs a queue that takes its time from the given clock")
    if not isinstance(clock, VirtualClock):
        raise TypeError(
            f"run_until_idle needs JobManager(..., clock=VirtualClock()), got {type(clock).__name__}"
        )
    if adapter in _running.get():
        raise KesselError("a job that run_until_idle runs cannot wait until its own queue is idle")
    # As for a worker, a text is one name, and not a sequence of letters.
    asked = None if queues is None else [queues] if isinstance(queues, str) else list(queues)
    token = _running.set((*_running.get(), adapter))
    try:
        return _run(manager, time, clock, asked, later(clock.now(), limit), limit, max_jobs)
    finally:
        _running.reset(token)


def _run(
    manager: JobManager,
    time: VirtualTime,
    clock: VirtualClock,
    asked: Sequence[str] | None,
    end: datetime,
    limit: timedelta,
    max_jobs: int,
) -> list[JobResult]:
    adapter = manager.adapter
    results: list[JobResult] = []
    while True:
        names = adapter.queues() if asked is None else asked
        if names and _run_ready(manager, names, results, max_jobs):
            continue  # a handler may have requested jobs in further queues
        change = time.next_change(names) if names else None
        if change is None:
            return results
        if change > end:
            raise NeverIdle(f"{limit}, the next job is due at {change.isoformat()}", results)
        clock.advance_to(change)


def _run_ready(manager: JobManager, names: Sequence[str], results: list[JobResult], max_jobs: int) -> bool:
    """Run the jobs that are ready; return whether there were any."""
    ran = False
    consumer = manager.adapter.consumer(names)
    try:
        while (reservation := consumer.reserve(NO_PAUSE)) is not None:
            if len(results) >= max_jobs:
                raise NeverIdle(f"{max_jobs} jobs", results)
            ran = True
            result = run_delivery(manager, reservation, consumer)
            # A lost job comes back when its lease ends; a job that was delivered too early was not run.
            if result is not None and result.reason is not Reason.TOO_EARLY:
                results.append(result)
        return ran
    finally:
        consumer.close()

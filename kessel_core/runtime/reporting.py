"""What a worker writes into the store beside its jobs: an entry about itself, progress of its jobs (S27).

One thread a worker, which waits for nobody and for which nobody waits: a store that is away is tried again,
and changes nothing about a job.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Final

import attrs

from kessel_core.clock import Clock
from kessel_core.contract.store import Store
from kessel_core.errors import AdapterError
from kessel_core.features.progress import Reports
from kessel_core.features.workers import remove_entry, write_entry
from kessel_core.model.ids import new_id
from kessel_core.model.readonly import read_only
from kessel_core.model.worker import ENTRY_EVERY, BusyJob, WorkerEntry, WorkerState
from kessel_core.runtime.descriptors import Descriptors
from kessel_core.runtime.lease import Lease
from kessel_core.runtime.stopping import StopSwitch
from kessel_core.runtime.threads import new_thread
from kessel_core.values.logs import get_logger
from kessel_core.wire.head import head_of

__all__ = ["ReportPlan", "Reporter", "busy_jobs"]

log = get_logger("kessel.worker")

#: The least time between two writes of the progress of a job, in seconds.
_PROGRESS_EVERY: Final = 1.0
#: How long it waits while no job reports anything and no entry is due, in seconds.
_NOTHING: Final = 3600.0
#: How many jobs an entry names.
_MOST_JOBS: Final = 100


@attrs.frozen(kw_only=True, eq=False)
class ReportPlan:
    """What a worker needs to know to report."""

    #: Where to.
    store: Store
    #: What its jobs report.
    reports: Reports
    #: The job types that it has handlers for.
    types: tuple[str, ...]
    #: Whether it writes an entry about itself.
    is_listed: bool = True


class Reporter:
    """Writes what a worker reports, from its start until every slot has ended or the grace period is over.

    Args:
        plan: What to report, and where to.
        queues: Names of the queues that the worker serves.
        slots: How many jobs it can run at the same time.
        leases: Returns the leases of the running jobs.
        counts: Returns the number of attempts by how they ended.
        disconnected: Returns how many slots cannot reach the queue.
        stop: Tells that the worker stops.
        is_over: Whether every slot has ended; called with `stop.changed` held.
        descriptors: Without them the store is not touched any more.
        clock: The application's clock.
        waits: Whether the first entry is written after ten seconds only: a worker that drains has mostly
            ended by then.
    """

    def __init__(
        self,
        plan: ReportPlan,
        *,
        queues: tuple[str, ...],
        slots: int,
        leases: Callable[[], Iterable[Lease]],
        counts: Callable[[], Mapping[str, int]],
        disconnected: Callable[[], int],
        stop: StopSwitch,
        is_over: Callable[[], bool],
        descriptors: Descriptors,
        clock: Clock,
        waits: bool,
    ) -> None:
        self._plan = plan
        self._queues = queues
        self._slots = slots
        self._leases = leases
        self._counts = counts
        self._disconnected = disconnected
        self._stop = stop
        self._is_over = is_over
        self._descriptors = descriptors
        self._clock = clock
        self._started_at = clock.now()
        self._id = new_id(self._started_at)
        #: When the next entry is due, on the monotonic clock.
        self._due = clock.monotonic() + (ENTRY_EVERY.total_seconds() if waits else 0.0)
        #: What the last entry says; None: there is none.
        self._state: WorkerState | None = None
        self._is_away = False
        #: An attempt has reported for the first time; guarded by `stop.changed`.
        self._is_told = False
        self._thread = new_thread(self._run, "kessel-reporter", clock)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait a moment until the entry is removed; a store that hangs is left to forget it by itself."""
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        self._plan.reports.begun.append(self._tell)
        try:
            while not self._has_ended():
                if self._plan.is_listed:
                    self._write_entry()
                leases = tuple(self._leases())
                for lease in leases:
                    self._plan.reports.write(lease)
                self._wait(any(lease.reported is not None for lease in leases))
        finally:
            self._plan.reports.begun.remove(self._tell)
        if self._state is not None:
            self._attempt(lambda: remove_entry(self._plan.store, self._id), "removed")

    def _wait(self, is_reporting: bool) -> None:
        """Wait until there may be something to write, or the end."""
        now = self._clock.monotonic()
        end = now + (_PROGRESS_EVERY if is_reporting else _NOTHING)
        if self._plan.is_listed:
            end = min(end, self._due)
        changed = self._stop.changed
        with changed:
            # Slots and leases notify it as well, which is no reason to write more often.
            while not self._has_ended() and not self._is_news():
                now = self._clock.monotonic()
                if self._is_told:
                    self._is_told, end = False, min(end, now + _PROGRESS_EVERY)
                if now >= end:
                    return
                self._clock.wait(changed, end - now)

    def _tell(self) -> None:
        with self._stop.changed:
            self._is_told = True
            self._stop.changed.notify_all()

    def _has_ended(self) -> bool:
        return self._is_over() or self._stop.is_overdue

    def _is_news(self) -> bool:
        """Whether the entry says that it runs, and it does not any more."""
        return self._stop.is_on and self._state is WorkerState.RUNNING

    def _write_entry(self) -> None:
        now = self._clock.monotonic()
        if now < self._due and not self._is_news():
            return
        self._due = now + ENTRY_EVERY.total_seconds()
        state = WorkerState.STOPPING if self._stop.is_on else WorkerState.RUNNING
        self._attempt(lambda: write_entry(self._plan.store, self._entry(state)), "written")
        self._state = state

    def _attempt(self, work: Callable[[], None], what: str) -> None:
        if not self._descriptors.check():
            return
        try:
            work()
        except Exception as exc:  # any, such as a store's own: it must not end the thread
            is_known = isinstance(exc, AdapterError)
            level = logging.DEBUG if self._is_away and is_known else logging.WARNING
            text = "the entry of this worker could not be %s: %s"
            log.log(level, text, what, exc, exc_info=None if is_known else exc)
            self._is_away = True
        else:
            self._is_away = False

    def _entry(self, state: WorkerState) -> WorkerEntry:
        now = self._clock.now()
        jobs = busy_jobs(self._leases(), self._clock)
        return WorkerEntry(
            id=self._id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=_version(),
            state=state,
            queues=self._queues,
            types=self._plan.types,
            slots=self._slots,
            busy=len(jobs),
            disconnected=self._disconnected(),
            jobs=jobs[:_MOST_JOBS],
            counts=read_only(self._counts()),
            started_at=self._started_at,
            seen_at=now,
        )


def busy_jobs(leases: Iterable[Lease], clock: Clock) -> tuple[BusyJob, ...]:
    """Return the jobs that are held, those that run longest first."""
    now, seconds = clock.now(), clock.monotonic()
    return tuple(_busy(lease, now, seconds) for lease in sorted(leases, key=lambda lease: lease.since))


def _busy(lease: Lease, now: datetime, seconds: float) -> BusyJob:
    reservation = lease.reservation
    # Read here and now, so that a job costs nothing for being listed.
    head = head_of(reservation.body)
    return BusyJob(
        id=reservation.id,
        type=head.type if head is not None else None,
        queue=reservation.queue,
        since=now - timedelta(seconds=seconds - lease.since),
    )


@cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("kessel-core")
    except PackageNotFoundError:  # it runs from its sources
        return ""

"""Makes the overviews of a live view: looks only, and at a bounded number of things.

What an adapter or a missing store cannot show is said by the name of the capability (S17). While a backend
is away its part of the picture stands, and says since when.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final, TypeVar

import attrs

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.facets import Buried, Delete, Facet, Pause
from kessel_core.contract.operations import QueueStats, StoredJob
from kessel_core.contract.promises import Reach
from kessel_core.contract.store import SET_A_STORE, Store
from kessel_core.errors import AdapterError
from kessel_core.features.finding import decoded
from kessel_core.features.overview import (
    Action,
    Away,
    BurialView,
    Overview,
    Part,
    QueueView,
    RunningView,
    Standing,
    WorkerView,
)
from kessel_core.features.progress import progress_of
from kessel_core.features.workers import listed_workers
from kessel_core.model.progress import Progress
from kessel_core.model.worker import BusyJob, WorkerEntry, WorkerState
from kessel_core.values.logs import get_logger
from kessel_core.values.raised import said
from kessel_core.values.secrets import without_secrets

__all__ = ["Overviews"]

log = get_logger("kessel.watching")

T = TypeVar("T")

#: How many of each are shown at most.
MOST_QUEUES: Final = 100
MOST_RUNNING: Final = 100
MOST_BURIALS: Final = 100
MOST_WORKERS: Final = 500
#: How many buried jobs are read to find the last ones: adapters list the oldest first.
MOST_READ: Final = 1_000
#: Seconds after which burials are read again although no count has changed.
_BURIALS_STAND: Final = 10.0
#: Rates are those of so many seconds; over less than the second number there is none.
_RATE_OVER: Final = 60.0
_RATE_LEAST: Final = 5.0


class Overviews:
    """Makes one picture after the other; one thread at a time.

    Args:
        adapter: Where the jobs are.
        store: Where workers and progress are; None: nowhere.
        clock: The application's clock.
        configured: Names of queues that are shown also while they are empty.
        only: Names of the queues that are shown; empty: those that are configured, and all others.
        no_store: Why there is no store.
        read_only: Whether every action is refused.
    """

    def __init__(
        self,
        adapter: QueueAdapter,
        store: Store | None,
        clock: Clock,
        *,
        configured: Sequence[str] = (),
        only: Sequence[str] = (),
        no_store: str = SET_A_STORE,
        read_only: bool = False,
    ) -> None:
        self._adapter = adapter
        self._store = store
        self._clock = clock
        self._configured = tuple(configured)
        self._only = tuple(dict.fromkeys(only))
        self._no_store = no_store
        self._refused = _refused(adapter, read_only)
        self._last = Overview(at=clock.now(), refused=self._refused)
        self._changes = _Rates()
        self._ended = _Rates()
        #: Of which counts the burials are, and until when they stand.
        self._burials_of: tuple[tuple[str, int], ...] | None = None
        self._burials_until = 0.0

    def look(self) -> Overview:
        """Return a picture of now; raises nothing, and changes nothing."""
        last, now = self._last, self._clock.now()
        queues = self._seen(last.queues, self._queues)
        # Whoever is away is not waited for twice.
        burials = (
            self._seen(last.burials, lambda: self._burials(queues.rows))
            if queues.away is None
            else attrs.evolve(last.burials, away=queues.away)
        )
        workers = self._seen(last.workers, lambda: self._workers(now))
        running = (
            self._seen(last.running, lambda: self._running(workers))
            if workers.away is None
            else attrs.evolve(last.running, away=workers.away)
        )
        served = tuple(_served(one, workers) for one in queues.rows)
        self._last = Overview(
            at=now,
            queues=attrs.evolve(queues, rows=served),
            running=running,
            burials=burials,
            workers=workers,
            refused=self._refused,
        )
        return self._last

    def _seen(self, last: Part[T], look: Callable[[], Part[T]]) -> Part[T]:
        """Return what a look finds, or what the last one found, with why it is that."""
        try:
            return look()
        except AdapterError as exc:
            why = str(exc)
        except Exception as exc:  # an adapter that fails in its own way must not end the view
            log.debug("could not be looked at", exc_info=True)
            why = said(exc)
        since = self._clock.now() if last.away is None else last.away.since
        return attrs.evolve(last, away=Away(since=since, why=without_secrets(why)))

    # --- the adapter ---------------------------------------------------------------------------

    def _queues(self) -> Part[QueueView]:
        names = self._only or tuple(dict.fromkeys([*self._configured, *self._adapter.queues()]))
        at = self._clock.monotonic()
        counts = [self._adapter.stats(name) for name in names[:MOST_QUEUES]]
        self._changes.keep(names[:MOST_QUEUES])
        rows = [QueueView(stats=one, change=self._changes.add(one.queue, at, one.total)) for one in counts]
        missing = [*self._not_counted(counts)]
        if (more := len(names) - len(rows)) > 0:
            missing.append(f"{more:,} more queues are not looked at: name those that you want to see")
        return Part(rows=tuple(rows), left_out=more, missing=tuple(missing))

    def _not_counted(self, counts: list[QueueStats]) -> Iterable[str]:
        name = self._adapter.name
        if not self._adapter.capabilities.counts:
            yield f"'counts' is missing: the numbers of the adapter {name!r} are not exact"
        if any(one.ready and one.oldest_ready is None for one in counts):
            yield f"'oldest_ready' is missing: the adapter {name!r} does not say how old ready jobs are"
        if self._adapter.facet(Pause) is None:
            yield f"'pause' is missing: the adapter {name!r} knows no pauses"

    def _burials(self, queues: Sequence[QueueView]) -> Part[BurialView]:
        facet = self._adapter.facet(Buried)
        if facet is None:
            why = f"'buried' is missing: the adapter {self._adapter.name!r} does not list buried jobs"
            return Part(missing=(why,))
        counts = tuple((one.stats.queue, one.stats.buried) for one in queues if one.stats.buried)
        now = self._clock.monotonic()
        if counts == self._burials_of and now < self._burials_until:
            return attrs.evolve(self._last.burials, away=None)
        left, found, missing = MOST_READ, list[StoredJob](), list[str]()
        for queue, count in counts:
            if count > left:
                missing.append(
                    f"{count:,} buried jobs of {queue} are too many to look for the last ones at each "
                    f"picture: kessel buried list --newest --queue {queue}"
                )
                continue
            left -= count
            found += deque(islice(facet.each_buried(queue), MOST_READ), maxlen=MOST_BURIALS)
        # Those of one moment in the order in which they were buried, too.
        found.reverse()
        found.sort(key=_burial, reverse=True)
        rows = tuple(map(_burial_view, found[:MOST_BURIALS]))
        self._burials_of, self._burials_until = counts, now + _BURIALS_STAND
        return Part(
            rows=rows,
            left_out=max(0, sum(count for _, count in counts) - len(rows)),
            missing=tuple(missing),
        )

    # --- the store -----------------------------------------------------------------------------

    def _workers(self, now: datetime) -> Part[WorkerView]:
        store = self._store
        if store is None:
            return Part(missing=(f"'store' is missing: workers are listed in one; {self._no_store}",))
        entries = [one for one in listed_workers(store) if self._is_meant(one.queues)]
        self._ended.keep([one.id for one in entries])
        rows = [
            WorkerView(
                entry=one,
                standing=_standing(one, now),
                rate=self._ended.add(one.id, one.seen_at.timestamp(), sum(one.counts.values())),
            )
            for one in entries
        ]
        missing: tuple[str, ...] = ()
        if store.capabilities.reach is Reach.PROCESS:
            missing = ("'reach' of this store is one process: entries of workers in others are not seen",)
        return Part(rows=tuple(rows[:MOST_WORKERS]), left_out=len(rows[MOST_WORKERS:]), missing=missing)

    def _running(self, workers: Part[WorkerView]) -> Part[RunningView]:
        store = self._store
        if store is None:
            return Part(missing=(f"'store' is missing: workers write there what they run; {self._no_store}",))
        found = [
            (job, worker)
            for worker in workers.rows
            for job in worker.entry.jobs
            if self._is_meant((job.queue,))
        ]
        found.sort(key=lambda one: one[0].since)
        rows = [
            RunningView(
                job=job,
                worker=worker.entry,
                progress=_progress(store, job),
                is_silent=worker.standing is Standing.SILENT,
            )
            for job, worker in found[:MOST_RUNNING]
        ]
        # An entry names a hundred of its jobs at most.
        unnamed = sum(max(0, one.entry.busy - len(one.entry.jobs)) for one in workers.rows)
        return Part(rows=tuple(rows), left_out=len(found) - len(rows) + unnamed)

    def _is_meant(self, queues: Iterable[str]) -> bool:
        return not self._only or any(name in self._only for name in queues)


class _Rates:
    """How fast numbers change a minute."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def add(self, name: str, at: float, number: int) -> float | None:
        """Take a number at a time in seconds; return its change a minute, over the last minute."""
        seen = self._seen.setdefault(name, deque())
        if not seen or at > seen[-1][0]:
            seen.append((at, number))
        while len(seen) > 2 and at - seen[1][0] >= _RATE_OVER:
            seen.popleft()
        (since, before), (until, after) = seen[0], seen[-1]
        if until - since < _RATE_LEAST:
            return None
        return (after - before) * 60.0 / (until - since)

    def keep(self, names: Iterable[str]) -> None:
        """Forget all others."""
        for name in self._seen.keys() - set(names):
            del self._seen[name]


def _refused(adapter: QueueAdapter, read_only: bool) -> Mapping[str, str]:
    if read_only:
        return dict.fromkeys(Action, "this view only looks (--read-only)")
    needed: dict[Action, type[Facet]] = {
        Action.PAUSE: Pause,
        Action.RESUME: Pause,
        Action.KICK: Buried,
        Action.DELETE: Delete,
    }
    return {
        action: f"'{kind.facet_name}' is missing: the adapter {adapter.name!r} does not declare it"
        for action, kind in needed.items()
        if adapter.facet(kind) is None
    }


def _served(queue: QueueView, workers: Part[WorkerView]) -> QueueView:
    """Return a queue with how many workers serve it, where that is known."""
    if workers.missing or workers.left_out or workers.away is not None:
        return attrs.evolve(queue, workers=None)
    name = queue.stats.queue
    serve = [one for one in workers.rows if name in one.entry.queues and one.standing is not Standing.SILENT]
    return attrs.evolve(queue, workers=len(serve))


def _standing(entry: WorkerEntry, now: datetime) -> Standing:
    if entry.is_silent(now):
        return Standing.SILENT
    if entry.state is WorkerState.STOPPING:
        return Standing.STOPPING
    if entry.disconnected:
        return Standing.DISCONNECTED
    return Standing.BUSY if entry.busy >= entry.slots else Standing.LIVE


def _burial(job: StoredJob) -> datetime:
    return job.buried_at or datetime.min.replace(tzinfo=UTC)


def _burial_view(job: StoredJob) -> BurialView:
    request = decoded(job)
    if request is None:
        return BurialView(job=job, type=None)
    return BurialView(job=job, type=request.type, ref=request.ref)


def _progress(store: Store, job: BusyJob) -> Progress | None:
    found = None if job.id is None else progress_of(store, job.id)
    # A report from before is that of an earlier attempt.
    return found if found is not None and found.at >= job.since else None

"""Looks at a job, its queue and the workers, and changes nothing: the facts of an explanation (S39).

The job is read first, and again at the end. What cannot be looked at is a fact, too, and never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

import attrs

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.facets import Find
from kessel_core.contract.operations import StoredJob
from kessel_core.contract.promises import Reach
from kessel_core.contract.store import SET_A_STORE, Store
from kessel_core.errors import KesselError
from kessel_core.features import results
from kessel_core.features.events import history_of, ids_begun
from kessel_core.features.explain import explained
from kessel_core.features.facts import Explanation, Facts, Unseen
from kessel_core.features.finding import LEAST_START, decoded, jobs_named, waiting_jobs
from kessel_core.features.progress import progress_of
from kessel_core.features.workers import listed_workers
from kessel_core.model.history import JobHistory
from kessel_core.model.outcome import Outcome
from kessel_core.model.progress import Progress
from kessel_core.model.states import JobState
from kessel_core.model.worker import WorkerEntry
from kessel_core.values.logs import get_logger
from kessel_core.values.raised import said
from kessel_core.wire.results import decode_outcome

__all__ = ["LOOKED_AT", "explain"]

log = get_logger("kessel.explain")

T = TypeVar("T")

#: How many jobs of a queue and state are looked at to find one, or its place, if nobody says otherwise.
LOOKED_AT: Final = 10_000
#: Ids that begin alike and are named.
_MATCHES: Final = 10


def explain(
    adapter: QueueAdapter,
    store: Store | None,
    job_id: str,
    *,
    clock: Clock,
    queues: Sequence[str] | None = None,
    limit: int = LOOKED_AT,
    timeout_of: Callable[[str], timedelta | None] = lambda _: None,
    no_store: str = SET_A_STORE,
) -> Explanation:
    """Say why a job does not run; raises nothing, and changes nothing.

    Args:
        adapter: Where the job may be.
        store: Where workers and results are; None: nowhere.
        job_id: The job's id, or its start of 8 characters at least, if no other job's begins so.
        clock: The application's clock.
        queues: Where it is looked for; None: in all queues.
        limit: How many jobs of a queue and state are looked at, at most.
        timeout_of: Returns how long the handler of a type may run, where that is known here.
        no_store: Why there is no store.
    """
    look = _Look(adapter, store, clock, limit, no_store)
    return explained(look.facts(job_id, queues, timeout_of))


class _Look:
    """One look: what it needs, and what it could not see."""

    def __init__(
        self, adapter: QueueAdapter, store: Store | None, clock: Clock, limit: int, no_store: str
    ) -> None:
        self._adapter = adapter
        self._store = store
        self._clock = clock
        self._limit = limit
        self._no_store = no_store
        self._unseen: list[Unseen] = []

    def facts(
        self, job_id: str, queues: Sequence[str] | None, timeout_of: Callable[[str], timedelta | None]
    ) -> Facts:
        names = queues if queues is not None else self._seen("the queues", self._adapter.queues)
        facts = self._found(job_id, names)
        job = facts.job
        if job is None:
            return attrs.evolve(
                facts,
                outcome=self._outcome_of(facts.id),
                history=self._history(facts.id),
                now=self._clock.now(),
                unseen=tuple(self._unseen),
            )
        request = decoded(job)
        waiting = self._waiting(job)
        ahead, is_more = self._ahead(job, waiting)
        facts = attrs.evolve(
            facts,
            request=request,
            stats=self._seen("the counts of its queue", lambda: self._adapter.stats(job.queue)),
            ahead=ahead,
            is_ahead_more=is_more,
            workers=self._workers(),
            history=self._history(job.id),
            progress=self._progress(job),
            timeout=None if request is None else self._seen("its handler", lambda: timeout_of(request.type)),
        )
        moved = self._moved(job)
        return attrs.evolve(facts, moved=moved, now=self._clock.now(), unseen=tuple(self._unseen))

    # --- the job -------------------------------------------------------------------------------

    def _found(self, job_id: str, queues: Sequence[str] | None) -> Facts:
        """Find the job by its id or by how its id begins."""
        facts = Facts(id=job_id, now=self._clock.now())
        found = None
        if queues is not None:
            found = self._seen("the job", lambda: jobs_named(self._adapter, queues, job_id, self._limit))
        if found is None:
            return attrs.evolve(facts, is_searched=False)
        whole, begun = found
        self._note_bound(whole, queues or ())
        if whole:
            return attrs.evolve(facts, id=whole[0].id, job=whole[0], others=tuple(whole[1:]))
        ids = {job.id for job in begun} | self._kept_ids(job_id)
        if job_id in ids:
            return facts
        if len(ids) > 1:
            return attrs.evolve(facts, matches=tuple(sorted(ids)))
        if begun:
            return attrs.evolve(facts, id=begun[0].id, job=begun[0], others=tuple(begun[1:]))
        return attrs.evolve(facts, id=ids.pop()) if ids else facts

    def _note_bound(self, whole: list[StoredJob], queues: Sequence[str]) -> None:
        """Say that not every job was looked at, where one must be looked for and was not found."""
        if whole:
            return
        for queue in queues:
            count = self._seen(f"the counts of the queue {queue!r}", partial(self._adapter.stats, queue))
            if count is None:
                return
            for state in JobState:
                there = getattr(count, state.value)
                if there > self._limit and self._adapter.facet(Find) is None:
                    what = f"{there - self._limit:,} {state.value} jobs of the queue {queue!r}"
                    self._miss(what, f"{self._limit:,} are looked at; --limit N looks at more")

    def _moved(self, job: StoredJob) -> str:
        """Return what has become of the job since it was read; "" if it is where it was."""
        look = partial(jobs_named, self._adapter, (job.queue,), job.id, self._limit)
        found = self._seen("the job once more", look)
        if found is None:
            return ""
        now, _ = found
        if not now:
            return f"it was {job.state}, and is gone"
        if now[0].state is not job.state:
            return f"it was {job.state}, and is {now[0].state}"
        if now[0].attempt != job.attempt or now[0].snoozes != job.snoozes:
            return "it was delivered meanwhile"
        return ""

    def _waiting(self, job: StoredJob) -> list[StoredJob] | None:
        if job.state is not JobState.READY:
            return None
        return self._seen("its place", lambda: waiting_jobs(self._adapter, job.queue, self._limit))

    def _ahead(self, job: StoredJob, waiting: list[StoredJob] | None) -> tuple[int | None, bool]:
        """Return how many jobs are delivered before it, and whether there are more."""
        if waiting is None:
            return None, False
        place = next((place for place, other in enumerate(waiting) if other.id == job.id), None)
        if place is not None:
            return place, False
        if len(waiting) < self._limit:  # it was taken meanwhile, which is said at the end
            return None, False
        return len(waiting), True

    # --- the store -----------------------------------------------------------------------------

    def _outcome_of(self, job_id: str) -> Outcome | None:
        store = self._store
        if store is None:
            self._miss("whether it has ended", f"there is no store: {self._no_store}")
            return None
        entry = self._seen("its result", lambda: store.get(results.SPACE, job_id)) if job_id else None
        return None if entry is None else self._seen("its result", lambda: decode_outcome(entry.value))

    def _kept_ids(self, start: str) -> set[str]:
        """Return ids of ended jobs that begin so."""
        store = self._store
        if store is None or len(start) < LEAST_START:
            return set()
        kept = self._seen("results", lambda: store.scan(results.SPACE, prefix=start, limit=_MATCHES))
        written = self._seen("histories", lambda: ids_begun(store, start, _MATCHES))
        return {entry.key for entry in kept or ()} | {*(written or ())}

    def _history(self, job_id: str) -> JobHistory | None:
        store = self._store
        if store is None or not job_id:
            return None
        found = self._seen("its history", lambda: history_of(store, job_id))
        return found if found is not None and found.events else None

    def _workers(self) -> tuple[WorkerEntry, ...] | None:
        store = self._store
        if store is None:
            self._miss("the workers", f"there is no store: {self._no_store}")
            return None
        is_alone = store.capabilities.reach is Reach.PROCESS
        if is_alone and self._adapter.capabilities.reach is not Reach.PROCESS:
            self._miss("the workers", f"their entries in this store are for one process only: {SET_A_STORE}")
            return None
        found = self._seen("the workers", lambda: listed_workers(store))
        return None if found is None else tuple(found)

    def _progress(self, job: StoredJob) -> Progress | None:
        store = self._store
        if store is None or job.state is not JobState.RESERVED:
            return None
        return self._seen("its progress", lambda: progress_of(store, job.id))

    # --- looking without failing ---------------------------------------------------------------

    def _miss(self, what: str, why: str) -> None:
        self._unseen.append(Unseen(what=what, why=why))

    def _seen(self, what: str, look: Callable[[], T]) -> T | None:
        try:
            return look()
        except KesselError as exc:
            self._miss(what, str(exc))
        except Exception as exc:  # an adapter that fails in its own way, or an id that it cannot take
            log.debug("%s could not be looked at", what, exc_info=True)
            self._miss(what, said(exc))
        return None

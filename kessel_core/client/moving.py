"""Moves waiting jobs from one adapter to another; an interruption loses none of them.

Jobs are moved in portions: stored in the target, counted there, and only then removed from the source. So a
target that says that it stored a job, and has not, loses nothing. What is in both when something goes wrong
is taken back from the target where that is possible, and named where it is not.

The number of calls grows as the number of jobs: what is listed and counted grows from portion to portion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import attrs

from kessel_core.client.pausing import Paused
from kessel_core.clock import SystemClock
from kessel_core.contract.adapter import QueueAdapter, need
from kessel_core.contract.facets import Browse, Delete, Pause
from kessel_core.contract.operations import StoredJob
from kessel_core.errors import (
    AdapterError,
    CapabilityMissing,
    ConfigError,
    DecodeError,
    EnqueueUnknown,
    IdHeld,
    UnknownJob,
)
from kessel_core.model.ids import new_id
from kessel_core.model.job import DEFAULT_PRIORITY
from kessel_core.model.message import Message
from kessel_core.model.states import JobState
from kessel_core.wire.requests import decode

__all__ = ["Moved", "move_jobs", "risks"]

#: Jobs of the largest portion: so many are in both at most, and so long the target delivers nothing.
_PORTION: Final = 256
#: Bytes of bodies that are listed at once, about; how much longer the next listing is at most.
_LISTED: Final = 64 * 1024 * 1024
_GROWTH: Final = 8
#: All jobs, where a listing needs a limit.
_ALL: Final = 2**31 - 1


@attrs.define
class Moved:
    """What a move has done so far; correct at any moment, even if it is interrupted."""

    #: How many jobs are in the target, and no longer in the source.
    count: int = 0
    #: How many stayed, because a worker of the source was faster; their copies were taken back.
    taken: int = 0
    #: Jobs that may run twice: they are in the target, and a worker of the source has them, or had them.
    double: list[str] = attrs.field(factory=list)
    #: Jobs that stay in the source: the target says that it holds their ids, and does not show these jobs.
    left: list[str] = attrs.field(factory=list)
    #: Jobs of the portion that is being moved, as they were stored in the target; while they are listed here
    #: they may be in both.
    pending: dict[str, Message] = attrs.field(factory=dict)


def risks(source: QueueAdapter, target: QueueAdapter) -> list[str]:
    """Return why a move between the two may run jobs twice, or lose some unnoticed; none if it cannot."""
    found: list[str] = []
    if source.facet(Pause) is None:
        found.append(
            f"the queues of {source.name!r} cannot be paused: a worker may take a job that is being moved, "
            "and it runs twice; stop its workers first"
        )
    if not target.capabilities.counts and target.facet(Browse) is None:
        found.append(
            f"{target.name!r} neither counts nor shows its jobs: nobody can check that it holds what it "
            "was given"
        )
    return found


def move_jobs(
    source: QueueAdapter,
    target: QueueAdapter,
    queues: Sequence[str],
    moved: Moved,
    progress: Callable[[Moved], None] = lambda _: None,
) -> None:
    """Move the ready and delayed jobs of some queues, with their ids, priorities, delays and expirations.

    Reserved and buried jobs stay, and attempts are counted from zero again. If the source can be paused, it
    delivers nothing during the move; if not, a job that one of its workers takes meanwhile is taken back from
    the target, or is named in `moved.double`. The first job that the target refuses ends the move; it and the
    rest stay. The target, if it can be paused, delivers nothing until a portion is counted and removed.

    Args:
        source: Where the jobs are; must have the facets `Browse` and `Delete`.
        target: Where they go.
        queues: Names of queues; they keep their names.
        moved: Updated during the move.
        progress: Called after each portion.

    Raises:
        CapabilityMissing: One of the two cannot do what the move needs; nothing was moved.
        ConfigError: Both are the same queue, so each job would be removed as its own copy; nothing was moved.
        AdapterError: One of the two failed, or the target does not hold what it said that it stored; `moved`
            says what was done before.
    """
    browse = need(source, Browse, "jobs cannot be moved away from it")
    removal = need(source, Delete, "jobs cannot be moved away from it")
    if target.capabilities.delay_granularity is None and any(
        browse.peek(queue, JobState.DELAYED) for queue in queues
    ):
        raise CapabilityMissing("delay_granularity", target.name, "delayed jobs cannot be moved to it")
    for queue in queues:
        with Paused(source, queue) as pause:
            can_tell = pause.is_there and target.facet(Pause) is not None
            if can_tell and pause.shows_in(target):
                raise ConfigError("source and target are the same: nothing is moved")
            _Move(source, target, queue, pause, moved, can_tell, browse, removal, progress).run()


@attrs.define
class _Move:
    """The move of one queue: both sides, the facets that it uses, and its progress."""

    source: QueueAdapter
    target: QueueAdapter
    queue: str
    pause: Paused
    moved: Moved
    #: Whether it is known that both are not the same queue.
    is_other: bool
    browse: Browse
    removal: Delete
    progress: Callable[[Moved], None]
    #: The job that a call is under way for: whatever interrupts it, where the job is then is not known.
    in_flight: str | None = None
    #: Ids of jobs that stay where they are.
    stays: set[str] = attrs.field(factory=set)
    #: How many jobs the next portion has.
    size: int = 1

    def run(self) -> None:
        """Move all jobs; ready ones once more at the end, because a delayed one may be ready by then."""
        for state in (JobState.READY, JobState.DELAYED, JobState.READY):
            self._all_of(state)

    def _all_of(self, state: JobState) -> None:
        """Move the jobs that are in this state."""
        limit = _PORTION
        while jobs := self._listed(state, limit):
            # More each time, as far as memory allows: a listing may look at every job of the queue.
            average = sum(len(job.body) for job in jobs) // len(jobs) + 1
            limit = max(_PORTION, min(_GROWTH * limit, _LISTED // average))
            while jobs:
                portion, jobs = jobs[: self.size], jobs[self.size :]
                self.size = min(_PORTION, 2 * self.size)
                self._portion(portion)
                self.progress(self.moved)

    def _listed(self, state: JobState, limit: int) -> list[StoredJob]:
        self.pause.renew()
        found = self.browse.peek(self.queue, state, limit + len(self.stays))
        return [job for job in found if job.id not in self.stays]

    def _portion(self, jobs: Sequence[StoredJob]) -> None:
        """Store jobs in the target, count them there, and remove them from the source."""
        with Paused(self.target, self.queue) as target_pause:
            pauses = (self.pause, target_pause)
            try:
                before, copies = self._held(), self._copies(jobs[0])
                there = self._stored(jobs, pauses)
                self._check(self._held(), before)
                if self._copies(jobs[0]) > copies:
                    raise ConfigError("source and target are the same: nothing is moved")
                self.is_other = self.is_other or bool(self.moved.pending)
                for job in there:
                    _renew(pauses)
                    self._remove(job)
            except BaseException:
                # Where a pause may have ended, a job that is not there any more may have run.
                self._take_back(is_surely_waiting=target_pause.has_held)
                raise

    # --- storing -------------------------------------------------------------------------------

    def _stored(self, jobs: Sequence[StoredJob], pauses: Sequence[Paused]) -> list[StoredJob]:
        """Store jobs; return those that are in the target then, now or since an interrupted move."""
        there: list[StoredJob] = []
        held: list[tuple[StoredJob, Message]] = []
        for job in jobs:
            _renew(pauses)
            message = _message(job, is_id_unique=self.source.capabilities.dedupe)
            self.in_flight = job.id
            self.moved.pending[job.id] = message
            try:
                self.target.enqueue(message)
            except IdHeld:
                del self.moved.pending[job.id]
                held.append((job, message))
            except EnqueueUnknown:
                raise
            except AdapterError:
                del self.moved.pending[job.id]  # surely not stored
                raise
            else:
                there.append(job)
            self.in_flight = None
        return there + self._shown(held)

    def _shown(self, held: Sequence[tuple[StoredJob, Message]]) -> list[StoredJob]:
        """Return those jobs that the target really has under the ids that it says it holds."""
        look = self.target.facet(Browse)
        shown: set[tuple[str, bytes]] = set()
        # A queue that may be the source itself would show every job.
        if held and look is not None and self.is_other:
            shown = {(job.id, job.body) for state in JobState for job in look.peek(self.queue, state, _ALL)}
        there = [job for job, message in held if (message.id, job.body) in shown]
        left = [job.id for job, message in held if (message.id, job.body) not in shown]
        self.stays.update(left)
        self.moved.left += left
        return there

    def _held(self) -> int | None:
        """Return how many waiting jobs the target holds; None if nobody can tell."""
        look = self.target.facet(Browse)
        if self.target.capabilities.counts:
            counted = self.target.stats(self.queue)
            return counted.ready + counted.delayed
        if look is None:
            return None
        return sum(len(look.peek(self.queue, state, _ALL)) for state in (JobState.READY, JobState.DELAYED))

    def _check(self, held: int | None, before: int | None) -> None:
        """Compare what the target holds with what it said that it stored."""
        said = len(self.moved.pending)
        if held is None or before is None or held - before >= said:
            return
        raise AdapterError(
            f"{self.target.name!r} says that it stored {said:,} in the queue {self.queue!r}, and holds "
            f"{held - before:,} more than before: they stay where they are; does it take ids of jobs that "
            "are gone for held, or does a worker take its jobs meanwhile?"
        )

    def _copies(self, job: StoredJob) -> int:
        """Count the jobs of the source that look like this one; 0 once it is known that both differ."""
        if self.is_other:
            return 0
        return sum(shown.body == job.body for shown in self.browse.peek(self.queue, job.state, _ALL))

    # --- removing ------------------------------------------------------------------------------

    def _remove(self, job: StoredJob) -> None:
        self.in_flight = job.id
        try:
            self.removal.delete_shown(job)
        except UnknownJob:
            self._mend(job)
        else:
            self.moved.count += 1
        self.moved.pending.pop(job.id, None)
        self.in_flight = None

    def _mend(self, job: StoredJob) -> None:
        """Take back the copy of a job that a worker of the source has taken meanwhile."""
        self.stays.add(job.id)  # should it come back
        facet = self.target.facet(Delete)
        # What an earlier move has stored may be somebody else's by now.
        copy = self.moved.pending.get(job.id)
        if facet is not None and copy is not None:
            try:
                facet.delete(self.queue, copy.id)
            except UnknownJob:
                pass  # a worker of the target has it
            else:
                self.moved.taken += 1
                return
        self.moved.double.append(job.id)

    def _take_back(self, *, is_surely_waiting: bool) -> None:
        """Remove from the target what was stored there and not yet removed from the source.

        Not what a call was under way for: it may be gone from the source already. Whatever stays in
        `moved.pending` may be in both.
        """
        facet = self.target.facet(Delete)
        if facet is None:
            return
        with suppress(AdapterError):
            for job_id, copy in list(self.moved.pending.items()):
                if job_id == self.in_flight:
                    continue
                try:
                    facet.delete(self.queue, copy.id)
                except UnknownJob:
                    if not is_surely_waiting:
                        continue  # a worker of the target may have it
                del self.moved.pending[job_id]


def _renew(pauses: Sequence[Paused]) -> None:
    for pause in pauses:
        pause.renew()


def _message(job: StoredJob, *, is_id_unique: bool) -> Message:
    # The source has named a job without an id, perhaps by a number that another server uses as well; the
    # target would take the second such job for a duplicate, and store nothing.
    own_id = job.id if is_id_unique else new_id(SystemClock().now())
    try:
        request = decode(job.body)
    except DecodeError:
        # Not for a move to decide: it is moved as it is, and a worker will bury it (S13).
        return Message(own_id, job.queue, job.body, _or_default(job.priority), job.due)
    priority = request.priority if job.priority is None else job.priority
    return Message(request.id or own_id, job.queue, job.body, priority, job.due, request.expires_at)


def _or_default(priority: int | None) -> int:
    return DEFAULT_PRIORITY if priority is None else priority

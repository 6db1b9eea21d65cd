"""What must hold at each event of a simulation.

The ledger sees what the queue really did, also where the answer was lost. It keeps a small model of each job
beside it, and compares every event with that. It knows nothing of how adapters or workers do their work.
A little more than 350 lines, because every rule reads the same model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from kessel_core.contract.facets import Find
from kessel_core.contract.messages import Reservation
from kessel_core.contract.promises import Capabilities
from kessel_core.errors import DecodeError
from kessel_core.model.callbacks import is_function, parsed_callback
from kessel_core.model.job import Job
from kessel_core.model.message import Message
from kessel_core.model.settlement import Bury, Commit, Settlement, Snooze
from kessel_core.model.states import JobState
from kessel_core.testing.simulation.history import History, Violation
from kessel_core.testing.simulation.strands import Strands
from kessel_core.wire.requests import decode

__all__ = ["Known", "Ledger"]

#: How late a job may be before it counts as forgotten; virtual.
SLACK: Final = timedelta(milliseconds=1)
_NOISE: Final = 1e-6
_ZERO: Final = timedelta(0)


@attrs.define(eq=False)
class Known:
    """What the ledger knows of one job."""

    message: Message
    #: None: its body is not a request.
    job: Job | None
    #: The earliest moment of its next delivery, on the wall clock; None: at once.
    ready_at: datetime | None
    #: Who holds it.
    holder: Reservation | None = None
    #: Deliveries that count, and those that were snoozed.
    deliveries: int = 0
    snoozes: int = 0
    kicks: int = 0
    #: How often its handler was started since it was stored or kicked.
    runs: int = 0
    #: How it ended: `committed`, `buried`, `deleted`; None: it has not.
    end: str | None = None
    #: The ids of the jobs that tell how it ended.
    told: set[str] = attrs.Factory(set)


class Ledger:
    """Records and checks; used by whoever has the turn.

    Args:
        clock: The clock, and who has the turn.
        promises: What the queue promises.
        find: Asks the queue itself, where what it does is its own choice; None: it cannot be asked.
        most_attempts: How many attempts a type of job has.
        is_kept: Whether the outcome of a job is in the store; None: outcomes are not kept.
    """

    def __init__(
        self,
        clock: Strands,
        promises: Capabilities,
        find: Find | None,
        most_attempts: Callable[[str], int],
        is_kept: Callable[[str], bool] | None,
    ) -> None:
        self._clock = clock
        self._promises = promises
        self._find = find
        self._most_attempts = most_attempts
        self._is_kept = is_kept
        self._granularity = promises.delay_granularity or _ZERO
        self._latest = clock.now()
        self.history = History(clock)
        self.jobs: dict[str, Known] = {}
        #: Those that have not ended.
        self.open: dict[str, Known] = {}
        #: Until when queues are paused, in time since the start.
        self._paused: dict[str, timedelta] = {}
        #: How often each promise was checked.
        self.checks: Counter[str] = Counter()
        #: How many runs of handlers, deaths, faults, jumps and stops there were.
        self.counts: Counter[str] = Counter()
        #: Deaths while a job was due, since the last one was settled.
        self.in_vain = 0
        #: The first that was found.
        self.violation: Violation | None = None

    def note(self, what: str, job: str = "", detail: str = "") -> None:
        """Write a line of the history."""
        self.history.note(what, job, detail)
        self._latest = max(self._latest, self._clock.now())

    # --- what the queue did --------------------------------------------------------------------

    def stored(self, message: Message, *, how: str = "enqueue") -> None:
        """A job was stored."""
        try:
            job = decode(message.body)
        except DecodeError:
            job = None
        delay = (
            "" if message.delay is None else f" in {(message.delay - self._clock.now()).total_seconds():g} s"
        )
        self.note(how, message.id, f"{'?' if job is None else job.type}{delay}")
        known = self.jobs.get(message.id)
        if known is not None and known.end is None:
            return self._check(
                "S14", not self._promises.dedupe, f"job {message.id} was stored twice", message.id
            )
        self.jobs[message.id] = self.open[message.id] = Known(message, job, message.delay)
        if job is not None:
            self._note_told(job)
        return None

    def _note_told(self, job: Job) -> None:
        """Take note of a job that tells how another one ended (S22)."""
        for told_of in _told_of(job.payload):
            known = self.jobs.get(told_of)
            if known is None or _told_by(known.job) != job.type:
                continue
            known.told.add(job.id)
            self._check(
                "S22",
                len(known.told) <= 1 + known.kicks,
                f"the end of job {told_of} is told by {len(known.told)} jobs",
                told_of,
                job.id,
            )

    def delivered(self, reservation: Reservation, queues: tuple[str, ...]) -> None:
        """A job was delivered to a slot that serves some queues."""
        job_id = str(reservation.id)
        self.note("delivered", job_id, f"attempt {reservation.attempt}")
        known = self.jobs.get(job_id)
        if known is None:
            return self._check("S16", False, f"job {job_id} was delivered and never stored", job_id)
        now = self._clock.monotonic()
        self._check("S16", reservation.body == known.message.body, f"job {job_id} has another body", job_id)
        self._check("S9", known.end is None, f"job {job_id} was delivered after it was {known.end}", job_id)
        held = known.holder
        is_free = held is None or (held.deadline is not None and held.deadline <= now + _NOISE)
        self._check("S7", is_free, f"job {job_id} was delivered while its lease still held", job_id)
        due = known.ready_at
        early = (
            held is None
            and due is not None
            and due - self._granularity > max(self._latest, self._clock.now())
        )
        self._check("S4", not early, f"job {job_id} was delivered before {due}", job_id)
        known.deliveries += 1
        if self._promises.attempts is not None:
            self._check(
                "S10",
                reservation.attempt == known.deliveries,
                f"delivery {known.deliveries} of job {job_id} is called attempt {reservation.attempt}",
                job_id,
            )
        known.holder, known.ready_at = reservation, None
        if self._promises.priorities is not None:
            self._check_order(known, queues)
        return None

    def _check_order(self, taken: Known, queues: tuple[str, ...]) -> None:
        """Check that no job was passed over that is ready, and more urgent (S6)."""
        now, priority = self._clock.now(), taken.message.priority
        for job_id, known in self.open.items():
            message = known.message
            if message.priority >= priority or known.holder is not None or message.queue not in queues:
                continue
            if (known.ready_at is None or known.ready_at <= now) and not self._is_paused(message.queue):
                text = f"job {taken.message.id} was delivered before {job_id}, which is more urgent"
                self._check("S6", False, text, taken.message.id, job_id)
        self.checks["S6"] += 1

    def _is_paused(self, queue: str) -> bool:
        return queue in self._paused and self._clock.passed < self._paused[queue]

    def settled(self, reservation: Reservation, settlement: Settlement) -> None:
        """The queue accepted a settlement."""
        self.in_vain = 0
        job_id, kind = str(reservation.id), type(settlement).__name__.lower()
        self.note(kind, job_id, settlement.reason if isinstance(settlement, Bury) else "")
        known = self.jobs[job_id]
        is_holder = known.holder is reservation
        self._check("S7", is_holder, f"job {job_id} was settled by one who did not hold it", job_id)
        if isinstance(settlement, (Commit, Bury)):
            for message in settlement.follow:
                if message.id not in self.open:
                    self.stored(message, how="stored with it")
            return self._ended(known, isinstance(settlement, Bury))
        if isinstance(settlement, Snooze):
            known.deliveries -= 1
            known.snoozes += 1
        return self._released(known, settlement.pause)

    def _ended(self, known: Known, is_buried: bool) -> None:
        job_id = known.message.id
        known.end, known.holder = "buried" if is_buried else "committed", None
        self.open.pop(job_id, None)
        if _told_by(known.job) is not None:
            what = f"job {job_id} was {known.end}, and no job that tells so was stored"
            self._check("S22", len(known.told) == 1 + known.kicks, what, job_id)
        if self._is_kept is not None and known.job is not None:
            what = f"job {job_id} was {known.end}, and its outcome is not in the store"
            self._check("S25", self._is_kept(job_id), what, job_id)

    def asked(self, job_id: str, ids: Iterable[str]) -> None:
        """A job was committed that had asked for others (S20)."""
        for one in ids:
            self._check(
                "S20", one in self.jobs, f"job {job_id} was committed, its follow-up {one} is lost", job_id
            )

    def _released(self, known: Known, pause: timedelta = _ZERO) -> None:
        known.holder = None
        known.ready_at = self._clock.now() + pause if pause > _ZERO else None

    def refused(self, reservation: Reservation, what: str) -> None:
        """The queue said that a lease is lost."""
        job_id = str(reservation.id)
        self.note(f"{what}: lease lost", job_id)
        holds = self.jobs[job_id].holder is reservation
        lasts = reservation.deadline is None or reservation.deadline > self._clock.monotonic() + _NOISE
        self._check(
            "S7", not (holds and lasts), f"{what} of job {job_id} was refused while it was held", job_id
        )

    def given_back(self, reservation: Reservation) -> None:
        """A worker that stops gave a job back (S21)."""
        known = self.jobs[str(reservation.id)]
        self.note("given back", known.message.id)
        known.deliveries -= 1
        known.snoozes += 1
        self._released(known)

    def dropped(self, reservation: Reservation) -> None:
        """A consumer was closed; the queue may give back at once what it held last."""
        known = self.jobs[str(reservation.id)]
        there = self._find.find(known.message.id) if self._find is not None else None
        if known.holder is reservation and there is not None and there.state is JobState.READY:
            self.note("dropped", known.message.id)
            self._released(known)

    def kicked(self, job_id: str) -> None:
        """A buried job was made ready again."""
        self.note("kick", job_id)
        known = self.jobs[job_id]
        known.end, known.ready_at = None, None
        known.deliveries = known.snoozes = known.runs = 0
        known.kicks += 1
        self.open[job_id] = known

    def deleted(self, job_id: str) -> None:
        """A job was removed by an operator."""
        self.note("delete", job_id)
        self.jobs[job_id].end = "deleted"
        self.open.pop(job_id, None)

    def purged(self, queue: str) -> None:
        """All jobs of a queue were removed that nobody held."""
        for job_id, known in self.jobs.items():
            if known.message.queue == queue and known.holder is None:
                known.end = "deleted"
                self.open.pop(job_id, None)

    def paused(self, queue: str, duration: timedelta) -> None:
        """An operator paused a queue."""
        self.note("pause", detail=f"{queue} for {duration.total_seconds():g} s")
        self._paused[queue] = self._clock.passed + duration + SLACK

    # --- what a worker did ---------------------------------------------------------------------

    def started(self, job: Job, attempt: int) -> None:
        """A handler is about to run."""
        self.note("runs", job.id, f"{job.type}, attempt {attempt}")
        self.counts["runs"] += 1
        now, known = self._clock.now(), self.jobs.get(job.id)
        if known is None:
            return
        early = job.not_before is not None and now < job.not_before
        self._check("S4", not early, f"job {job.id} runs before {job.not_before}", job.id)
        late = job.expires_at is not None and now >= job.expires_at
        self._check("S5", not late, f"job {job.id} runs at or after its expiration", job.id)
        most = self._most_attempts(job.type)
        known.runs += 1
        text = f"job {job.id} runs for the {known.runs}th time, as attempt {attempt}, and {most} are allowed"
        self._check("S10", attempt <= most and known.runs <= most + known.snoozes, text, job.id)

    def died(self, process: int, place: int, job: str, where: str) -> None:
        """A process has died, as a place of this number wants."""
        self.note(f"PROCESS {process} DIES [{place}]", job, where)
        self.counts["deaths"] += 1
        self.in_vain += any(map(self._is_due, self.open.values()))

    def unforeseen(self, error: BaseException) -> None:
        """A worker met an error that must not be, and went on."""
        self._check("unexpected error", False, f"{type(error).__name__}: {error}")

    # --- while nobody can go on ------------------------------------------------------------------

    def next_due(self, awaited: Container[str]) -> timedelta | None:
        """Check that nobody sleeps beside a job that is due; return how long until the next one is.

        Args:
            awaited: The queues for whose jobs somebody waits, and is woken.
        """
        find = self._find
        nearest: timedelta | None = None
        for job_id, known in self.open.items():
            if known.message.queue not in awaited or self._is_paused(known.message.queue):
                continue
            left = self._due_in(known)
            if left is None:
                continue
            if left > _ZERO:
                nearest = left if nearest is None else min(nearest, left)
                continue
            there = find.find(job_id) if find is not None else None
            if find is not None and (there is None or there.state is JobState.BURIED):
                self._check("S9", False, f"job {job_id} is lost: it is due, and the queue has it not", job_id)
            elif there is None or there.state is JobState.READY:
                self._check("liveness", False, f"job {job_id} is ready, and a slot sleeps beside it", job_id)
        self.checks["liveness"] += 1
        return nearest

    def _is_due(self, known: Known) -> bool:
        left = self._due_in(known)
        return left is not None and left <= _ZERO and not self._is_paused(known.message.queue)

    def _due_in(self, known: Known) -> timedelta | None:
        """Return the time until a job should be taken; None: never by itself."""
        if known.holder is not None:
            deadline = known.holder.deadline
            if deadline is None:
                return None
            return timedelta(seconds=deadline - self._clock.monotonic()) + SLACK
        if known.ready_at is None:
            return _ZERO
        return known.ready_at - self._clock.now() + self._granularity + SLACK

    def at_rest(self) -> None:
        """Compare what the queue holds with what it should hold (S9)."""
        find = self._find
        if find is None:
            return
        for job_id, known in self.jobs.items():
            there = find.find(job_id)
            state = None if there is None else there.state
            if known.end in ("committed", "deleted"):
                right = state is None
            elif known.end == "buried":
                right = state is JobState.BURIED
            else:
                right = state is not None and state is not JobState.BURIED
            self._check(
                "S9", right, f"job {job_id} is {known.end or 'not done'}, and the queue says {state}", job_id
            )

    def _check(self, clause: str, holds: bool, text: str, *jobs: str) -> None:
        self.checks[clause] += 1
        if not holds and self.violation is None:
            self.note(f"VIOLATION {clause}", jobs[0] if jobs else "", text)
            self.violation = Violation(clause, text, jobs)


def _told_by(job: Job | None) -> str | None:
    """Return the type of the job that tells how this one ended; None: no job does (S22)."""
    if job is None or job.callback is None or is_function(job.callback):
        return None
    return parsed_callback(job.callback).type


def _told_of(payload: Any) -> Iterator[str]:
    """Yield the id of the job whose outcome a payload holds."""
    if isinstance(payload, Mapping):
        for fields in (payload, payload.get("outcome")):
            if isinstance(fields, Mapping) and "status" in fields and isinstance(fields.get("id"), str):
                yield fields["id"]

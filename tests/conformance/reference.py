"""A small, correct adapter whose every rule is one method, so that a mutant is one changed method."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import SplitResult

import attrs
from kessel_conformance import Harness
from kessel_memory.entries import Entries, MemoryStore

from kessel_core import (
    AdapterUnavailable,
    Clock,
    EnqueueRejected,
    IdHeld,
    InvalidConfig,
    LeaseLost,
    Problem,
    ProtocolError,
    UnknownJob,
)
from kessel_core.contract import (
    AdapterContext,
    AdapterSpec,
    Attempts,
    Browse,
    Buried,
    Bury,
    Capabilities,
    Commit,
    Consumer,
    Delete,
    Durability,
    Find,
    JobState,
    LeaseReturn,
    Message,
    Pause,
    QueueAdapter,
    QueueStats,
    Reach,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
    Store,
    StoredJob,
    TieBreak,
    VirtualTime,
    url_options,
)

LEASE = 10.0
LIMIT = 65_536
MICRO = timedelta(microseconds=1)
#: What survives the adapter: namespace -> its jobs.
DISKS: dict[str, Disk] = {}


@attrs.define(eq=False)
class Record:
    message: Message
    number: int
    ready_at: float
    body: bytes
    priority: int
    #: READY until its time has come, too; None: gone.
    state: JobState | None = JobState.READY
    token: int = 0
    attempts: int = 0
    snoozes: int = 0
    kicks: int = 0
    reason: str = ""
    text: str = ""
    buried_number: int = 0
    enqueued_at: float = 0.0
    buried_at: float = 0.0


@attrs.define(eq=False, slots=False)  # mutants add to it
class Disk:
    records: list[Record] = attrs.field(factory=list)
    entries: Entries | None = None
    counter: int = 0
    paused: dict[str, float] = attrs.field(factory=dict)
    #: Guards everything.
    guard: threading.RLock = attrs.field(factory=threading.RLock)
    #: Who waits for a job waits on it.
    changed: threading.Condition = attrs.field(
        default=attrs.Factory(lambda self: threading.Condition(self.guard), takes_self=True)
    )


@attrs.define(eq=False)
class Held(Reservation):
    token: int = 0
    record: Record | None = None


class Reference(Browse, Buried, Delete, Find, Pause, VirtualTime, QueueAdapter):
    # Not on `BaseAdapter`: its own checks would stand before the rules that mutants change.
    name = "reference"
    #: How long it waits for an answer.
    patience = timedelta(seconds=5)

    def __init__(self, namespace: str, context: AdapterContext) -> None:
        self.clock = context.clock
        self.closed = False
        self.disk = DISKS.setdefault(namespace, Disk())
        self.lock = self.disk.changed
        if self.disk.entries is None:
            self.disk.entries = Entries(self.clock, self.disk.guard)
        self.store = MemoryStore(self.disk.entries)

    def facet(self, kind: Any) -> Any:
        return self.store if kind is Store else super().facet(kind)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            reach=Reach.HOST,
            durability=Durability.PROCESS_CRASH,
            delay_granularity=timedelta(milliseconds=1),
            longest_delay=timedelta(days=3650),
            priorities=(0, 4294967295),
            tie_break=TieBreak.ENQUEUED,
            max_body_bytes=LIMIT,
            lease=timedelta(seconds=LEASE),
            lease_return=LeaseReturn.AT_ONCE,
            fencing=True,
            attempts=Attempts.DURABLE,
            dedupe=True,
            follow=True,
            kicks=True,
            counts=True,
            blocking_reserve=True,
        )

    # --- one rule a method: what mutants change ------------------------------------------------

    def now(self) -> float:
        return self.clock.now().timestamp()

    def announce(self, what: str) -> None:
        """Wake those who wait, because of an enqueue, a batch, a rollback, and so on."""
        self.disk.changed.notify_all()

    def same_queue(self, known: str, asked: str) -> bool:
        return known == asked

    def same_id(self, known: str, asked: str) -> bool:
        return known == asked

    def due(self, moment: datetime) -> float:
        return moment.timestamp()

    def at_once(self) -> float:
        """When a job without a delay is ready: whatever the clock will say."""
        return 0.0

    def pause_ends(self, pause: timedelta) -> float:
        return self.now() + pause.total_seconds() if pause else self.at_once()

    def queue_pause_ends(self, queue: str, pause: timedelta) -> float:
        return self.pause_ends(pause) if pause else self.now()

    def snooze_ends(self, pause: timedelta) -> float:
        return self.pause_ends(pause)

    def snoozes_shown(self, record: Record) -> int:
        return record.snoozes

    def stored_body(self, body: bytes) -> bytes:
        return body

    def stored_priority(self, priority: int) -> int:
        return priority

    def priority_after(self, record: Record, what: str) -> int:
        return record.priority

    def is_ready(self, record: Record) -> bool:
        return record.ready_at <= self.now()

    def order(self, record: Record) -> tuple[object, ...]:
        return (record.priority, record.number)

    def shown_order(self, state: JobState) -> Callable[[Record], tuple[object, ...]]:
        return self.order if state is JobState.READY else lambda record: (record.ready_at, record.number)

    def lease_ends(self) -> float:
        return self.now() + LEASE

    def lease_extended(self, record: Record) -> float:
        return self.lease_ends()

    def deadline_extended(self, held: Reservation) -> float | None:
        return self.local_deadline()

    def local_deadline(self) -> float | None:
        return self.clock.monotonic() + LEASE

    def is_over(self, record: Record) -> bool:
        return record.ready_at <= self.now()

    def is_late(self, held: Held) -> bool:
        return held.deadline is not None and self.clock.monotonic() >= held.deadline

    def is_stale(self, held: Held) -> bool:
        record = held.record
        return record is None or record.state is not JobState.RESERVED or record.token != held.token

    def is_too_large(self, message: Message) -> bool:
        return len(message.body) > LIMIT

    def is_too_far(self, message: Message) -> bool:
        return message.delay is not None and message.delay - self.clock.now() > timedelta(days=3650)

    def is_known(self, message: Message) -> bool:
        return any(r.message.id == message.id for r in self.disk.records)

    def enqueued_at(self, message: Message) -> float:
        return self.now()

    def attempts_after(self, record: Record) -> int:
        return record.attempts + 1

    def attempts_snoozed(self, record: Record) -> int:
        return record.attempts - 1

    def snoozes_after(self, record: Record) -> int:
        return record.snoozes + 1

    def is_refused(self, message: Message) -> bool:
        return self.is_too_large(message)

    def checked(self, settlement: Commit | Bury) -> None:
        for message in settlement.follow:
            if self.is_refused(message):
                raise EnqueueRejected(message.id, "too large", "too-large")

    def followed(self, settlement: Commit | Bury) -> None:
        for message in settlement.follow:
            if not self.is_known(message):
                self.enqueue(message)

    def kept_entries(self, settlement: Commit | Bury) -> None:
        for put in settlement.puts:
            self.store.put(put.space, put.key, put.value, ttl=put.ttl)

    def kicks_after(self, record: Record) -> int:
        return record.kicks + 1

    def attempts_kicked(self, record: Record) -> int:
        return 0

    def can_kick(self, record: Record) -> bool:
        return record.state is JobState.BURIED

    def can_delete(self, record: Record) -> bool:
        return record.state is not JobState.RESERVED

    def removes(self, record: Record) -> None:
        self.disk.records.remove(record)

    def released(self, record: Record) -> None:
        record.state = JobState.READY

    def reason_of(self, settlement: Bury) -> str:
        return settlement.reason

    def is_paused(self, queue: str) -> bool:
        return self.disk.paused.get(queue, 0.0) > self.now()

    def is_held_back(self, record: Record) -> bool:
        return self.is_paused(record.message.queue)

    def watched(self, queue: str, queues: Sequence[str]) -> bool:
        return any(self.same_queue(queue, one) for one in queues)

    def given_up(self, record: Record) -> None:
        record.state, record.ready_at = JobState.READY, self.now()
        with self.lock:
            self.announce("close")

    def reopened(self) -> None:
        """What is lost when the adapter closes: nothing."""

    def restarted(self) -> None:
        """What is lost when the server is restarted: nothing."""

    @classmethod
    def admitted(cls, password: str | None) -> None:
        if password is not None:
            raise ProtocolError("it knows no passwords")

    @classmethod
    def sensible(cls, patience: timedelta) -> None:
        if patience <= timedelta(0):
            raise InvalidConfig([Problem(("patience",), "expected more than zero")])

    @classmethod
    def url_options(cls, url: SplitResult) -> Mapping[str, Any]:
        return url_options(url)

    # --- the adapter ---------------------------------------------------------------------------

    def tick(self) -> None:
        for record in self.disk.records:
            if record.state is JobState.RESERVED and self.is_over(record):
                record.state, record.token = JobState.READY, record.token + 1

    def enqueue(self, message: Message) -> None:
        with self.lock:
            self.refuse_if_closed()
            if self.patience <= timedelta(0):
                raise AdapterUnavailable(f"no answer within {self.patience}")
            if self.is_too_large(message):
                raise EnqueueRejected(message.id, "too large", "too-large")
            if self.is_too_far(message):
                raise EnqueueRejected(message.id, "too far", "out-of-range")
            if self.is_known(message):
                record = next((r for r in self.disk.records if r.message.id == message.id), None)
                if record is None:
                    raise IdHeld(message.id, "ready")
                self.tick()
                late = record.state is JobState.READY and not self.is_ready(record)
                raise IdHeld(message.id, str(JobState.DELAYED if late else record.state))
            self.disk.counter += 1
            ready_at = self.at_once() if message.delay is None else self.due(message.delay)
            self.disk.records.append(
                Record(
                    message,
                    self.disk.counter,
                    ready_at,
                    self.stored_body(message.body),
                    self.stored_priority(message.priority),
                    enqueued_at=self.enqueued_at(message),
                )
            )
            self.announce("enqueue")

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        self.refuse_if_closed()
        return Slot(self, queues)

    def give_back(self, reservation: Reservation) -> None:
        self.settle(reservation, Snooze())

    def holds(self, reservation: Reservation, settlement: Settlement) -> Record:
        return self.record_of(reservation)

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        with self.lock:
            record = self.holds(reservation, settlement)
            if isinstance(settlement, (Commit, Bury)):
                self.checked(settlement)
            match settlement:
                case Commit():
                    self.removes(record)
                    record.state = None
                    self.brings(settlement)
                case Rollback(pause):
                    self.released(record)
                    record.ready_at = self.pause_ends(pause)
                    record.priority = self.priority_after(record, "rollback")
                    self.announce("rollback")
                case Snooze(pause):
                    self.released(record)
                    record.ready_at = self.snooze_ends(pause)
                    record.priority = self.priority_after(record, "snooze")
                    record.attempts, record.snoozes = (
                        self.attempts_snoozed(record),
                        self.snoozes_after(record),
                    )
                    self.announce("snooze")
                case Bury(message=text):
                    self.disk.counter += 1
                    record.state, record.buried_number = JobState.BURIED, self.disk.counter
                    record.buried_at = self.now()
                    record.reason, record.text = self.reason_of(settlement), text
                    record.priority = self.priority_after(record, "bury")
                    self.brings(settlement)

    def brings(self, settlement: Commit | Bury) -> None:
        self.followed(settlement)
        self.kept_entries(settlement)

    def renew(self, reservation: Reservation) -> None:
        with self.lock:
            deadline = self.deadline_extended(reservation)
            record = self.record_of(reservation)
            record.ready_at = self.lease_extended(record)
            reservation.deadline = deadline

    def record_of(self, reservation: Reservation) -> Record:
        assert isinstance(reservation, Held)
        self.tick()
        if self.is_late(reservation) or self.is_stale(reservation) or reservation.record is None:
            raise LeaseLost(reservation.id, "it ended")
        return reservation.record

    def take(self, queues: Sequence[str]) -> Held | None:
        with self.lock:
            deadline = self.local_deadline()
            self.tick()
            ready = [
                r
                for r in self.disk.records
                if self.watched(r.message.queue, queues)
                and r.state is JobState.READY
                and self.is_ready(r)
                and not self.is_held_back(r)
            ]
            if not ready:
                return None
            record = min(ready, key=self.order)
            record.state, record.ready_at = JobState.RESERVED, self.lease_ends()
            record.token, record.attempts = record.token + 1, self.attempts_after(record)
            return Held(
                record.message.id,
                record.message.queue,
                record.body,
                record.attempts,
                deadline,
                timedelta(seconds=LEASE),
                self.snoozes_shown(record),
                kicks=record.kicks,
                token=record.token,
                record=record,
            )

    def of(self, queue: str, *states: JobState) -> list[Record]:
        self.tick()
        found = (r for r in self.disk.records if self.same_queue(r.message.queue, queue))
        return [r for r in found if r.state in states]

    def queues(self) -> list[str]:
        with self.lock:
            return sorted({r.message.queue for r in self.disk.records})

    def rest_of_pause(self, queue: str) -> float:
        return self.disk.paused.get(queue, 0.0) - self.now()

    def stats(self, queue: str) -> QueueStats:
        with self.lock:
            waiting = self.of(queue, JobState.READY)
            ready = sum(r.ready_at <= self.now() for r in waiting)
            rest = self.rest_of_pause(queue)
            return QueueStats(
                queue=queue,
                ready=ready,
                delayed=len(waiting) - ready,
                reserved=len(self.of(queue, JobState.RESERVED)),
                buried=len(self.of(queue, JobState.BURIED)),
                paused=timedelta(seconds=rest) if rest > 0 else None,
                oldest_ready=self.oldest_ready(waiting),
            )

    def oldest_ready(self, waiting: list[Record]) -> timedelta | None:
        now = self.now()
        ready = sorted((r for r in waiting if r.ready_at <= now), key=self.order)
        return self.ready_for(ready[0], now) if ready else None

    def ready_for(self, record: Record, now: float) -> timedelta:
        return timedelta(seconds=max(now - max(record.ready_at, record.enqueued_at), 0.0))

    def stored(self, record: Record, state: JobState) -> StoredJob:
        return StoredJob(
            id=record.message.id,
            queue=record.message.queue,
            state=state,
            body=record.body,
            priority=record.priority,
            attempt=record.attempts,
            snoozes=record.snoozes,
            enqueued_at=_moment(record.enqueued_at),
            due=_moment(record.ready_at) if state in (JobState.DELAYED, JobState.RESERVED) else None,
            reason=record.reason or None,
            message=record.text or None,
            buried_at=_moment(record.buried_at) if state is JobState.BURIED else None,
        )

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        with self.lock:
            if state is JobState.BURIED:
                return self.buried(queue, limit)
            if state is JobState.RESERVED:
                found = self.of(queue, JobState.RESERVED)
            else:
                found = [
                    r
                    for r in self.of(queue, JobState.READY)
                    if (r.ready_at <= self.now()) == (state is JobState.READY)
                ]
            return [self.stored(r, state) for r in sorted(found, key=self.shown_order(state))[:limit]]

    def is_sought(self, job: StoredJob, job_id: str) -> bool:
        return job.id == job_id

    def find(self, job_id: str) -> StoredJob | None:
        with self.lock:
            jobs = (job for q in self.queues() for state in JobState for job in self.peek(q, state, 10**6))
            return next((job for job in jobs if self.is_sought(job, job_id)), None)

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        with self.lock:
            found = sorted(self.of(queue, JobState.BURIED), key=lambda r: r.buried_number)
            return [self.stored(r, JobState.BURIED) for r in found[:limit]]

    def kick(self, queue: str, job_id: str) -> None:
        with self.lock:
            for record in self.of(queue, JobState.BURIED, JobState.READY):
                if self.same_id(record.message.id, job_id) and self.can_kick(record):
                    record.state, record.ready_at = JobState.READY, self.at_once()
                    record.kicks = self.kicks_after(record)
                    record.reason = record.text = ""
                    record.attempts, record.priority = (
                        self.attempts_kicked(record),
                        self.priority_after(record, "kick"),
                    )
                    self.announce("kick")
                    return
            raise UnknownJob(job_id, queue)

    def delete(self, queue: str, job_id: str) -> None:
        with self.lock:
            for record in self.of(queue, JobState.BURIED, JobState.READY, JobState.RESERVED):
                if self.same_id(record.message.id, job_id) and self.can_delete(record):
                    self.disk.records.remove(record)
                    return
            raise UnknownJob(job_id, queue)

    def record_named(self, job_id: str) -> Record:
        return next(record for record in self.disk.records if record.message.id == job_id)

    def purge(self, queue: str) -> int:
        with self.lock:
            gone = self.of(queue, JobState.BURIED, JobState.READY)
            for record in gone:
                self.disk.records.remove(record)
            return len(gone)

    def pause(self, queue: str, duration: timedelta) -> None:
        with self.lock:
            self.disk.paused[queue] = self.queue_pause_ends(queue, duration)
            self.announce("pause")

    def next_change(self, queues: Sequence[str]) -> datetime | None:
        with self.lock:
            now = self.now()
            times = [
                max(r.ready_at, self.disk.paused.get(r.message.queue, 0.0))
                for r in self.disk.records
                if self.watched(r.message.queue, queues) and r.state is not JobState.BURIED
            ]
            coming = [moment for moment in times if moment > now]
            return _moment(min(coming), MICRO) if coming else None

    def refuse_if_closed(self) -> None:
        if self.closed:
            raise AdapterUnavailable("the adapter is closed")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.reopened()


def _moment(seconds: float, more: timedelta = timedelta(0)) -> datetime:
    """Return a time of the disk, which is not beyond the last that can be told."""
    try:
        return datetime.fromtimestamp(seconds, UTC) + more
    except (OverflowError, ValueError):
        return datetime.max.replace(tzinfo=UTC)


class Slot(Consumer):
    def __init__(self, adapter: Reference, queues: tuple[str, ...]) -> None:
        self.adapter = adapter
        self.queues = queues
        self.held: Held | None = None
        self.cancelled = False

    def reserve(self, timeout: timedelta) -> Reservation | None:
        adapter = self.adapter
        end = adapter.clock.monotonic() + timeout.total_seconds()
        with adapter.lock:
            while not self.cancelled:
                self.held = adapter.take(self.queues)
                left = end - adapter.clock.monotonic()
                if self.held is not None or left <= 0:
                    return self.held
                adapter.clock.wait(adapter.disk.changed, min(left, self.until_change()))
        return None

    def until_change(self) -> float:
        """How long it may sleep, if nobody wakes it."""
        change = self.adapter.next_change(self.queues)
        return 3600.0 if change is None else max(0.001, (change - self.adapter.clock.now()).total_seconds())

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        self.adapter.settle(reservation, settlement)
        self.held = None

    def extend(self, reservation: Reservation) -> None:
        self.adapter.renew(reservation)

    def cancel(self) -> None:
        self.cancelled = True
        with self.adapter.lock:
            self.adapter.announce("cancel")

    def close(self) -> None:
        with self.adapter.lock:
            self.cancelled = True
            self.adapter.tick()
            if (
                self.held is not None
                and not self.adapter.is_stale(self.held)
                and self.held.record is not None
            ):
                self.adapter.given_up(self.held.record)
            self.held = None


@attrs.frozen
class Options:
    path: str = ""
    host: str = ""
    username: str | None = None
    password: str | None = None
    patience: timedelta = Reference.patience


def spec_of(kind: type[Reference]) -> AdapterSpec:
    def opened(options: Options, context: AdapterContext) -> Reference:
        kind.admitted(options.password)
        kind.sensible(options.patience)
        adapter = kind(options.path, context)
        adapter.patience = options.patience
        return adapter

    return AdapterSpec(
        name="reference",
        schemes=("reference",),
        options=Options,
        open=opened,
        from_url=kind.url_options,
    )


class ReferenceHarness(Harness):
    """As if the reference had a server: its disks."""

    def __init__(self, kind: type[Reference]) -> None:
        refused = "reference://guard:sesame-street@host/{namespace}"
        super().__init__(spec_of(kind), url="reference:///{namespace}", refused_url=refused)
        self.opened: Reference | None = None

    def open(self, clock: Clock, namespace: str) -> QueueAdapter:
        self.opened = super().open(clock, namespace)
        return self.opened

    def restart(self) -> None:
        assert self.opened is not None
        # The connections of all holders are lost with it, and `lease_return` is at once.
        for record in self.opened.disk.records:
            if record.state is JobState.RESERVED:
                record.token += 1
                self.opened.given_up(record)
        self.opened.restarted()

    def purge(self, namespace: str) -> None:
        DISKS.pop(f"/{namespace}", None)

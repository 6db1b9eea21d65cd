"""A small, correct adapter whose every rule is one method, so that a mutant is one changed method."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import SplitResult

import attrs
from kessel_conformance import Harness

from kessel_core import AdapterUnavailable, Clock, EnqueueRejected, IdHeld, LeaseLost, UnknownJob
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
    JobState,
    LeaseReturn,
    Message,
    Pause,
    QueueAdapter,
    QueueStats,
    Reach,
    Reservation,
    Results,
    Rollback,
    Settlement,
    Snooze,
    StoredJob,
    TieBreak,
    VirtualTime,
    url_options,
)

LEASE = 10.0
LIMIT = 65_536
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
    reason: str = ""
    text: str = ""
    buried_number: int = 0


@attrs.define(eq=False)
class Disk:
    records: list[Record] = attrs.field(factory=list)
    results: dict[str, bytes] = attrs.field(factory=dict)
    counter: int = 0
    paused: dict[str, float] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Held(Reservation):
    token: int = 0
    record: Record | None = None


class Reference(Browse, Buried, Delete, Pause, VirtualTime, Results, QueueAdapter):
    # Not on `BaseAdapter`: its own checks would stand before the rules that mutants change.
    name = "reference"

    def __init__(self, namespace: str, context: AdapterContext) -> None:
        self.clock = context.clock
        self.lock = threading.RLock()
        self.closed = False
        self.disk = DISKS.setdefault(namespace, Disk())

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
            counts=True,
            blocking_reserve=True,
        )

    # --- one rule a method: what mutants change ------------------------------------------------

    def now(self) -> float:
        return self.clock.now().timestamp()

    def due(self, moment: datetime) -> float:
        return moment.timestamp()

    def pause_ends(self, pause: timedelta) -> float:
        return self.now() + pause.total_seconds()

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

    def attempts_after(self, record: Record) -> int:
        return record.attempts + 1

    def attempts_snoozed(self, record: Record) -> int:
        return record.attempts - 1

    def snoozes_after(self, record: Record) -> int:
        return record.snoozes + 1

    def kept_result(self, record: Record, result: bytes | None) -> None:
        if result is not None:
            self.disk.results[record.message.id] = result

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

    def watched(self, queue: str, queues: Sequence[str]) -> bool:
        return queue in queues

    def given_up(self, record: Record) -> None:
        record.state, record.ready_at = JobState.READY, self.now()

    def reopened(self) -> None:
        """What is lost when the adapter closes: nothing."""

    def restarted(self) -> None:
        """What is lost when the server is restarted: nothing."""

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
            if self.is_too_large(message):
                raise EnqueueRejected(message.id, "too large", "too-large")
            if self.is_too_far(message):
                raise EnqueueRejected(message.id, "too far", "out-of-range")
            if self.is_known(message):
                record = next(r for r in self.disk.records if r.message.id == message.id)
                late = record.state is JobState.READY and not self.is_ready(record)
                raise IdHeld(message.id, str(JobState.DELAYED if late else record.state))
            self.disk.counter += 1
            ready_at = self.now() if message.delay is None else self.due(message.delay)
            self.disk.records.append(
                Record(
                    message,
                    self.disk.counter,
                    ready_at,
                    self.stored_body(message.body),
                    self.stored_priority(message.priority),
                )
            )

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        self.refuse_if_closed()
        return Slot(self, queues)

    def give_back(self, reservation: Reservation) -> None:
        self.settle(reservation, Snooze())

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        with self.lock:
            record = self.record_of(reservation)
            match settlement:
                case Commit(result):
                    self.kept_result(record, result)
                    self.removes(record)
                    record.state = None
                case Rollback(pause):
                    self.released(record)
                    record.ready_at = self.pause_ends(pause)
                    record.priority = self.priority_after(record, "rollback")
                case Snooze(pause):
                    self.released(record)
                    record.ready_at = self.snooze_ends(pause)
                    record.priority = self.priority_after(record, "snooze")
                    record.attempts, record.snoozes = (
                        self.attempts_snoozed(record),
                        self.snoozes_after(record),
                    )
                case Bury(message=text, result=result):
                    self.disk.counter += 1
                    self.kept_result(record, result)
                    record.state, record.buried_number = JobState.BURIED, self.disk.counter
                    record.reason, record.text = self.reason_of(settlement), text
                    record.priority = self.priority_after(record, "bury")

    def renew(self, reservation: Reservation) -> None:
        with self.lock:
            self.record_of(reservation).ready_at = self.lease_ends()
            reservation.deadline = self.deadline_extended(reservation)

    def record_of(self, reservation: Reservation) -> Record:
        assert isinstance(reservation, Held)
        self.tick()
        if self.is_late(reservation) or self.is_stale(reservation) or reservation.record is None:
            raise LeaseLost(reservation.id, "it ended")
        return reservation.record

    def take(self, queues: Sequence[str]) -> Held | None:
        with self.lock:
            self.tick()
            ready = [
                r
                for r in self.disk.records
                if self.watched(r.message.queue, queues)
                and r.state is JobState.READY
                and self.is_ready(r)
                and not self.is_paused(r.message.queue)
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
                self.local_deadline(),
                timedelta(seconds=LEASE),
                self.snoozes_shown(record),
                token=record.token,
                record=record,
            )

    def of(self, queue: str, *states: JobState) -> list[Record]:
        self.tick()
        return [r for r in self.disk.records if r.message.queue == queue and r.state in states]

    def queues(self) -> list[str]:
        with self.lock:
            return sorted({r.message.queue for r in self.disk.records})

    def stats(self, queue: str) -> QueueStats:
        with self.lock:
            waiting = self.of(queue, JobState.READY)
            ready = sum(r.ready_at <= self.now() for r in waiting)
            rest = self.disk.paused.get(queue, 0.0) - self.now()
            return QueueStats(
                queue=queue,
                ready=ready,
                delayed=len(waiting) - ready,
                reserved=len(self.of(queue, JobState.RESERVED)),
                buried=len(self.of(queue, JobState.BURIED)),
                paused=timedelta(seconds=rest) if rest > 0 else None,
            )

    def stored(self, record: Record, state: JobState) -> StoredJob:
        return StoredJob(
            id=record.message.id,
            queue=record.message.queue,
            state=state,
            body=record.body,
            attempt=record.attempts,
            snoozes=record.snoozes,
            reason=record.reason or None,
            message=record.text or None,
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

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        with self.lock:
            found = sorted(self.of(queue, JobState.BURIED), key=lambda r: r.buried_number)
            return [self.stored(r, JobState.BURIED) for r in found[:limit]]

    def kick(self, queue: str, job_id: str) -> None:
        with self.lock:
            for record in self.of(queue, JobState.BURIED, JobState.READY):
                if record.message.id == job_id and self.can_kick(record):
                    record.state, record.ready_at = JobState.READY, self.now()
                    record.attempts, record.priority = (
                        self.attempts_kicked(record),
                        self.priority_after(record, "kick"),
                    )
                    return
            raise UnknownJob(job_id, queue)

    def delete(self, queue: str, job_id: str) -> None:
        with self.lock:
            for record in self.of(queue, JobState.BURIED, JobState.READY, JobState.RESERVED):
                if record.message.id == job_id and self.can_delete(record):
                    self.disk.records.remove(record)
                    return
            raise UnknownJob(job_id, queue)

    def purge(self, queue: str) -> int:
        with self.lock:
            gone = self.of(queue, JobState.BURIED, JobState.READY)
            for record in gone:
                self.disk.records.remove(record)
            return len(gone)

    def pause(self, queue: str, duration: timedelta) -> None:
        with self.lock:
            self.disk.paused[queue] = self.pause_ends(duration)

    def next_change(self, queues: Sequence[str]) -> datetime | None:
        with self.lock:
            times = [
                r.ready_at
                for r in self.disk.records
                if r.message.queue in queues and r.ready_at > self.now() and r.state is not JobState.BURIED
            ]
            now = self.clock.now()
            return (
                now + timedelta(seconds=min(times) - now.timestamp()) + timedelta(microseconds=1)
                if times
                else None
            )

    def result(self, job_id: str) -> bytes | None:
        with self.lock:
            return self.disk.results.get(job_id)

    def refuse_if_closed(self) -> None:
        if self.closed:
            raise AdapterUnavailable("the adapter is closed")

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.reopened()


class Slot(Consumer):
    def __init__(self, adapter: Reference, queues: tuple[str, ...]) -> None:
        self.adapter = adapter
        self.queues = queues
        self.held: Held | None = None
        self.cancelled = False

    def reserve(self, timeout: timedelta) -> Reservation | None:
        end = self.adapter.now() + timeout.total_seconds()
        condition, pause = threading.Condition(), 0.01
        while not self.cancelled:
            self.held = self.adapter.take(self.queues)
            left = end - self.adapter.now()
            if self.held is not None or left <= 0:
                return self.held
            with condition:
                self.adapter.clock.wait(condition, min(left, pause))
            pause = min(2 * pause, 0.25)
        return None

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        self.adapter.settle(reservation, settlement)
        self.held = None

    def extend(self, reservation: Reservation) -> None:
        self.adapter.renew(reservation)

    def cancel(self) -> None:
        self.cancelled = True

    def close(self) -> None:
        with self.adapter.lock:
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


def spec_of(kind: type[Reference]) -> AdapterSpec:
    return AdapterSpec(
        name="reference",
        schemes=("reference",),
        options=Options,
        open=lambda options, context: kind(options.path, context),
        from_url=kind.url_options,
    )


class ReferenceHarness(Harness):
    """As if the reference had a server: its disks."""

    def __init__(self, kind: type[Reference]) -> None:
        super().__init__(spec_of(kind), url="reference:///{namespace}")
        self.opened: Reference | None = None

    def open(self, clock: Clock, namespace: str) -> QueueAdapter:
        self.opened = super().open(clock, namespace)
        return self.opened

    def restart(self) -> None:
        assert self.opened is not None
        self.opened.restarted()

    def purge(self, namespace: str) -> None:
        DISKS.pop(f"/{namespace}", None)

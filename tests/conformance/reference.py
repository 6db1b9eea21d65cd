"""A small, correct adapter whose every rule is one method, so that a mutant is one changed method."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import SplitResult

import attrs
from kessel_conformance import Harness

from kessel_core import Clock, EnqueueRejected, LeaseLost, UnknownJob
from kessel_core.contract import (
    AdapterContext,
    AdapterSpec,
    Attempts,
    Bury,
    Capabilities,
    Commit,
    Consumer,
    Durability,
    JobState,
    LeaseReturn,
    Message,
    QueueAdapter,
    QueueStats,
    Reach,
    Reservation,
    Rollback,
    Settlement,
    StoredJob,
    TieBreak,
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
    state: str = "waiting"
    token: int = 0
    attempts: int = 0
    reason: str = ""
    text: str = ""
    buried_number: int = 0


@attrs.define(eq=False)
class Disk:
    records: list[Record] = attrs.field(factory=list)
    counter: int = 0
    paused: dict[str, float] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Held(Reservation):
    token: int = 0
    record: Record | None = None


class Reference(QueueAdapter):
    name = "reference"

    def __init__(self, namespace: str, context: AdapterContext) -> None:
        self.clock = context.clock
        self.lock = threading.RLock()
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
            buried=True,
            counts=True,
            peek=True,
            delete=True,
            pause=True,
            virtual_clock=True,
            blocking_reserve=True,
            results=True,
        )

    # --- one rule a method: what mutants change ------------------------------------------------

    def now(self) -> float:
        return self.clock.now().timestamp()

    def due(self, moment: datetime) -> float:
        return moment.timestamp()

    def pause_ends(self, pause: timedelta) -> float:
        return self.now() + pause.total_seconds()

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

    def local_deadline(self) -> float | None:
        return self.clock.monotonic() + LEASE

    def is_over(self, record: Record) -> bool:
        return record.ready_at <= self.now()

    def is_late(self, held: Held) -> bool:
        return held.deadline is not None and self.clock.monotonic() >= held.deadline

    def is_stale(self, held: Held) -> bool:
        record = held.record
        return record is None or record.state != "reserved" or record.token != held.token

    def is_too_large(self, message: Message) -> bool:
        return len(message.body) > LIMIT

    def is_too_far(self, message: Message) -> bool:
        return message.delay is not None and message.delay - self.clock.now() > timedelta(days=3650)

    def is_known(self, message: Message) -> bool:
        return any(r.message.id == message.id for r in self.disk.records)

    def attempts_after(self, record: Record) -> int:
        return record.attempts + 1

    def attempts_kicked(self, record: Record) -> int:
        return 0

    def can_kick(self, record: Record) -> bool:
        return record.state == "buried"

    def can_delete(self, record: Record) -> bool:
        return record.state != "reserved"

    def removes(self, record: Record) -> None:
        self.disk.records.remove(record)

    def released(self, record: Record) -> None:
        record.state = "waiting"

    def reason_of(self, settlement: Bury) -> str:
        return settlement.reason

    def is_paused(self, queue: str) -> bool:
        return self.disk.paused.get(queue, 0.0) > self.now()

    def watched(self, queue: str, queues: Sequence[str]) -> bool:
        return queue in queues

    def given_up(self, record: Record) -> None:
        record.state, record.ready_at = "waiting", self.now()

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
            if record.state == "reserved" and self.is_over(record):
                record.state, record.token = "waiting", record.token + 1

    def enqueue(self, message: Message) -> None:
        with self.lock:
            if self.is_too_large(message):
                raise EnqueueRejected(message.id, "too large", "too-large")
            if self.is_too_far(message):
                raise EnqueueRejected(message.id, "too far", "out-of-range")
            if self.is_known(message):
                return
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

    def consumer(self, queues: Sequence[str]) -> Consumer:
        return Slot(self, tuple(queues))

    def take(self, queues: Sequence[str]) -> Held | None:
        with self.lock:
            self.tick()
            ready = [
                r
                for r in self.disk.records
                if self.watched(r.message.queue, queues)
                and r.state == "waiting"
                and self.is_ready(r)
                and not self.is_paused(r.message.queue)
            ]
            if not ready:
                return None
            record = min(ready, key=self.order)
            record.state, record.ready_at = "reserved", self.lease_ends()
            record.token, record.attempts = record.token + 1, self.attempts_after(record)
            return Held(
                record.message.id,
                record.message.queue,
                record.body,
                record.attempts,
                self.local_deadline(),
                record.token,
                record,
            )

    def of(self, queue: str, *states: str) -> list[Record]:
        self.tick()
        return [r for r in self.disk.records if r.message.queue == queue and r.state in states]

    def queues(self) -> list[str]:
        with self.lock:
            return sorted({r.message.queue for r in self.disk.records})

    def stats(self, queue: str) -> QueueStats:
        with self.lock:
            waiting = self.of(queue, "waiting")
            ready = sum(r.ready_at <= self.now() for r in waiting)
            rest = self.disk.paused.get(queue, 0.0) - self.now()
            return QueueStats(
                queue=queue,
                ready=ready,
                delayed=len(waiting) - ready,
                reserved=len(self.of(queue, "reserved")),
                buried=len(self.of(queue, "buried")),
                paused=timedelta(seconds=rest) if rest > 0 else None,
            )

    def stored(self, record: Record, state: JobState) -> StoredJob:
        return StoredJob(
            id=record.message.id,
            queue=record.message.queue,
            state=state,
            body=record.body,
            reason=record.reason or None,
            message=record.text or None,
        )

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        with self.lock:
            if state is JobState.BURIED:
                return self.buried(queue, limit)
            if state is JobState.RESERVED:
                found = self.of(queue, "reserved")
            else:
                found = [
                    r
                    for r in self.of(queue, "waiting")
                    if (r.ready_at <= self.now()) == (state is JobState.READY)
                ]
            return [self.stored(r, state) for r in sorted(found, key=self.shown_order(state))[:limit]]

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        with self.lock:
            found = sorted(self.of(queue, "buried"), key=lambda r: r.buried_number)
            return [self.stored(r, JobState.BURIED) for r in found[:limit]]

    def kick(self, queue: str, job_id: str) -> None:
        with self.lock:
            for record in self.of(queue, "buried", "waiting"):
                if record.message.id == job_id and self.can_kick(record):
                    record.state, record.ready_at = "waiting", self.now()
                    record.attempts, record.priority = (
                        self.attempts_kicked(record),
                        self.priority_after(record, "kick"),
                    )
                    return
            raise UnknownJob(job_id, queue)

    def delete(self, queue: str, job_id: str) -> None:
        with self.lock:
            for record in self.of(queue, "buried", "waiting", "reserved"):
                if record.message.id == job_id and self.can_delete(record):
                    self.disk.records.remove(record)
                    return
            raise UnknownJob(job_id, queue)

    def purge(self, queue: str) -> int:
        with self.lock:
            gone = self.of(queue, "buried", "waiting")
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
                if r.message.queue in queues and r.ready_at > self.now() and r.state != "buried"
            ]
            now = self.clock.now()
            return (
                now + timedelta(seconds=min(times) - now.timestamp()) + timedelta(microseconds=1)
                if times
                else None
            )

    def close(self) -> None:
        self.reopened()


class Slot(Consumer):
    def __init__(self, adapter: Reference, queues: tuple[str, ...]) -> None:
        self.adapter = adapter
        self.queues = queues
        self.held: Held | None = None
        self.cancelled = False

    def reserve(self, timeout: timedelta) -> Reservation | None:
        end = self.adapter.now() + timeout.total_seconds()
        condition = threading.Condition()
        while not self.cancelled:
            self.held = self.adapter.take(self.queues)
            left = end - self.adapter.now()
            if self.held is not None or left <= 0:
                return self.held
            with condition:
                self.adapter.clock.wait(condition, min(left, 0.01))
        return None

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        assert isinstance(reservation, Held)
        a, record = self.adapter, reservation.record
        with a.lock:
            a.tick()
            if a.is_late(reservation) or a.is_stale(reservation) or record is None:
                raise LeaseLost(reservation.id, "it ended")
            self.held = None
            match settlement:
                case Commit():
                    a.removes(record)
                    record.state = "gone"
                case Rollback(pause=pause):
                    a.released(record)
                    record.ready_at, record.priority = (
                        a.pause_ends(pause),
                        a.priority_after(record, "rollback"),
                    )
                case Bury(message=text):
                    a.disk.counter += 1
                    record.state, record.buried_number = "buried", a.disk.counter
                    record.reason, record.text, record.priority = (
                        a.reason_of(settlement),
                        text,
                        a.priority_after(record, "bury"),
                    )

    def extend(self, reservation: Reservation) -> None:
        assert isinstance(reservation, Held)
        a = self.adapter
        with a.lock:
            a.tick()
            if a.is_late(reservation) or a.is_stale(reservation) or reservation.record is None:
                raise LeaseLost(reservation.id, "it ended")
            reservation.record.ready_at = a.lease_ends()
            reservation.deadline = a.local_deadline()

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

"""What a case works with: one adapter, its clock, and calls that are written into the history."""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from string import ascii_uppercase
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar

from kessel_conformance.harness import Harness
from kessel_conformance.history import History, Violation, deed, shown
from kessel_conformance.stepclock import StepClock
from kessel_core import AdapterError, Clock, JobRequest, KesselError, LeaseLost, SystemClock
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Browse,
    Buried,
    Capabilities,
    Consumer,
    Delete,
    Facet,
    FacetKind,
    JobState,
    Message,
    QueueAdapter,
    QueueStats,
    Reservation,
    Rollback,
    Settlement,
    StoredJob,
    need,
)

if TYPE_CHECKING:
    from kessel_conformance.runner import Settings
    from kessel_core import JobManager, JsonValue

__all__ = ["Bench", "move"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
F = TypeVar("F", bound=Facet)

MICRO = timedelta(microseconds=1)
_ID: Final = re.compile(rb'"id":"([^"]+)"')


def move(harness: Harness, clock: Clock, span: timedelta) -> None:
    """Let time pass on a virtual or a real clock."""
    if isinstance(clock, StepClock):
        clock.advance(span)
    else:
        harness.sleep(span.total_seconds())


class Bench:
    """One adapter under one case; a context manager that cleans up.

    Attributes:
        harness: Where the adapter comes from.
        clock: The adapter's clock.
        namespace: Part of every queue's name, new for every case.
        queue: The queue that calls use when they name none.
        random: Seeded, so that a run can be repeated.
        settings: What the person who runs the suite chose; None outside a run.
    """

    def __init__(
        self,
        harness: Harness,
        clauses: Sequence[str] = ("S9",),
        seed: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self.harness = harness
        self.clock = clock or harness.clock()
        self.namespace = harness.namespace()
        self.queue = self.queue_named("main")
        self.random = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        self.seed = seed
        self.clause = clauses[0]
        self.settings: Settings | None = None
        self.history = History(self.clock)
        self._queues = {self.queue}
        self._consumers: list[Consumer] = []
        self._labels = itertools.count(1)
        #: Labels by the hash of the body, and by id where the body is not known.
        self._names: dict[int, str] = {}
        self._ids: dict[str, str] = {}
        #: Names of consumers, by identity.
        self._workers: dict[int, str] = {}
        self._adapter: QueueAdapter | None = None

    def __enter__(self) -> Self:
        self._adapter = self.harness.open(self.clock, self.namespace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._clean()
        except Exception:
            # What broke the case says more than what broke while cleaning up after it.
            if exc is None:
                raise

    def _clean(self) -> None:
        for consumer in self._consumers:
            consumer.close()
        if self._adapter is not None:
            try:
                for queue in self._queues:
                    self._adapter.purge(queue)
            finally:
                self._adapter.close()
        self.harness.purge(self.namespace)

    # --- facts -------------------------------------------------------------------------------

    @property
    def adapter(self) -> QueueAdapter:
        """The open adapter."""
        assert self._adapter is not None
        return self._adapter

    @property
    def capabilities(self) -> Capabilities:
        """What it declares."""
        return self.harness.capabilities

    @property
    def grain(self) -> timedelta:
        """The declared granularity of delays, zero if there is none."""
        return self.capabilities.delay_granularity or NO_PAUSE

    @property
    def lease(self) -> timedelta:
        """The declared lease."""
        assert self.capabilities.lease is not None
        return self.capabilities.lease

    @property
    def slack(self) -> timedelta:
        """How much later than promised something may be seen: granularity and scheduling noise."""
        return self.grain + (MICRO * 2 if isinstance(self.clock, StepClock) else self.harness.tolerance)

    def queue_named(self, suffix: str) -> str:
        """Return the name of another queue of this case."""
        return f"{self.namespace}.{suffix}"

    def now(self) -> datetime:
        """Return the time of the adapter's clock."""
        return self.clock.now()

    def has(self, kind: FacetKind[Facet]) -> bool:
        """Whether the adapter has a facet."""
        return kind in self.harness.facets

    def facet(self, kind: FacetKind[F]) -> F:
        """Return the adapter as a facet that the case needs."""
        return need(self.adapter, kind)

    # --- verdicts ----------------------------------------------------------------------------

    def broken(self, why: str, clause: str | None = None) -> NoReturn:
        """Say that a promise was broken."""
        raise Violation(clause or self.clause, why, self.history.text())

    def check(self, holds: bool, why: str, clause: str | None = None) -> None:
        """Say that a promise was broken unless it holds."""
        if not holds:
            self.broken(why, clause)

    def equal(self, seen: object, expected: object, what: str, clause: str | None = None) -> None:
        """Compare, and say both sides if they differ."""
        if seen != expected:
            self.broken(f"{what}: expected {shown(expected)}, got {shown(seen)}", clause)

    def refused(self, kind: type[E], what: str, call: Callable[[], object], clause: str | None = None) -> E:
        """Check that a call raises that error."""
        try:
            answer = call()
        except kind as exc:
            self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
            return exc
        except Exception as exc:
            self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
            raise Violation(
                clause or self.clause,
                f"{what}: expected {kind.__name__}, got {type(exc).__name__}: {exc}",
                self.history.text(),
            ) from exc
        got = "it was accepted" if answer is None else f"it returned {self._told(answer)}"
        self.history.add(f"{what}: {got}")
        self.broken(f"{what}: expected {kind.__name__}, but {got}", clause)

    def call(self, what: str, call: Callable[[], T], nothing: str = "") -> T:
        """Call the adapter and note what it answered; `nothing` is how None reads.

        An error of kessel's tree where none is due breaks a promise; any other error breaks rule 1
        of the contract. Both are shown with the history.
        """
        try:
            answer = call()
        except KesselError as exc:
            self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
            raise Violation(
                self.clause, f"{what} raised {type(exc).__name__}: {exc}", self.history.text()
            ) from exc
        except Exception as exc:
            self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
            raise Violation(
                self.clause,
                f"{what} raised {type(exc).__name__}, which is no error of kessel (contract, rule 1): {exc}",
                self.history.text(),
            ) from exc
        told = nothing if answer is None else self._told(answer)
        self.history.add(f"{what} -> {told}" if told else what)
        return answer

    def _told(self, answer: object) -> str:
        match answer:
            case Reservation():
                return f"{self.label(answer.body)}, attempt {answer.attempt}"
            case JobRequest():
                return ""
            case [None, *rest] if not any(rest):
                return "all stored"
            case list() if all(isinstance(job, StoredJob) for job in answer):
                told = [self.label(job.body) + (f" ({job.reason})" if job.reason else "") for job in answer]
                return ", ".join(told) or "nothing"
            case _:
                return shown(answer)

    def label(self, body: bytes) -> str:
        """Return a short name of a job, by its body."""
        name = self._names.get(hash(body))
        if name is None and (found := _ID.search(body)) is not None:
            name = self._ids.get(found[1].decode(errors="replace"))
        return name or shown(body)

    def worker(self, consumer: Consumer) -> str:
        """Return the name of a consumer."""
        return self._workers.get(id(consumer), "a worker")

    # --- calls -------------------------------------------------------------------------------

    def message(
        self,
        body: bytes | None = None,
        *,
        queue: str | None = None,
        priority: int = 65536,
        delay: timedelta | None = None,
        expiration: timedelta | None = None,
        job_id: str | None = None,
    ) -> Message:
        """Make a job with a body and an id that no other job has; spans count from now."""
        label = f"job-{next(self._labels)}"
        # Ids are random, so that an order by id cannot look like an order by time.
        job_id = job_id or f"{self.random.getrandbits(64):016x}-{label}"
        if body is None:
            body = b'{"v":1,"id":"%s","type":"t","priority":%d,"payload":null}' % (job_id.encode(), priority)
        self._names[hash(body)] = self._ids[job_id] = label
        queue = queue or self.queue
        self._queues.add(queue)
        now = self.now()
        return Message(
            job_id,
            queue,
            body,
            priority,
            None if delay is None else now + delay,
            None if expiration is None else now + expiration,
        )

    def send(self, message: Message, note: str = "") -> Message:
        """Enqueue a message."""
        self._queues.add(message.queue)
        self.call(f"enqueue {self.label(message.body)}{note}", lambda: self.adapter.enqueue(message))
        return message

    def put(
        self,
        body: bytes | None = None,
        *,
        queue: str | None = None,
        priority: int = 65536,
        delay: timedelta | None = None,
        expiration: timedelta | None = None,
        job_id: str | None = None,
    ) -> Message:
        """Make a job and enqueue it."""
        message = self.message(
            body, queue=queue, priority=priority, delay=delay, expiration=expiration, job_id=job_id
        )
        note = f", priority {priority}"
        note += f", delay {shown(delay)}" if delay is not None else ""
        note += f", expires in {shown(expiration)}" if expiration is not None else ""
        return self.send(message, note)

    def request(
        self, manager: JobManager, payload: JsonValue = None, *, job_type: str = "t", **options: Any
    ) -> None:
        """Request a job through the core."""
        label = f"job-{next(self._labels)}"
        note = "".join(f", {name} {shown(value)}" for name, value in options.items())
        request = self.call(
            f"request {label}, payload {shown(payload)}{note}",
            lambda: manager.request(job_type, payload, queue=self.queue, **options),
        )
        self._ids[request.id] = label

    def consumer(self, *queues: str) -> Consumer:
        """Make a consumer that is closed at the end; for the case's queue if none is named."""
        consumer = self.adapter.consumer(list(queues) or [self.queue])
        self._consumers.append(consumer)
        number = len(self._workers)
        self._workers[id(consumer)] = f"worker {ascii_uppercase[number] if number < 26 else number}"
        return consumer

    def reserve(self, consumer: Consumer, wait: timedelta = NO_PAUSE) -> Reservation | None:
        """Reserve."""
        what = f"{self.worker(consumer)} reserves" + (f", waiting up to {shown(wait)}" if wait else "")
        return self.call(what, lambda: consumer.reserve(wait), "nothing")

    def taken(self, consumer: Consumer, wait: timedelta = NO_PAUSE) -> Reservation:
        """Reserve a job that must be there."""
        reservation = self.reserve(consumer, wait)
        if reservation is None:
            self.broken("a ready job was not delivered")
        return reservation

    def gets(self, consumer: Consumer, message: Message, why: str, wait: timedelta = NO_PAUSE) -> Reservation:
        """Reserve, and check that it is this job that comes."""
        reservation = self.reserve(consumer, wait)
        if reservation is None or reservation.body != message.body:
            got = "nothing" if reservation is None else self.label(reservation.body)
            self.broken(f"{why}: expected {self.label(message.body)}, got {got}")
        return reservation

    def nothing(self, consumer: Consumer, why: str, clause: str | None = None) -> None:
        """Check that nothing is delivered now."""
        reservation = self.reserve(consumer)
        if reservation is not None:
            self.broken(f"{why}, but {self.label(reservation.body)} was delivered", clause)

    def settle(self, consumer: Consumer, reservation: Reservation, settlement: Settlement = COMMIT) -> None:
        """Settle."""
        what = f"{self.worker(consumer)} {deed(settlement, self.label(reservation.body))}"
        self.call(what, lambda: consumer.settle(reservation, settlement))

    def not_settled(
        self, consumer: Consumer, reservation: Reservation, settlement: Settlement, when: str
    ) -> None:
        """Check that a settle is refused, because the reservation holds nothing any more (S7)."""
        what = f"{self.worker(consumer)} {deed(settlement, self.label(reservation.body))}, {when}"
        self.refused(LeaseLost, what, lambda: consumer.settle(reservation, settlement))

    def not_extended(self, consumer: Consumer, reservation: Reservation, when: str) -> None:
        """Check that an extension is refused, because the reservation holds nothing any more (S7)."""
        what = f"{self.worker(consumer)} extends {self.label(reservation.body)}, {when}"
        self.refused(LeaseLost, what, lambda: consumer.extend(reservation))

    def settle_and_reserve(
        self, consumer: Consumer, reservation: Reservation, settlement: Settlement
    ) -> Reservation | None:
        """Settle and reserve in one call."""
        what = f"{self.worker(consumer)} {deed(settlement, self.label(reservation.body))} and reserves"
        return self.call(what, lambda: consumer.settle_and_reserve(reservation, settlement), "nothing")

    def extend(self, consumer: Consumer, reservation: Reservation) -> None:
        """Extend."""
        what = f"{self.worker(consumer)} extends {self.label(reservation.body)}"
        self.call(what, lambda: consumer.extend(reservation))

    def attempt(self, consumer: Consumer, reservation: Reservation) -> int:
        """Ask which delivery this is."""
        what = f"{self.worker(consumer)} asks for the attempt of {self.label(reservation.body)}"
        return self.call(what, lambda: consumer.attempt(reservation))

    def roll_back(self, consumer: Consumer, reservation: Reservation) -> None:
        """Roll back without a pause, and wait as long as a coarse backend may take for it (S4)."""
        self.settle(consumer, reservation, Rollback())
        self.let_pass(self.slack)

    def drain(self, consumer: Consumer) -> list[bytes]:
        """Reserve and commit until nothing is ready; return the bodies in order."""
        bodies = []
        while (reservation := self.reserve(consumer)) is not None:
            bodies.append(reservation.body)
            if len(bodies) > 10_000:
                self.broken("the queue never becomes empty")
            self.settle(consumer, reservation)
        return bodies

    def labels(self, bodies: Sequence[bytes]) -> list[str]:
        """Return the short names of jobs."""
        return [self.label(body) for body in bodies]

    # --- operations --------------------------------------------------------------------------

    def stats(self) -> QueueStats:
        """Count the jobs of the case's queue."""
        return self.call("stats", lambda: self.adapter.stats(self.queue))

    def buried(self, limit: int = 100) -> list[StoredJob]:
        """List the buried jobs of the case's queue."""
        return self.call("list the buried", lambda: self.facet(Buried).buried(self.queue, limit))

    def peek(self, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Look at jobs of the case's queue."""
        return self.call(f"peek {state}", lambda: self.facet(Browse).peek(self.queue, state, limit))

    def kick(self, job_id: str) -> None:
        """Kick a job of the case's queue."""
        what = f"kick {self._ids.get(job_id, job_id)}"
        self.call(what, lambda: self.facet(Buried).kick(self.queue, job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job of the case's queue."""
        what = f"delete {self._ids.get(job_id, job_id)}"
        self.call(what, lambda: self.facet(Delete).delete(self.queue, job_id))

    # --- time --------------------------------------------------------------------------------

    def let_pass(self, span: timedelta) -> None:
        """Let time pass."""
        if span > NO_PAUSE:
            self.history.add(f"{shown(span)} pass")
            move(self.harness, self.clock, span)

    def until(self, moment: datetime) -> None:
        """Let time pass until a moment."""
        self.let_pass(moment - self.now())

    def comes_no_earlier(
        self, consumer: Consumer, message: Message, due: datetime, why: str, clause: str = "S4"
    ) -> Reservation:
        """Look again and again: the job must not come before `due`, and then within the slack."""
        span = max(due - self.now(), NO_PAUSE)
        # Close to the due time, because an adapter that cuts off fractions is early by less than
        # its granularity.
        looks = [due - span * part for part in (0.9, 0.6, 0.45, 0.3, 0.2, 0.1, 0.05)]
        looks += [due - MICRO * 1000] if self.harness.virtual else []
        for look in looks:
            self.until(look)
            reservation = self.reserve(consumer)
            now = self.now()
            if reservation is not None:
                if now < due and reservation.body == message.body:
                    self.broken(f"{why}: it came {(due - now).total_seconds():.3f} s early", clause)
                if reservation.body != message.body:
                    self.broken(f"{why}: {self.label(reservation.body)} came instead")
                return reservation
        self.until(due + self.slack)
        reservation = self.reserve(consumer)
        if reservation is None:
            self.broken(
                f"{why}: it was not there {self.slack.total_seconds():.3f} s after it was due", clause
            )
        self.equal(reservation.body, message.body, why)
        return reservation

    # --- threads -----------------------------------------------------------------------------

    def in_real_time(self) -> Bench:
        """Return another bench whose adapter lives in real time, for calls that wake one another.

        On a virtual clock a waiting call moves the time to its own end at once.
        """
        return Bench(self.harness, (self.clause,), self.seed, SystemClock())

    def side_by_side(self, jobs: Sequence[Callable[[], object]], limit: float = 20.0) -> None:
        """Run functions in threads that begin together; the first error among them is raised here."""
        errors: list[BaseException] = []
        gate = threading.Barrier(len(jobs))

        def guarded(job: Callable[[], object]) -> None:
            try:
                gate.wait(limit)
                job()
            except BaseException as exc:
                errors.append(exc)

        threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        end = time.monotonic() + limit
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if errors:
            raise errors[0]
        self.check(
            not any(thread.is_alive() for thread in threads), f"calls did not return within {limit:g} s"
        )

    def reopen(self) -> None:
        """Close consumers and adapter, and open the same namespace again."""
        for consumer in self._consumers:
            self.call(f"{self.worker(consumer)} is closed", consumer.close)
        self._consumers.clear()
        self.call("close adapter", self.adapter.close)
        self._adapter = self.harness.open(self.clock, self.namespace)
        self.history.add("open adapter")

    def patiently(self, what: str, call: Callable[[], T], limit: float = 10.0) -> T:
        """Call again and again while the backend is unreachable, for real seconds."""
        end = time.monotonic() + limit
        while True:
            try:
                answer = call()
            except AdapterError as exc:
                self.history.add(f"{what} -> {type(exc).__name__}: {exc}")
                if time.monotonic() > end:
                    self.broken(f"{what} still fails {limit:g} s after the server came back: {exc}")
                time.sleep(0.05)
            else:
                self.history.add(f"{what} -> {self._told(answer)}")
                return answer

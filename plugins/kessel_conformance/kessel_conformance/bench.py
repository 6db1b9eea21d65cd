"""What a case works with: the calls that it makes, each on an open adapter and in the history.

It is called a bench as in "test bench": the frame that a part is fastened to, and probed on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from kessel_conformance.history import Violation, settlement_text, shown
from kessel_conformance.opencase import MICRO, move
from kessel_conformance.operating import Operating
from kessel_core import IdHeld, LeaseLost
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterError,
    Consumer,
    JobState,
    Message,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
)

if TYPE_CHECKING:
    from kessel_core import JobManager, JsonValue

__all__ = ["Bench"]

T = TypeVar("T")

#: When to look a last time before something is due; on a loaded machine a look may come this late.
_JUST_BEFORE: Final = timedelta(milliseconds=30)
#: More deliveries than any case has from one queue.
_MOST: Final = 2_000


class Bench(Operating):
    """One adapter under one case; a context manager that cleans up. As `OpenAdapter`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._labels = itertools.count(1)

    def sharing(self) -> Self:
        """As `OpenAdapter.sharing`; the labels of jobs are shared, too."""
        other = super().sharing()
        other._labels = self._labels
        return other

    # --- requests ----------------------------------------------------------------------------

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
        job_id = job_id or f"{self.random.getrandbits(64):016x}-{self.namespace}-{label}"
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

    def send_many(self, messages: Sequence[Message], note: str = "") -> None:
        """Enqueue a batch, of which all must be stored."""
        self._queues.update(message.queue for message in messages)
        what = f"enqueue_many of {len(messages)} jobs{note}"
        outcomes = self.call(what, lambda: self.adapter.enqueue_many(messages))
        self.equal(len(outcomes), len(messages), f"outcomes of {what}")
        self.equal([one for one in outcomes if one is not None], [], f"jobs not stored by {what}")

    def send_behind_held(self, messages: Sequence[Message]) -> None:
        """Enqueue a batch whose first job is there already: that one is refused, and no other (S14)."""
        self.send(messages[0], ", the first of a batch")
        what = f"enqueue_many of {len(messages)} jobs, of which the first is there"
        outcomes: list[AdapterError | None] = []  # thousands, which nobody wants to read in a history
        self.call(what, lambda: outcomes.extend(self.adapter.enqueue_many(messages)), "returned")
        self.equal(len(outcomes), len(messages), f"outcomes of {what}")
        self.check(isinstance(outcomes[0], IdHeld), f"{what}: expected IdHeld, got {outcomes[0]!r}")
        failed = [number for number, one in enumerate(outcomes) if number and one is not None]
        why = f"{len(failed)} others were not stored, from the one at {failed[:1]} on"
        self.check(not failed, f"{what}: {why}")

    def is_held(self, message: Message, state: JobState) -> None:
        """Check that an enqueue is refused, because a job in that state holds its id (S14)."""
        what = f"enqueue {self.label(message.body)} under an id that is {state}"
        error = self.refused(IdHeld, what, lambda: self.adapter.enqueue(message))
        self.equal((error.job_id, error.state), (message.id, state), "id, and state of the job that holds it")

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

    # --- consumers ---------------------------------------------------------------------------

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
        if wait:  # its answer is noted when it comes, which may be after what woke it, or never
            self.history.add(f"{self.worker(consumer)} begins to wait, up to {shown(wait)}")
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
        what = f"{self.worker(consumer)} {settlement_text(settlement, self.label(reservation.body))}"
        self._holding(reservation, what, lambda: consumer.settle(reservation, settlement))

    def _holding(self, reservation: Reservation, what: str, call: Callable[[], T], nothing: str = "") -> T:
        """Make a call for what a reservation holds; note whether the case came too late with it."""
        try:
            return self.call(what, call, nothing)
        except Violation as exc:
            is_over = reservation.deadline is not None and self.clock.monotonic() >= reservation.deadline
            exc.is_late = is_over and isinstance(exc.__cause__, LeaseLost)
            raise

    def not_settled(
        self, consumer: Consumer, reservation: Reservation, settlement: Settlement, when: str
    ) -> None:
        """Check that a settle is refused, because the reservation holds nothing any more (S7)."""
        what = f"{self.worker(consumer)} {settlement_text(settlement, self.label(reservation.body))}, {when}"
        self._lost(reservation, what, lambda: consumer.settle(reservation, settlement))

    def not_extended(self, consumer: Consumer, reservation: Reservation, when: str) -> None:
        """Check that an extension is refused, because the reservation holds nothing any more (S7)."""
        what = f"{self.worker(consumer)} extends {self.label(reservation.body)}, {when}"
        self._lost(reservation, what, lambda: consumer.extend(reservation))

    def settle_and_reserve(
        self, consumer: Consumer, reservation: Reservation, settlement: Settlement
    ) -> Reservation | None:
        """Settle and reserve in one call."""
        settling = settlement_text(settlement, self.label(reservation.body))
        what = f"{self.worker(consumer)} {settling} and reserves"
        return self._holding(
            reservation, what, lambda: consumer.settle_and_reserve(reservation, settlement), "nothing"
        )

    def extend(self, consumer: Consumer, reservation: Reservation) -> None:
        """Extend."""
        what = f"{self.worker(consumer)} extends {self.label(reservation.body)}"
        self._holding(reservation, what, lambda: consumer.extend(reservation))

    def may_extend(self, consumer: Consumer, reservation: Reservation) -> None:
        """Extend what another thread may just have settled; not noted, because it is done very often."""
        with suppress(LeaseLost):
            consumer.extend(reservation)

    def attempt(self, consumer: Consumer, reservation: Reservation) -> int:
        """Ask which delivery this is."""
        what = f"{self.worker(consumer)} asks for the attempt of {self.label(reservation.body)}"
        return self.call(what, lambda: consumer.attempt(reservation))

    def roll_back(self, consumer: Consumer, reservation: Reservation) -> None:
        """Roll back without a pause, and wait as long as a coarse backend may take for it (S4)."""
        self.settle(consumer, reservation, Rollback())
        self.let_pass(self.slack)

    def snooze(self, consumer: Consumer, reservation: Reservation) -> None:
        """Snooze without a pause, and wait as long as a coarse backend may take for it (S4, S21)."""
        self.settle(consumer, reservation, Snooze())
        self.let_pass(self.slack)

    def give_back(self, reservation: Reservation) -> None:
        """Give a job back for the slot that holds it (S21)."""
        what = f"give back {self.label(reservation.body)}"
        self._holding(reservation, what, lambda: self.adapter.give_back(reservation))

    def not_given_back(self, reservation: Reservation, when: str) -> None:
        """Check that giving back is refused, because the reservation holds nothing any more (S7)."""
        what = f"give back {self.label(reservation.body)}, {when}"
        self._lost(reservation, what, lambda: self.adapter.give_back(reservation))

    def _lost(self, reservation: Reservation, what: str, call: Callable[[], object]) -> None:
        error = self.refused(LeaseLost, what, call)
        is_named = error.job_id in (None, reservation.id)
        self.check(is_named, f"{what}: the refusal names job {error.job_id!r}, not {reservation.id!r}")

    def drain(self, consumer: Consumer) -> list[bytes]:
        """Reserve and commit until nothing is ready; return the bodies in order."""
        bodies = []
        for reservation in self.each(consumer):
            bodies.append(reservation.body)
            self.settle(consumer, reservation)
        return bodies

    def each(self, consumer: Consumer) -> Iterator[Reservation]:
        """Reserve until nothing is ready; the caller settles each before it asks for the next."""
        for _ in range(_MOST):
            reservation = self.reserve(consumer)
            if reservation is None:
                return
            yield reservation
        self.broken("the queue never becomes empty")

    def settle_all(self, consumer: Consumer, settlement: Settlement) -> list[bytes]:
        """Settle one after the other, each with the next reserve; return the bodies in order."""
        bodies: list[bytes] = []
        held: Reservation | None = self.taken(consumer)
        for _ in range(_MOST):
            if held is None:
                return bodies
            bodies.append(held.body)
            held = self.settle_and_reserve(consumer, held, settlement)
        self.broken("the queue never becomes empty")

    def pass_through(self, count: int) -> None:
        """Enqueue and commit many jobs in a queue of their own, which leaves a long history and no job."""
        queue = self.queue_named("passed")
        self.send_many([self.message(queue=queue) for _ in range(count)])
        self.settle_all(self.consumer(queue), COMMIT)

    def comes_no_earlier(
        self, consumer: Consumer, message: Message, due: datetime, why: str, clause: str = "S4"
    ) -> Reservation:
        """Look again and again: the job must not come before `due`, and then within the slack."""
        span = max(due - self.now(), NO_PAUSE)
        for look in (due - span * part for part in (0.9, 0.6, 0.45, 0.3, 0.2, 0.1)):
            self.until(look)
            reservation = self.reserve(consumer)
            if reservation is not None:
                return self._came(reservation, message, due, why, clause)
        return self.not_before(consumer, message, due, why, clause)

    def not_before(
        self, consumer: Consumer, message: Message, due: datetime, why: str = "", clause: str = "S4"
    ) -> Reservation:
        """Look just before `due`, and on and on from then: not a microsecond early, and within the slack."""
        # An adapter that cuts off fractions is early by less than its granularity.
        self.until(due - (MICRO if self.harness.virtual else _JUST_BEFORE))
        reservation = self.reserve(consumer)
        rest = min(max(self.grain / 10, MICRO * 200), MICRO * 10_000)
        end = due + self.slack
        # Only a look that began when the slack was over shows that it is not there: the answer of one that
        # began before may be as late as a busy machine likes. One more, because a server that got no turn
        # for so long may answer before it looks at its clock.
        late_looks = 1 if self.harness.virtual else 2
        while reservation is None and late_looks:
            move(self.harness, self.clock, end - self.now() if self.harness.virtual else rest)
            late_looks -= self.now() >= end
            reservation = consumer.reserve(NO_PAUSE)
        if reservation is None:
            late = self.slack.total_seconds()
            self.broken(
                f"{why or self.label(message.body)}: it was not there {late:.3f} s after it was due", clause
            )
        return self._came(reservation, message, due, why, clause)

    def _came(
        self, reservation: Reservation, message: Message, due: datetime, why: str, clause: str
    ) -> Reservation:
        now = self.now()
        what = why or self.label(message.body)
        if reservation.body != message.body:
            self.broken(f"{what}: {self.label(reservation.body)} came instead", clause)
        if now < due:
            self.broken(f"{what}: it came {(due - now).total_seconds():.6f} s early", clause)
        return reservation

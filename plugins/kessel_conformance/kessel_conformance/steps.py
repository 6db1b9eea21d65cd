"""What producers and workers do in a plan: frozen values, each a call to the adapter and to the model.

`machine.py` lets Hypothesis choose them on a virtual clock, `plans.py` chooses them for a real one. What an
operator does is in `operator_steps.py`.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import timedelta
from typing import Final

import attrs

from kessel_conformance.comparison import Comparison, pause_of
from kessel_conformance.history import seconds, settlement_text, shown
from kessel_conformance.model import Span
from kessel_core import IdHeld, LeaseLost
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Bury,
    Commit,
    Message,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
)

__all__ = [
    "HOWS",
    "PRIORITIES",
    "TAILS",
    "Drop",
    "Extend",
    "GiveBack",
    "Put",
    "Reopen",
    "Reserve",
    "Run",
    "Settle",
    "SettleOld",
]

#: Numbers that text order, truncation, 16 and 32 bits and signs get wrong; some of them twice likely.
PRIORITIES: Final = (65536, 65536, 65536, 0, 1, 2, 9, 10, 100, 65535, 4294967294, 4294967295)
#: Ends of bodies that careless code cuts or changes.
TAILS: Final = (b"", b" ", b"\0", b"\r\n", b"\xff\xfe", b"}", b'","priority":1,"')
#: How `Settle` settles.
HOWS: Final = ("commit", "rollback", "snooze", "bury")


@attrs.frozen
class Put:
    """Enqueue a new job, or one that is still held again where ids are told apart."""

    priority: int = 65536
    #: Seconds from now.
    delay: float | None = None
    #: How the body ends; a job that expires has a body that can be run instead.
    tail: bytes = b""
    #: Seconds from now, or after the delay.
    expires: float | None = None
    #: Enqueue the last job that is still held.
    again: bool = False

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        if self.again and both.declared.dedupe:
            job = next((job for job in reversed(both.model.jobs) if job.state is not None), None)
            if job is not None:
                with suppress(IdHeld):
                    both.adapter.enqueue(job.message)
                both.history.add(f"enqueue {job.label} again: nothing new is stored")
                return
        label = f"job-{len(both.model.jobs) + 1}"
        job_id = f"{both.ids.getrandbits(48):012x}-{both.queue}-{label}"
        delay = None if both.declared.delay_granularity is None else self.delay
        now = both.clock.now()
        due = None if delay is None else now + timedelta(seconds=delay)
        expiration = None if self.expires is None else now + timedelta(seconds=(delay or 0.0) + self.expires)
        what = f"enqueue {label}, priority {self.priority}"
        what += f", delay {seconds(delay)}" if delay is not None else ""
        if expiration is None:
            body = b'{"v":1,"id":"%s","type":"t","priority":%d,"payload":"' % (
                job_id.encode(),
                self.priority,
            )
            body += self.tail
        else:
            what += f", expires in {shown(expiration - now)}"
            fields = {"id": job_id, "type": "t", "queue": both.queue, "expiration": expiration.isoformat()}
            body = json.dumps(fields).encode()
        message = Message(job_id, both.queue, body, self.priority, due, expiration)
        _, at = both.timed(lambda: both.adapter.enqueue(message))
        both.history.add(what)
        both.model.enqueued(message, label, None if due is None else both.seconds(due), at)


@attrs.frozen
class Reserve:
    """Reserve, if the worker holds nothing."""

    worker: int = 0

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        worker = both.workers[self.worker]
        if worker.held is None:
            reservation, at = both.timed(lambda: worker.consumer.reserve(NO_PAUSE))
            both.delivered(worker, reservation, at, f"{worker.name} reserves")


@attrs.frozen
class Settle:
    """Settle what the worker holds, and maybe reserve in the same call."""

    worker: int = 0
    #: One of `HOWS`.
    how: str = "commit"
    #: Seconds; for a rollback or a snooze.
    pause: float = 0.0
    #: Whether to reserve with it.
    reserve: bool = False

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        worker = both.workers[self.worker]
        if worker.held is None:
            return
        reservation, job = worker.held
        settlement = _settlement(self.how, job.label, pause_of(both, self.pause))
        what = f"{worker.name} {settlement_text(settlement, job.label)}"
        worker.let_go()

        def settle() -> Reservation | None:
            if self.reserve:
                return worker.consumer.settle_and_reserve(reservation, settlement)
            worker.consumer.settle(reservation, settlement)
            return None

        accepted = both.judged(worker, job, what, settle)
        if accepted is None:
            return
        following, at = accepted
        match settlement:
            case Rollback(pause):
                both.model.rolled_back(job, pause.total_seconds(), at)
            case Snooze(pause):
                both.model.snoozed(job, pause.total_seconds(), at)
            case Bury(reason):
                both.model.buried(job, reason, at)
            case Commit():
                both.model.removed(job)
                both.settled.append(job.label)
        if self.reserve:
            both.delivered(worker, following, at, f"{worker.name} reserves with it")


@attrs.frozen
class GiveBack:
    """Give back what the worker holds, as the end of a grace period does it (S21)."""

    worker: int = 0

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        worker = both.workers[self.worker]
        if worker.held is None:
            return
        reservation, job = worker.held
        what = f"give back {job.label} for {worker.name}"
        worker.let_go()
        accepted = both.judged(worker, job, what, lambda: both.adapter.give_back(reservation))
        if accepted is not None:
            both.model.snoozed(job, 0.0, accepted[1])


@attrs.frozen
class Run:
    """Let the core run what the worker holds: no handler may start after the expiration (S5)."""

    worker: int = 0

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        worker = both.workers[self.worker]
        if worker.held is None or (expires_at := worker.held[1].message.expiration) is None:
            return
        reservation, job = worker.held
        expiration = both.seconds(expires_at)
        before = both.now()
        if both.model.holds(job, worker.name, Span(before, before)) is not True:
            return
        both.core.ran.clear()
        result = both.core.run(reservation, worker.consumer)
        at = Span(before, both.now())
        ran = bool(both.core.ran)
        both.history.add(f"{worker.name} runs {job.label}: {'handled' if ran else result}")
        if ran and expiration <= at.lo:
            both.broken("S5", f"{job.label} was run {seconds(at.lo - expiration)} after it had expired")
        if not ran and at.hi < expiration:
            both.broken("S5", f"{job.label} was not run, but ended as {result}")
        worker.let_go()
        both.model.removed(job)
        both.settled.append(job.label)


@attrs.frozen
class SettleOld:
    """Settle again with a reservation that was settled or lost before: must be refused (S7)."""

    worker: int = 0
    #: "commit", "rollback" or "snooze".
    how: str = "commit"

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        worker = both.workers[self.worker]
        if not worker.old:
            return
        reservation, job = worker.old[-1]
        now = both.now()
        if both.model.holds(job, worker.name, Span(now, now)) is not False and worker.held is None:
            return  # refused while it was undecided; a second try may well succeed
        settlement = _settlement(self.how, job.label, NO_PAUSE)
        what = f"{worker.name} {settlement_text(settlement, job.label)} with its old reservation"
        try:
            worker.consumer.settle(reservation, settlement)
        except LeaseLost:
            both.history.add(f"{what} -> LeaseLost")
            return
        both.history.add(what)
        both.broken("S7", f"{what}: accepted")


@attrs.frozen
class Extend:
    """Extend what the worker holds."""

    worker: int = 0

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        worker = both.workers[self.worker]
        if worker.held is None:
            return
        reservation, job = worker.held
        what = f"{worker.name} extends {job.label}"
        accepted = both.judged(worker, job, what, lambda: worker.consumer.extend(reservation))
        if accepted is None:
            worker.let_go()
        else:
            both.model.extended(job, accepted[1])


@attrs.frozen
class Drop:
    """Close a worker's consumer, with what it holds, and make a new one."""

    worker: int = 0

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        both.replace_consumer(both.workers[self.worker])


@attrs.frozen
class Reopen:
    """Close the adapter and open it again, where jobs survive that."""

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        both.reopen()


def _settlement(how: str, label: str, pause: timedelta) -> Settlement:
    match how:
        case "rollback":
            return Rollback(pause)
        case "snooze":
            return Snooze(pause)
        case "bury":
            return Bury("error", f"{label} failed")
        case _:
            return COMMIT

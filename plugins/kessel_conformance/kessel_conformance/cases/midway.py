"""The system refuses one step in the middle of a call: what was told of it is true (S14, S8, S20)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.cases.files import in_a_place
from kessel_conformance.catalogue import case
from kessel_conformance.faults import spread
from kessel_conformance.places import FILES
from kessel_conformance.refusing import SystemRefuses
from kessel_conformance.told import Told
from kessel_core import AdapterUnavailable, EnqueueRejected, LeaseLost
from kessel_core.contract import COMMIT, Commit, Consumer, Message, Reservation, Settlement, Store

#: Steps of a kind of call of which one is refused.
_MOST: Final = 30
#: Up to which step a repeated call is refused again.
_STEPS_AGAIN: Final = 8


@case(
    "files.refused_midway",
    "S14",
    "S8",
    "S9",
    "S20",
    "S19",
    needs=(FILES,),
    why="A disk is full in the middle of a change, which is told as refused, and done by the next call.",
)
def refused_midway(bench: Bench) -> None:
    with in_a_place(bench) as (there, _):
        _Midway(there).check()


#: The last: what was to follow it is not taken, and so the job is not settled (S20).
_OF_SETTLE: Final = (LeaseLost, EnqueueRejected)


class _Midway(Told):
    """Calls of which the system refuses one step each, and what is there in the end."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        #: One for each call, so that each makes its queue, too.
        self._queues: list[str] = []
        #: Which step of a call is refused that repeats a refused one.
        self._again = 1
        #: Whether others settle before that.
        self._others_go_on = False
        #: What was settled, with what was to follow: one is there, or the other.
        self._followed: list[tuple[bytes, frozenset[bytes]]] = []

    def check(self) -> None:
        bench = self.bench
        calls = [self._enqueues, self._enqueues_many, self._commits]
        if bench.capabilities.follow:
            calls.append(self._follows)
        if bench.has(Store):
            calls.append(self._puts)
        for call in calls:
            whole = SystemRefuses()
            call(whole)
            for number, step in enumerate(spread(whole.steps, _MOST)):
                self._again = 1 + number % _STEPS_AGAIN
                self._others_go_on = number % 3 == 1
                refuses = SystemRefuses(step + 1)
                call(refuses)
                bench.history.add(
                    f"of that the system refused step {step + 1}, {refuses.refused or 'not made'}"
                )
                self.there.add(bench.put(queue=self._queues[-1]).body)  # it goes on
        bench.reopen()
        found = bench.drain(bench.consumer(*self._queues))
        for body, following in self._followed:
            came = [self.bench.label(one) for one in found if one == body or one in following]
            wanted = ([self.bench.label(body)], sorted(map(self.bench.label, following)))
            told = f"{wanted[0]}, or what was to follow it, {wanted[1]}"
            bench.check(sorted(came) in wanted, f"there are {came}, expected {told}", "S20")
        self.is_true(found)

    def _enqueues(self, refuses: SystemRefuses) -> None:
        message = self.bench.message(queue=self._new_queue())
        with refuses:
            self.enqueue(message)

    def _enqueues_many(self, refuses: SystemRefuses) -> None:
        queue = self._new_queue()
        batch = [self.bench.message(queue=queue) for _ in range(3)]
        with refuses:
            self.enqueue_many(batch)

    def _puts(self, refuses: SystemRefuses) -> None:
        new = self._new_queue()
        for key in ("kept", new):
            with refuses:
                self.put(key, new.encode())
        self.entries_are_true()

    def _commits(self, refuses: SystemRefuses) -> None:
        body, is_done = self._settles(refuses, COMMIT)
        if not is_done:
            self.perhaps.add(body)

    def _follows(self, refuses: SystemRefuses) -> None:
        queue = self._new_queue()
        following = [self.bench.message(queue=queue) for _ in range(2)]
        bodies = frozenset(one.body for one in following)
        body, is_done = self._settles(refuses, Commit(follow=tuple(following)))
        if is_done:
            self.there |= bodies
        else:
            self.perhaps |= bodies | {body}
        self._followed.append((body, bodies))

    def _settles(self, refuses: SystemRefuses, settlement: Settlement) -> tuple[bytes, bool]:
        """Settle a new job, and again if that was refused; return its body, and whether it is surely done."""
        message, consumer, held = self._held()
        others = self._held() if self._others_go_on else None
        # Who finds what was half done ends it, be it the same or another one, and may be refused that, too.
        for refused in (refuses, SystemRefuses(self._again), SystemRefuses()):
            with refused:
                settled = self.asked("settle", lambda: consumer.settle(held, settlement), *_OF_SETTLE)
            if not isinstance(settled.error, (AdapterUnavailable, EnqueueRejected)):
                break
            if others is not None:
                self._go_on(*others)
                others = None
        if others is not None:
            self._go_on(*others)
        return message.body, settled.error is None

    def _held(self) -> tuple[Message, Consumer, Reservation]:
        message = self.bench.put(queue=self._new_queue())
        consumer = self.bench.consumer(message.queue)
        return message, consumer, self.bench.taken(consumer)

    def _go_on(self, message: Message, consumer: Consumer, held: Reservation) -> None:
        """Settle another job, with as much as an adapter can do in one step."""
        following = self.bench.message(queue=message.queue)
        if self.bench.capabilities.follow:
            self.there.add(following.body)
            self.bench.settle(consumer, held, Commit(follow=(following,)))
        else:
            self.bench.settle(consumer, held)

    def _new_queue(self) -> str:
        self._queues.append(self.bench.queue_named(f"q{len(self._queues)}"))
        return self._queues[-1]

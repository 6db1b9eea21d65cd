"""The system refuses one step in the middle of a call: what was told of it is true (S14, S8)."""

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
from kessel_core import AdapterUnavailable, LeaseLost
from kessel_core.contract import COMMIT

#: Steps of a kind of call of which one is refused.
_MOST: Final = 30


@case(
    "files.refused_midway",
    "S14",
    "S8",
    "S9",
    needs=(FILES,),
    why="A disk is full in the middle of a change, which is told as refused, and done by the next call.",
)
def refused_midway(bench: Bench) -> None:
    with in_a_place(bench) as (there, _):
        _Midway(there).check()


class _Midway(Told):
    """Calls of which the system refuses one step each, and what is there in the end."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        #: One for each call, so that each makes its queue, too.
        self._queues: list[str] = []

    def check(self) -> None:
        bench = self.bench
        for call in (self._enqueues, self._enqueues_many, self._commits):
            whole = SystemRefuses()
            call(whole)
            for step in spread(whole.steps, _MOST):
                refuses = SystemRefuses(step + 1)
                call(refuses)
                bench.history.add(
                    f"of that the system refused step {step + 1}, {refuses.refused or 'not made'}"
                )
                self.there.add(bench.put(queue=self._queues[-1]).body)  # it goes on
        bench.reopen()
        self.is_true(bench.drain(bench.consumer(*self._queues)))

    def _enqueues(self, refuses: SystemRefuses) -> None:
        message = self.bench.message(queue=self._new_queue())
        with refuses:
            self.enqueue(message)

    def _enqueues_many(self, refuses: SystemRefuses) -> None:
        queue = self._new_queue()
        batch = [self.bench.message(queue=queue) for _ in range(3)]
        with refuses:
            self.enqueue_many(batch)

    def _commits(self, refuses: SystemRefuses) -> None:
        bench = self.bench
        body = bench.put(queue=self._new_queue()).body
        consumer = bench.consumer(self._queues[-1])
        held = bench.taken(consumer)
        with refuses:
            settled = self.asked("settle", lambda: consumer.settle(held, COMMIT), LeaseLost)
        if isinstance(settled.error, AdapterUnavailable):
            settled = self.asked("settle again", lambda: consumer.settle(held, COMMIT), LeaseLost)
        if settled.error is not None:
            self.perhaps.add(body)

    def _new_queue(self) -> str:
        self._queues.append(self.bench.queue_named(f"q{len(self._queues)}"))
        return self._queues[-1]

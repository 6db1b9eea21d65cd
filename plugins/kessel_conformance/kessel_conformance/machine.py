"""The state machine on a virtual clock: Hypothesis looks for a plan on which adapter and model differ.

It is run by a plain call: a `@given` that is inherited by two test classes fails its own health
check. Every example opens the adapter anew.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from datetime import timedelta

import hypothesis
from hypothesis import strategies as st
from hypothesis.errors import NonInteractiveExampleWarning
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from kessel_conformance.comparison import Comparison, Step
from kessel_conformance.harness import Harness
from kessel_conformance.history import Violation, seconds
from kessel_conformance.operator_steps import Count, Kick, PauseQueue, Peek, Remove
from kessel_conformance.plans import deliver_rest, return_all
from kessel_conformance.steps import (
    HOWS,
    PRIORITIES,
    TAILS,
    Drop,
    Extend,
    GiveBack,
    Put,
    Reopen,
    Reserve,
    Run,
    Settle,
    SettleOld,
)
from kessel_core.contract import Browse, Buried, Delete, JobState, Pause, QueueAdapter
from kessel_core.testing import VirtualClock

__all__ = ["AdapterMachine", "run_machine"]

WORKERS = st.sampled_from((0, 0, 1))
PAUSES = st.sampled_from((0.0, 0.0, 0.4, 1.6, 5.0))


class AdapterMachine(RuleBasedStateMachine):
    """Rules over a `Comparison`; derive from it for rules of your own and give it to `run_machine`."""

    def __init__(self, harness: Harness) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.harness = harness
        self.namespace = harness.namespace()
        adapter = self._opened()
        lease = adapter.capabilities.lease
        self.lease = lease.total_seconds() if lease is not None else 60.0
        self.both = Comparison(adapter, self.clock, f"{self.namespace}.model", 2e-6, self._opened)
        self._failed = False

    def _opened(self) -> QueueAdapter:
        return self.harness.open(self.clock, self.namespace)

    def _do(self, step: Step) -> None:
        try:
            self.both.step(step)
        except Violation:
            self._failed = True
            raise

    @rule(
        priority=st.sampled_from(PRIORITIES),
        delay=st.sampled_from((None, None, None, 0.0004, 0.4, 1.0, 1.6, 3600.0)),
        tail=st.sampled_from(TAILS),
        expires=st.sampled_from((None, None, 0.0, 0.4, 3600.0)),
    )
    def put(self, priority: int, delay: float | None, tail: bytes, expires: float | None) -> None:
        """Enqueue."""
        self._do(Put(priority, delay, tail, expires))

    @rule(priorities=st.lists(st.sampled_from((65536, 65536, 9, 10)), min_size=2, max_size=4))
    def put_some(self, priorities: list[int]) -> None:
        """Enqueue several that are ready at once: order shows only among many."""
        for priority in priorities:
            self._do(Put(priority))

    @rule()
    def put_again(self) -> None:
        """Enqueue an id that is still held."""
        if self.both.declared.dedupe and any(job.state is not None for job in self.both.model.jobs):
            self._do(Put(again=True))

    @rule(worker=WORKERS)
    def reserve(self, worker: int) -> None:
        """Reserve."""
        self._do(Reserve(worker))

    @rule(worker=WORKERS)
    def reserve_more(self, worker: int) -> None:
        """Reserve, again: half of all steps should deliver something."""
        self._do(Reserve(worker))

    @precondition(lambda self: any(worker.held for worker in self.both.workers))
    @rule(worker=WORKERS, how=st.sampled_from(HOWS), pause=PAUSES, reserve=st.booleans())
    def settle(self, worker: int, how: str, pause: float, reserve: bool) -> None:
        """Settle."""
        self._do(Settle(worker, how, pause, reserve))

    @rule(worker=WORKERS, times=st.integers(2, 3), how=st.sampled_from(("rollback", "snooze")))
    def retry(self, worker: int, times: int, how: str) -> None:
        """Reserve and roll back or snooze, again and again: some faults need more than one delivery."""
        for _ in range(times):
            self._do(Reserve(worker))
            self._do(Settle(worker, how))

    @precondition(lambda self: any(worker.held for worker in self.both.workers))
    @rule(worker=WORKERS)
    def extend(self, worker: int) -> None:
        """Extend."""
        self._do(Extend(worker))

    @precondition(lambda self: any(worker.held for worker in self.both.workers))
    @rule(worker=WORKERS)
    def give_back(self, worker: int) -> None:
        """Give back, as another thread does it."""
        self._do(GiveBack(worker))

    @precondition(lambda self: any(worker.held for worker in self.both.workers))
    @rule(worker=WORKERS)
    def run(self, worker: int) -> None:
        """Let the core run what is held."""
        self._do(Run(worker))

    @precondition(lambda self: any(worker.old for worker in self.both.workers))
    @rule(worker=WORKERS, how=st.sampled_from(("commit", "rollback", "snooze")))
    def settle_old(self, worker: int, how: str) -> None:
        """Settle with an old reservation."""
        self._do(SettleOld(worker, how))

    @rule(worker=WORKERS)
    def close_worker(self, worker: int) -> None:
        """Close a consumer."""
        self._do(Drop(worker))

    @precondition(lambda self: self.both.declared.durability != "none")
    @rule()
    def reopen(self) -> None:
        """Close and open the adapter."""
        self._do(Reopen())

    @precondition(lambda self: self.both.has(Buried) and self.both.model.buried_jobs())
    @rule(which=st.integers(0, 3))
    def kick(self, which: int) -> None:
        """Kick."""
        self._do(Kick(which))

    @precondition(lambda self: self.both.has(Delete) and self.both.model.jobs)
    @rule(which=st.integers(0, 7))
    def delete(self, which: int) -> None:
        """Delete."""
        self._do(Remove(which))

    @precondition(lambda self: self.both.has(Pause))
    @rule(span=st.sampled_from((0.0, 0.0, 1.5)))
    def pause(self, span: float) -> None:
        """Pause or resume."""
        self._do(PauseQueue(span))

    @rule()
    def look(self) -> None:
        """Compare counts."""
        self._do(Count())

    @precondition(lambda self: self.both.has(Browse))
    @rule(state=st.sampled_from(JobState))
    def peek(self, state: JobState) -> None:
        """Compare what is shown."""
        self._do(Peek(state))

    @rule(part=st.sampled_from((0.3, 0.5, 0.999, 1.001)))
    def let_lease_pass(self, part: float) -> None:
        """Let a part of a lease pass: steps that are not tied to it would miss its end."""
        self._advance(self.lease * part)

    @rule(span=st.sampled_from((0.001, 0.2, 0.4, 1.0, 3.0)))
    def let_pass(self, span: float) -> None:
        """Let some time pass."""
        self._advance(span)

    def _advance(self, span: float) -> None:
        self.both.history.add(f"{seconds(span)} pass")
        self.clock.advance(timedelta(seconds=span))

    def teardown(self) -> None:
        """Deliver what is left, and close."""
        try:
            if not self._failed:
                self._advance(return_all(self.both))
                deliver_rest(self.both)
                for state in JobState:
                    self.both.step(Peek(state))
        finally:
            with ExitStack() as stack:  # whichever of it fails, the rest is done
                stack.callback(self.harness.purge, self.namespace)
                stack.callback(self.both.adapter.close)
                stack.callback(self.both.close)


def run_machine(
    harness: Harness,
    *,
    examples: int,
    steps: int,
    seed: int,
    shrink: bool = True,
    machine: type[AdapterMachine] = AdapterMachine,
) -> None:
    """Run the state machine.

    Raises:
        Violation: The shortest plan found on which adapter and model differ.
    """
    phases = [hypothesis.Phase.generate, *([hypothesis.Phase.shrink] if shrink else [])]
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        phases=phases,
        report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )

    def opened() -> AdapterMachine:
        return machine(harness)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonInteractiveExampleWarning)
        # Any callable will do, says its documentation; its annotation wants a class.
        run_state_machine_as_test(hypothesis.seed(seed)(opened), settings=settings)  # type: ignore[arg-type]

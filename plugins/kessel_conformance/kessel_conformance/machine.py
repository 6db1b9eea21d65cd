"""The state machine on a virtual clock: Hypothesis looks for a plan on which adapter and model differ.

It is run by a plain call: a `@given` that is inherited by two test classes fails its own health
check. Every example opens the adapter anew.
"""

from __future__ import annotations

import warnings
from datetime import timedelta

import hypothesis
from hypothesis import strategies as st
from hypothesis.errors import NonInteractiveExampleWarning
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from kessel_conformance.harness import Harness
from kessel_conformance.history import Violation, seconds
from kessel_conformance.stepclock import StepClock
from kessel_conformance.world import PRIORITIES, TAILS, World
from kessel_core.contract import Browse, Buried, Delete, JobState, Pause, QueueAdapter

__all__ = ["AdapterMachine", "run_machine"]

SLOTS = st.sampled_from((0, 0, 1))
PAUSES = st.sampled_from((0.0, 0.0, 0.4, 1.6, 5.0))


class AdapterMachine(RuleBasedStateMachine):
    """Rules over a `World`; derive from it for rules of your own and give it to `run_machine`."""

    def __init__(self, harness: Harness) -> None:
        super().__init__()
        self.clock = StepClock()
        self.harness = harness
        self.namespace = harness.namespace()
        adapter = self._opened()
        lease = adapter.capabilities.lease
        self.lease = lease.total_seconds() if lease is not None else 60.0
        self.world = World(
            adapter, self.clock, f"{self.namespace}.model", adapter.capabilities, 2e-6, self._opened
        )
        self._failed = False

    def _opened(self) -> QueueAdapter:
        return self.harness.open(self.clock, self.namespace)

    def _do(self, name: str, **arguments: object) -> None:
        try:
            self.world.step((name, arguments))
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
        self._do("put", priority=priority, delay=delay, tail=tail, expires=expires)

    @rule(priorities=st.lists(st.sampled_from((65536, 65536, 9, 10)), min_size=2, max_size=4))
    def put_some(self, priorities: list[int]) -> None:
        """Enqueue several that are ready at once: order shows only among many."""
        for priority in priorities:
            self._do("put", priority=priority)

    @rule()
    def put_again(self) -> None:
        """Enqueue an id that is still held."""
        if self.world.declared.dedupe and any(job.place.value != "gone" for job in self.world.model.jobs):
            self._do("put", again=True)

    @rule(slot=SLOTS)
    def reserve(self, slot: int) -> None:
        """Reserve."""
        self._do("reserve", slot=slot)

    @rule(slot=SLOTS)
    def reserve_more(self, slot: int) -> None:
        """Reserve, again: half of all steps should deliver something."""
        self._do("reserve", slot=slot)

    @precondition(lambda self: any(slot.held for slot in self.world.slots))
    @rule(
        slot=SLOTS, how=st.sampled_from(("commit", "rollback", "bury")), pause=PAUSES, reserve=st.booleans()
    )
    def settle(self, slot: int, how: str, pause: float, reserve: bool) -> None:
        """Settle."""
        self._do("settle", slot=slot, how=how, pause=pause, reserve=reserve)

    @rule(slot=SLOTS, times=st.integers(2, 3))
    def retry(self, slot: int, times: int) -> None:
        """Reserve and roll back, again and again: some faults need more than one delivery."""
        for _ in range(times):
            self._do("reserve", slot=slot)
            self._do("settle", slot=slot, how="rollback")

    @precondition(lambda self: any(slot.held for slot in self.world.slots))
    @rule(slot=SLOTS)
    def extend(self, slot: int) -> None:
        """Extend."""
        self._do("extend", slot=slot)

    @precondition(lambda self: any(slot.held for slot in self.world.slots))
    @rule(slot=SLOTS)
    def run(self, slot: int) -> None:
        """Let the core run what is held."""
        self._do("run", slot=slot)

    @precondition(lambda self: any(slot.old for slot in self.world.slots))
    @rule(slot=SLOTS, how=st.sampled_from(("commit", "rollback")))
    def settle_old(self, slot: int, how: str) -> None:
        """Settle with an old reservation."""
        self._do("settle_old", slot=slot, how=how)

    @rule(slot=SLOTS)
    def close_worker(self, slot: int) -> None:
        """Close a consumer."""
        self._do("close_worker", slot=slot)

    @precondition(lambda self: self.world.declared.durability != "none")
    @rule()
    def reopen(self) -> None:
        """Close and open the adapter."""
        self._do("reopen")

    @precondition(lambda self: self.world.has(Buried) and self.world.model.buried_jobs())
    @rule(which=st.integers(0, 3))
    def kick(self, which: int) -> None:
        """Kick."""
        self._do("kick", which=which)

    @precondition(lambda self: self.world.has(Delete) and self.world.model.jobs)
    @rule(which=st.integers(0, 7))
    def delete(self, which: int) -> None:
        """Delete."""
        self._do("delete", which=which)

    @precondition(lambda self: self.world.has(Pause))
    @rule(span=st.sampled_from((0.0, 0.0, 1.5)))
    def pause(self, span: float) -> None:
        """Pause or resume."""
        self._do("pause", span=span)

    @rule()
    def look(self) -> None:
        """Compare counts."""
        self._do("look")

    @precondition(lambda self: self.world.has(Browse))
    @rule(state=st.sampled_from(JobState))
    def peek(self, state: JobState) -> None:
        """Compare what is shown."""
        self._do("peek", state=state)

    @rule(part=st.sampled_from((0.3, 0.5, 0.999, 1.001)))
    def let_lease_pass(self, part: float) -> None:
        """Let a part of a lease pass: steps that are not tied to it would miss its end."""
        self._advance(self.lease * part)

    @rule(span=st.sampled_from((0.001, 0.2, 0.4, 1.0, 3.0)))
    def let_pass(self, span: float) -> None:
        """Let some time pass."""
        self._advance(span)

    def _advance(self, span: float) -> None:
        self.world.history.add(f"{seconds(span)} pass")
        self.clock.advance(timedelta(seconds=span))

    def teardown(self) -> None:
        """Deliver what is left, and close."""
        try:
            if not self._failed:
                self._advance(self.world.give_back())
                self.world.deliver_rest()
                for state in JobState:
                    self.world.step(("peek", {"state": state}))
        finally:
            self.world.close()
            self.world.adapter.close()
            self.harness.purge(self.namespace)


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

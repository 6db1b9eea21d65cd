"""The state machine for stores: Hypothesis looks for calls after which store and model differ.

On a virtual clock time passes between the calls; on a real one no entry is put for less than an hour, so that
none ends. Every example opens the store anew.
"""

from __future__ import annotations

import warnings
from datetime import timedelta
from functools import partial
from typing import Final

import hypothesis
from hypothesis import strategies as st
from hypothesis.errors import NonInteractiveExampleWarning
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from kessel_conformance.history import Violation
from kessel_conformance.opencase import MICRO
from kessel_conformance.stores.bench import StoreBench
from kessel_conformance.stores.harness import StoreHarness
from kessel_conformance.stores.model import Model
from kessel_core.contract import NO_PAUSE, Durability, Reach

__all__ = ["StoreMachine", "run_machine"]

KEYS: Final = st.sampled_from(("a", "a", "b", "ab", "B", "a%", "é", "\uffff", "\U0001f600"))
VALUES: Final = st.sampled_from((b"", b"v", b"\0\xff", b"longer"))
#: Which version a call expects, or has seen; as `Model.version` reads it.
EXPECTED: Final = st.sampled_from(("any", "any", "right", "right", "none", "old", "next"))
_HOUR: Final = timedelta(hours=1)


class StoreMachine(RuleBasedStateMachine):
    """Rules over a store and its model; derive from it for rules of your own and give it to `run_machine`."""

    def __init__(self, harness: StoreHarness) -> None:
        super().__init__()
        self.bench = StoreBench(harness).__enter__()
        self.model = Model(self.bench)
        self.is_virtual = harness.virtual
        declared = harness.capabilities
        self.is_durable = declared.durability is not Durability.NONE
        self.is_shared = declared.reach is not Reach.PROCESS
        self._failed = False

    @rule(
        key=KEYS, value=VALUES, expect=EXPECTED, ttl=st.sampled_from((None, None, 0.000001, 0.4, 1.0, 3600.0))
    )
    def put(self, key: str, value: bytes, expect: str, ttl: float | None) -> None:
        """Write."""
        span = None if ttl is None else timedelta(seconds=ttl)
        if span is not None and not self.is_virtual:
            span = max(span, _HOUR)
        self._do(lambda: self.model.put(key, value, expect, span))

    @rule(keys=st.lists(KEYS, min_size=3, max_size=6, unique=True))
    def put_some(self, keys: list[str]) -> None:
        """Write several: order and pages show only among many."""
        for key in keys:
            self._do(partial(self.model.put, key, key.encode(), "any", None))

    @rule(key=KEYS, value=VALUES, times=st.integers(1, 2), expect=EXPECTED)
    def put_again(self, key: str, value: bytes, times: int, expect: str) -> None:
        """Write what is there once more, with an expectation."""
        for _ in range(times):
            self._do(lambda: self.model.put(key, value, "any", None))
        self._do(lambda: self.model.put(key, value + b"again", expect, None))

    @rule(key=KEYS, times=st.integers(2, 3))
    def put_and_delete(self, key: str, times: int) -> None:
        """Make and remove, again and again: some faults need more than one life of a key."""
        for _ in range(times):
            self._do(lambda: self.model.put(key, b"again", "any", None))
            self._do(lambda: self.model.delete(key, "right"))

    @rule(key=KEYS, expect=EXPECTED)
    def delete(self, key: str, expect: str) -> None:
        """Remove."""
        self._do(lambda: self.model.delete(key, expect))

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        """Read."""
        self._do(lambda: self.model.get(key))

    @rule(
        prefix=st.sampled_from(("", "", "a", "a%", "é", "_")),
        after=st.sampled_from(("", "", "B", "a", "aa", "é")),
        limit=st.integers(1, 4),
    )
    def scan(self, prefix: str, after: str, limit: int) -> None:
        """Read a page."""
        self._do(lambda: self.model.scan(prefix, after, limit))

    @rule(key=KEYS, seen=EXPECTED)
    def wait(self, key: str, seen: str) -> None:
        """Look whether something changed."""
        self._do(lambda: self.model.wait(key, seen))

    @precondition(lambda self: self.is_durable)
    @rule()
    def reopen(self) -> None:
        """Close and open the store."""
        self._do(self.bench.reopen)

    @precondition(lambda self: self.is_shared)
    @rule()
    def change_hands(self) -> None:
        """Go on with another store that has the same entries."""
        self._do(self.model.change_hands)

    @precondition(lambda self: self.is_virtual)
    @rule(span=st.sampled_from((0.000001, 0.2, 0.5, 5000.0)))
    def let_pass(self, span: float) -> None:
        """Let some time pass."""
        self.bench.let_pass(timedelta(seconds=span))

    @precondition(lambda self: self.is_virtual and self.model.next_end() is not None)
    @rule(before=st.sampled_from((NO_PAUSE, MICRO)))
    def let_pass_to_an_end(self, before: timedelta) -> None:
        """Let time pass until an entry ends, or just before that: other steps would miss it."""
        end = self.model.next_end()
        assert end is not None
        self.bench.until(end - before)
        self._do(self.model.whole)

    def _do(self, step: object) -> None:
        try:
            step()  # type: ignore[operator]  # a function without arguments
        except Violation:
            self._failed = True
            raise

    def teardown(self) -> None:
        """Compare all that is there, and close."""
        try:
            if not self._failed:
                self.model.whole()
        finally:
            self.bench.__exit__(None, None, None)


def run_machine(
    harness: StoreHarness,
    *,
    examples: int,
    steps: int,
    seed: int,
    shrink: bool = True,
    machine: type[StoreMachine] = StoreMachine,
) -> None:
    """Run the state machine.

    Raises:
        Violation: The shortest sequence of calls found on which store and model differ.
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

    def opened() -> StoreMachine:
        return machine(harness)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NonInteractiveExampleWarning)
        # Any callable will do, says its documentation; its annotation wants a class.
        run_state_machine_as_test(hypothesis.seed(seed)(opened), settings=settings)  # type: ignore[arg-type]

"""The suite's own promises: nothing can be taken out of it, and what it says can be relied on."""

from __future__ import annotations

import subprocess
import sys
from typing import ClassVar

import pytest
from kessel_conformance import (
    AdapterConformance,
    HandlerConformance,
    HandlerExample,
    Harness,
    MiddlewareConformance,
    Violation,
)
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import Case, Level, known_version
from kessel_conformance.inprocess import NoQueue
from kessel_conformance.runner import Settings, Verdict, run_case

from kessel_core.errors import Fatal, InvalidConfig
from kessel_core.hookspecs import hookimpl
from kessel_core.jobs import Reason, Status
from kessel_core.middleware.expiry import ExpiryMiddleware


class NoQueueHarness(Harness):
    def open(self, clock, namespace):
        return NoQueue()


def up(**options) -> NoQueueHarness:
    harness = NoQueueHarness(**options)
    harness.up()
    return harness


def entered(run, *, since: str = "1.0", needs: tuple[str, ...] = ()) -> Case:
    return Case(id="x.y", clauses=("S9",), level=Level.CORE, since=since, why="a test", run=run, needs=needs)


def fails(bench: Bench) -> None:
    bench.history.add("something was done")
    bench.broken("it does not hold")


def test_test_of_the_suite_cannot_be_overridden() -> None:
    with pytest.raises(TypeError, match="replaces a test"):

        class TestCheats(AdapterConformance):
            harness = NoQueueHarness()

            def test_conformance(self):
                pass


def test_test_of_the_suite_cannot_be_hidden_by_a_mixin() -> None:
    class Quiet:
        test_conformance = None

    with pytest.raises(TypeError, match="replaces a test"):

        class TestCheats(Quiet, AdapterConformance):
            harness = NoQueueHarness()


def test_class_that_pytest_would_not_collect_is_refused() -> None:
    with pytest.raises(TypeError, match="would not be collected"):

        class Foo(AdapterConformance):
            harness = NoQueueHarness()


def test_class_without_harness_is_refused() -> None:
    with pytest.raises(TypeError, match="needs `harness"):

        class TestNothing(AdapterConformance):
            pass


@pytest.mark.parametrize("expected", [{"no.such_case": "why"}, {"delay.never_early": " "}])
def test_expected_failures_need_a_known_case_and_a_reason(expected: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected_failures"):

        class TestFoo(AdapterConformance):
            harness = NoQueueHarness(expected_failures=expected)


def test_failure_is_told_with_its_history() -> None:
    outcome = run_case(up(), entered(fails), Settings())
    assert outcome.verdict is Verdict.FAIL
    assert "S9: it does not hold" in outcome.reason
    assert "something was done" in outcome.example
    assert outcome.told.index(outcome.reason) < outcome.told.index(outcome.example)


def test_expected_failure_that_fails_is_none_and_one_that_passes_is() -> None:
    harness = up(expected_failures={"x.y": "known, see issue 1"})
    assert run_case(harness, entered(fails), Settings()).verdict is Verdict.XFAIL
    outcome = run_case(harness, entered(lambda bench: None), Settings())
    assert outcome.verdict is Verdict.FAIL
    assert "passes now" in outcome.reason


def test_expected_failure_that_does_not_apply_is_told() -> None:
    """S17: a list of known failures must not outlive the capability that they are about."""
    harness = up(expected_failures={"x.y": "known, see issue 1"})
    outcome = run_case(harness, entered(fails, needs=("lease",)), Settings())
    assert outcome.verdict is Verdict.FAIL
    assert "lease is not declared" in outcome.reason


def test_disabled_case_is_neither_a_pass_nor_a_skip() -> None:
    outcome = run_case(up(disabled={"x.y": "the server forgets it"}), entered(fails), Settings())
    assert (outcome.verdict, outcome.reason) == (Verdict.DISABLED, "the server forgets it")


def test_brace_that_stands_for_nothing_is_refused() -> None:
    harness = Harness(url="foo://localhost:{port}/{namespace}")
    with pytest.raises(InvalidConfig, match=r"\{port\} is not known; known: \{namespace\}, \{tmp\}"):
        harness.up()


def test_case_newer_than_the_pinned_suite_is_advisory() -> None:
    newer = entered(fails, since="1.1")
    assert run_case(up(), newer, Settings(suite="1.0")).verdict is Verdict.ADVISORY
    assert run_case(up(), newer, Settings()).verdict is Verdict.FAIL


@pytest.mark.parametrize("text", ["2", "99.0", "0.9", "one", "", "1.0.0"])
def test_unknown_suite_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        known_version(text)


def test_undeclared_capability_is_a_named_skip() -> None:
    outcome = run_case(up(), entered(fails, needs=("lease",)), Settings())
    assert (outcome.verdict, outcome.reason) == (Verdict.SKIP, "lease is not declared")


def test_violation_reads_as_clause_reason_and_history() -> None:
    assert str(Violation("S4", "too early", "  0.000  put")).splitlines()[0] == "S4: too early"


def test_pytest_plugin_loads_neither_hypothesis_nor_cases() -> None:
    code = (
        "import sys, kessel_conformance.pytest_plugin\n"
        "names = ('hypothesis', 'kessel_core', 'kessel_conformance.')\n"
        "print([m for m in sys.modules if m.startswith(names)])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "['kessel_conformance.pytest_plugin']"


def double(payload: int) -> int:
    return payload * 2


def picky(payload: object) -> object:
    raise Fatal("never")


class TestHandlers(HandlerConformance):
    handlers: ClassVar = {"double": double, "picky": picky}
    examples: ClassVar = [
        HandlerExample(type="double", payload=21, value=42),
        HandlerExample(type="picky", status=Status.FAILED, reason=Reason.ERROR),
    ]


class TestBuiltInExpiry(MiddlewareConformance):
    def make(self) -> object:
        return ExpiryMiddleware()


class TestSuiteOfMiddlewareBites:
    def test_one_that_swallows_failures_is_found(self) -> None:
        class _Suite(MiddlewareConformance):
            def make(self) -> object:
                class Cheerful:
                    @hookimpl(wrapper=True)
                    def kessel_execute_job(self, job):
                        import attrs

                        result = yield
                        return attrs.evolve(result, value="fine")

                return Cheerful()

        with pytest.raises(AssertionError):
            _Suite().test_success_is_passed_on()


class TestSuiteOfHandlersBites:
    def test_type_without_example_is_found(self) -> None:
        class _Suite(HandlerConformance):
            handlers: ClassVar = {"double": double}
            examples = ()

        with pytest.raises(AssertionError, match="double"):
            _Suite().test_every_type_has_an_example()

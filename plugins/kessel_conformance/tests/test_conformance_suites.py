"""The suite's own promises: nothing can be taken out of it, and what it says can be relied on."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import timedelta
from typing import Any, ClassVar

import attrs
import pytest
from kessel_conformance import (
    AdapterConformance,
    HandlerConformance,
    HandlerExample,
    Harness,
    MiddlewareConformance,
    Violation,
    lockstep,
)
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import Case, Level, cases, known_version
from kessel_conformance.inprocess import NoQueue
from kessel_conformance.outcome import Verdict
from kessel_conformance.plans import random_plan
from kessel_conformance.requirements import LEASE, VIRTUAL_CLOCK, Requirement
from kessel_conformance.runner import run_case
from kessel_conformance.settings import Settings
from kessel_conformance.steps import Drop

from kessel_core import Fatal, InvalidConfig, JobResult, Reason, Status, hookimpl
from kessel_core.testing import VirtualClock


class NoQueueHarness(Harness):
    def open(self, clock, namespace):
        return NoQueue()


def up(**options) -> NoQueueHarness:
    harness = NoQueueHarness(**options)
    harness.up()
    return harness


def entered(run, *, since: str = "1.0", needs: tuple[Requirement, ...] = ()) -> Case:
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


@pytest.mark.parametrize("listed", ["expected_failures", "disabled", "still"])
@pytest.mark.parametrize(
    ("named", "why"),
    [
        ({"delay.never_earlier": "why"}, "not a case; did you mean 'delay.never_early'"),
        ({"delay.never_early": " "}, "needs a reason"),
    ],
)
def test_what_a_harness_lists_needs_a_known_case_and_a_reason(
    listed: str, named: dict[str, str], why: str
) -> None:
    with pytest.raises(ValueError, match=f"{listed}: .* {why}"):

        class TestFoo(AdapterConformance):
            harness = NoQueueHarness(**{listed: named})


def test_failure_is_shown_with_its_history() -> None:
    outcome = run_case(up(), entered(fails), Settings())
    assert outcome.verdict is Verdict.FAIL
    assert "S9: it does not hold" in outcome.reason
    assert "something was done" in outcome.example
    assert outcome.text.index(outcome.reason) < outcome.text.index(outcome.example)


def test_expected_failure_that_fails_is_none_and_one_that_passes_is() -> None:
    harness = up(expected_failures={"x.y": "known, see issue 1"})
    assert run_case(harness, entered(fails), Settings()).verdict is Verdict.XFAIL
    outcome = run_case(harness, entered(lambda bench: None), Settings())
    assert outcome.verdict is Verdict.FAIL
    assert "passes now" in outcome.reason


def test_expected_failure_that_does_not_apply_fails() -> None:
    """S17: a list of known failures must not outlive the capability that they are about."""
    harness = up(expected_failures={"x.y": "known, see issue 1"})
    outcome = run_case(harness, entered(fails, needs=(LEASE,)), Settings())
    assert outcome.verdict is Verdict.FAIL
    assert "for adapters that declare lease" in outcome.reason


def test_disabled_case_is_neither_a_pass_nor_a_skip() -> None:
    outcome = run_case(up(disabled={"x.y": "the server forgets it"}), entered(fails), Settings())
    assert (outcome.verdict, outcome.reason) == (Verdict.DISABLED, "the server forgets it")


def test_brace_that_stands_for_nothing_is_refused() -> None:
    harness = Harness(url="foo://localhost:{port}/{namespace}")
    with pytest.raises(InvalidConfig, match=r"\{port\} is not known; known: \{namespace\}, \{tmp\}"):
        harness.up()


def test_cases_that_share_a_store_do_not_meet_the_jobs_of_one_another() -> None:
    """A URL without `{namespace}` is what everybody types first, and cases that wait run side by side."""
    harness = Harness(url="sqlite:///{tmp}/jobs.db")
    harness.up()
    try:
        with Bench(harness) as bench, bench.beside() as other:
            for one in (bench, other):
                one.taken(one.consumer(one.put().queue))
        for _ in range(2):
            assert run_case(harness, cases()["stats.oldest_was_delayed"], Settings()).verdict is Verdict.PASS
    finally:
        harness.down()


def test_cases_that_set_the_wall_clock_are_alone_for_leases_in_a_shared_file_may_go_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SQLite moves all leases of a file with the clock: those of a case beside it ended an hour early."""
    jumps: list[timedelta] = []
    monkeypatch.setattr(VirtualClock, "jump_wall", lambda clock, span: jumps.append(span))
    harness = Harness(url="memory://")
    harness.up()
    setting: set[str] = set()
    try:
        for case in cases().values():
            if VIRTUAL_CLOCK in case.needs:
                run_case(harness, case, Settings())
                setting |= {case.id} if jumps else set()
                jumps.clear()
    finally:
        harness.down()
    assert setting == {
        "clocks.due_over_a_jump",
        "clocks.lease_over_a_jump",
        "clocks.return_over_a_jump",
        "delay.none_is_at_once",
    }
    assert all(cases()[case_id].alone for case_id in setting)


@pytest.mark.parametrize(
    "case_id",
    [
        "consumer.close_returns_job",
        "model.any_plan",
        "order.tie_after_every_way",
        "priority.kept_on_every_way",
    ],
)
def test_no_case_waits_for_the_end_of_a_lease_that_is_too_long_for_a_real_clock(case_id: str) -> None:
    slept: list[float] = []

    class Awake(Harness):
        def sleep(self, seconds: float) -> None:
            slept.append(seconds)
            super().sleep(min(seconds, 1.0))

    harness = Awake(url="memory://{namespace}?lease=60s", real_clock=True)
    harness.up()
    try:
        outcome = run_case(harness, cases()[case_id], Settings())
    finally:
        harness.down()
    assert (outcome.verdict, outcome.reason) == (Verdict.PASS, "")
    assert sum(slept) < 60


def test_case_newer_than_the_pinned_suite_is_advisory() -> None:
    newer = entered(fails, since="1.1")
    assert run_case(up(), newer, Settings(suite="1.0")).verdict is Verdict.ADVISORY
    assert run_case(up(), newer, Settings()).verdict is Verdict.FAIL
    holds = entered(lambda bench: None, since="1.1")
    assert run_case(up(), holds, Settings(suite="1.0")).verdict is Verdict.PASS


@pytest.mark.parametrize("text", ["2", "99.0", "0.9", "one", "", "1.0.0"])
def test_unknown_suite_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        known_version(text)


def test_undeclared_capability_is_a_named_skip() -> None:
    outcome = run_case(up(), entered(fails, needs=(LEASE,)), Settings())
    assert (outcome.verdict, outcome.reason) == (Verdict.SKIP, "for adapters that declare lease")


def test_violation_reads_as_clause_reason_and_history() -> None:
    assert str(Violation("S4", "too early", "  0.000  put")).splitlines()[0] == "S4: too early"


def test_pytest_plugin_loads_neither_hypothesis_nor_cases() -> None:
    code = (
        "import sys, kessel_conformance.pytest_plugin\n"
        "names = ('hypothesis', 'kessel_core', 'kessel_conformance.')\n"
        "print([m for m in sys.modules if m.startswith(names)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "['kessel_conformance.pytest_plugin']"


def test_cases_are_in_one_order_whichever_module_of_them_was_imported_first() -> None:
    code = (
        "import kessel_conformance.cases.waking\n"
        "from kessel_conformance.catalogue import cases\n"
        "print(*cases(), sep=chr(10))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    found = done.stdout.split()
    assert found == list(cases())
    assert found[0].startswith("enqueue."), "those of the first module"


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


class Cheerful:
    """Makes a success of everything."""

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job):
        result = yield
        return attrs.evolve(result, status=Status.SUCCESS, reason=None, value="fine")


class Sulky:
    """Remembers a failure, and fails ever after."""

    def __init__(self):
        self.hurt = False

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job):
        result = yield
        self.hurt = self.hurt or not result.ok
        return attrs.evolve(result, status=Status.FAILED, value=None) if self.hurt else result


class OnlyOnce:
    """Works for the first job of the process."""

    used = False

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job):
        result = yield
        was_used, OnlyOnce.used = OnlyOnce.used, True
        return attrs.evolve(result, status=Status.FAILED) if was_used else result


class Stopping:
    """Stops every job."""

    @hookimpl
    def kessel_execute_job(self, job):
        return JobResult(id=job.id, request=job.request, status=Status.FAILED, reason=Reason.ERROR)


class Peeking:
    """Says that it stops jobs, but lets them run."""

    @hookimpl
    def kessel_execute_job(self, job):
        return None


@pytest.mark.parametrize(
    ("middleware", "stops", "test"),
    [
        (Cheerful, False, "test_success_is_passed_on"),
        (Cheerful, False, "test_failures_are_passed_on"),
        (Sulky, False, "test_failures_are_passed_on"),
        (Stopping, False, "test_success_is_passed_on"),
        (OnlyOnce, False, "test_works_twice_and_in_any_order"),
        (Peeking, True, "test_stopped_job_has_a_result"),
    ],
)
def test_suite_of_middleware_bites(middleware: type, stops: bool, test: str) -> None:
    class _Suite(MiddlewareConformance):
        stops_jobs = stops

        def make(self) -> object:
            return middleware()

    OnlyOnce.used = False
    with pytest.raises(AssertionError):
        getattr(_Suite(), test)()


class TestStopping(MiddlewareConformance):
    stops_jobs = True

    def make(self) -> object:
        return Stopping()


@pytest.mark.parametrize(
    ("handlers", "examples", "test"),
    [
        ({"double": double}, [], "test_every_type_has_an_example"),
        (
            {"double": double},
            [HandlerExample(type="double", payload=2, value=5)],
            "test_examples_end_as_they_say",
        ),
        (
            {"picky": picky},
            [HandlerExample(type="picky")],
            "test_examples_end_as_they_say",
        ),
        (
            {"set": lambda payload: {1}},
            [HandlerExample(type="set")],
            "test_examples_end_as_they_say",
        ),
        ({"gone": double}, [HandlerExample(type="typo", payload=2)], "test_examples_end_as_they_say"),
    ],
)
def test_suite_of_handlers_bites(handlers: dict, examples: list, test: str) -> None:
    given = (handlers, examples)

    class _Suite(HandlerConformance):
        handlers, examples = given

    with pytest.raises(AssertionError):
        getattr(_Suite(), test)()


def test_examples_that_can_be_read_once_are_read_by_every_test() -> None:
    class TestOnce(HandlerConformance):
        handlers: ClassVar = {"double": double}
        examples: ClassVar = (HandlerExample(type="double", payload=n, value=2 * n) for n in (1, 2))

    assert len(list(TestOnce.examples)) == len(list(TestOnce.examples)) == 2


def test_sister_without_what_it_needs_is_refused() -> None:
    with pytest.raises(TypeError, match="needs `examples"):

        class TestNoExamples(HandlerConformance):
            handlers: ClassVar = {"double": double}

    with pytest.raises(TypeError, match="needs `def make"):

        class TestNoMake(MiddlewareConformance):
            pass


def test_reserve_that_waits_is_in_the_list_of_calls_before_it_returns() -> None:
    """A call that hangs is what such a list is read for."""
    bench = Bench(up())
    seen: list[str] = []

    class Waits:
        def reserve(self, timeout: timedelta) -> None:
            seen.append(bench.history.text())

    with bench:
        waits: Any = Waits()
        assert bench.reserve(waits, timedelta(seconds=5)) is None
        bench.reserve(waits)
    assert "a worker begins to wait, up to 5 s" in seen[0]
    first, second, *rest = (line.split(maxsplit=1)[1] for line in bench.history.text().splitlines())
    assert (first, second) == (
        "a worker begins to wait, up to 5 s",
        "a worker reserves, waiting up to 5 s -> nothing",
    )
    assert rest == ["a worker reserves -> nothing"]


@pytest.mark.parametrize(("lease", "drops"), [("5s", True), ("60s", False)])
def test_plans_drop_what_is_held_where_its_lease_can_be_waited_for(
    monkeypatch: pytest.MonkeyPatch, lease: str, drops: bool
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(lockstep, "play", lambda *_: [])
    monkeypatch.setattr(lockstep, "random_plan", lambda *_, drops: asked.append(drops))
    harness = Harness(url=f"memory://{{namespace}}?lease={lease}", real_clock=True)
    harness.up()
    try:
        lockstep.run_lockstep(harness, queues=1, rounds=1, seed=0)
    finally:
        harness.down()
    assert asked == [drops]
    rounds = random_plan(random.Random(1), 200, 1.0, drops=drops)
    assert any(isinstance(step, Drop) for steps in rounds for step in steps) is drops

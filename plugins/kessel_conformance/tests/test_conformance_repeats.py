"""Failures in real time on a busy machine: they are repeated; all others count at once."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable

import attrs
import pytest
from kessel_conformance import Harness
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import catalogue_of
from kessel_conformance.history import Violation
from kessel_conformance.outcome import Outcome, Verdict
from kessel_conformance.processor import Processor, Pulse
from kessel_conformance.runner import Run, run_case
from kessel_conformance.settings import Settings

#: One that runs with the others, and two that run aside, the second alone.
IDS = ("enqueue.many_in_order", "durable.reopened", "durable.server_restart")


def stand_still() -> None:
    """Hold the lock of the interpreter for a second and more."""
    ctypes.PyDLL(None).usleep(1_200_000)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Let each case have the processor for so many seconds, and be kept from it for so many.

    Nothing else tells of a busy machine: the pulse of a run does not look.
    """

    def make(had: float, denied: float) -> None:
        counted = iter(range(1000))

        def so_far() -> Processor:
            number = next(counted) % 2
            return Processor(had * number, denied * number)

        monkeypatch.setattr(Processor, "so_far", so_far)
        monkeypatch.setattr(Pulse, "start", lambda self: None)

    return make


def ended(
    monkeypatch: pytest.MonkeyPatch,
    failures: int,
    *,
    case_id: str = IDS[0],
    real: bool = True,
    repeats: int = 2,
    before: Callable[[], None] = lambda: None,
) -> tuple[Outcome, int]:
    """Run a case that fails so many times, after something; return its outcome, and how often it ran."""
    ran: list[None] = []

    def run(bench: object) -> None:
        ran.append(None)
        if len(ran) <= failures:
            before()
            raise Violation("S4", "late", "history")

    case = attrs.evolve(catalogue_of("adapter").cases()[case_id], run=run, needs=())
    monkeypatch.setattr(type(catalogue_of("adapter")), "cases", lambda _: {case_id: case})
    suite = Run(Harness(url="memory://", real_clock=real), Settings(repeats=repeats), [case_id])
    suite.up()
    try:
        return suite.outcome(case_id), len(ran)
    finally:
        suite.down()


@pytest.mark.parametrize("case_id", IDS)
def test_a_failure_in_real_time_on_a_busy_machine_is_repeated_and_told(
    monkeypatch: pytest.MonkeyPatch, busy: Callable[[float, float], None], case_id: str
) -> None:
    busy(0.1, 0.5)
    outcome, ran = ended(monkeypatch, 2, case_id=case_id)
    assert (outcome.verdict, ran) == (Verdict.PASS, 3)
    assert outcome.reason == "repeated, the machine was busy: S4: late"


def test_what_fails_each_time_fails_on_a_busy_machine_too(
    monkeypatch: pytest.MonkeyPatch, busy: Callable[[float, float], None]
) -> None:
    busy(0.1, 0.5)
    outcome, ran = ended(monkeypatch, 9)
    assert (outcome.verdict, outcome.reason, ran) == (Verdict.FAIL, "S4: late", 3)


@pytest.mark.parametrize(("had", "denied"), [(0.0, 0.0), (0.5, 0.4), (0.01, 0.05)])
def test_a_failure_on_a_machine_that_is_not_busy_counts_at_once(
    monkeypatch: pytest.MonkeyPatch, busy: Callable[[float, float], None], had: float, denied: float
) -> None:
    busy(had, denied)
    outcome, ran = ended(monkeypatch, 1)
    assert (outcome.verdict, ran) == (Verdict.FAIL, 1)


@pytest.mark.parametrize(("lease", "repeated"), [("50ms", True), ("60s", False)])
def test_a_lease_that_was_over_is_the_slow_machines_and_one_that_is_refused_before_is_the_adapters(
    monkeypatch: pytest.MonkeyPatch, busy: Callable[[float, float], None], lease: str, repeated: bool
) -> None:
    busy(0.5, 0.0)
    tried: list[None] = []

    def run(bench: Bench) -> None:
        tried.append(None)
        consumer = bench.consumer()
        held = bench.gets(consumer, bench.put(), "the job")
        if len(tried) == 1:
            time.sleep(0.1)
            if not repeated:
                bench.adapter.give_back(held)  # so that the settle is refused, though the lease goes on
        bench.settle(consumer, held)

    case = attrs.evolve(catalogue_of("adapter").cases()[IDS[0]], run=run, needs=())
    monkeypatch.setattr(type(catalogue_of("adapter")), "cases", lambda _: {case.id: case})
    suite = Run(Harness(url=f"memory://{{namespace}}?lease={lease}", real_clock=True), Settings(), [case.id])
    suite.up()
    try:
        verdict = suite.outcome(case.id).verdict
    finally:
        suite.down()
    assert (len(tried), verdict) == ((2, Verdict.PASS) if repeated else (1, Verdict.FAIL))


def test_what_passes_on_a_busy_machine_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, busy: Callable[[float, float], None]
) -> None:
    busy(0.1, 0.5)
    outcome, ran = ended(monkeypatch, 0)
    assert (outcome.verdict, outcome.reason, ran) == (Verdict.PASS, "", 1)


@pytest.mark.parametrize("earlier", [0.0, 500.0])
def test_only_what_the_thread_was_denied_since_then_makes_it_busy(earlier: float) -> None:
    before = Processor(had=earlier, denied=earlier)
    assert Processor(earlier + 0.1, earlier + 0.5).was_busy_since(before)
    assert not Processor(earlier + 0.5, earlier + 0.4).was_busy_since(before)


def test_a_failure_in_virtual_time_counts_at_once(
    monkeypatch: pytest.MonkeyPatch, busy: Callable[[float, float], None]
) -> None:
    busy(0.1, 0.5)
    outcome, ran = ended(monkeypatch, 1, real=False)
    assert (outcome.verdict, ran) == (Verdict.FAIL, 1)


def test_who_measures_the_suite_may_do_without_repeats(
    monkeypatch: pytest.MonkeyPatch, busy: Callable[[float, float], None]
) -> None:
    busy(0.1, 0.5)
    outcome, ran = ended(monkeypatch, 1, repeats=0)
    assert (outcome.verdict, ran) == (Verdict.FAIL, 1)


def test_a_failure_while_no_thread_of_the_process_got_its_turn_is_repeated(
    monkeypatch: pytest.MonkeyPatch, busy: Callable[[float, float], None]
) -> None:
    """As among a hundred others, of which the thread of the case, which waits for a server, knows nothing."""
    busy(0.5, 0.0)
    monkeypatch.setattr(Pulse, "was_late_since", lambda self, beats: True)
    outcome, ran = ended(monkeypatch, 1)
    assert (outcome.verdict, ran) == (Verdict.PASS, 2)
    assert outcome.reason == "repeated, the machine was busy: S4: late"
    outcome, ran = ended(monkeypatch, 1, real=False)
    assert (outcome.verdict, ran) == (Verdict.FAIL, 1)


def test_a_run_has_a_pulse_and_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, ran = ended(monkeypatch, 1, before=stand_still)
    assert (outcome.verdict, ran) == (Verdict.PASS, 2)
    assert "kessel-pulse" not in {thread.name for thread in threading.enumerate()}


def test_a_pulse_notices_that_the_process_stands_still() -> None:
    pulse = Pulse()
    assert not pulse.was_late_since(0)
    pulse.start()
    try:
        begun = pulse.beats
        stand_still()
        end = time.monotonic() + 10
        while not pulse.was_late_since(begun):
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        pulse.stop()


@pytest.mark.parametrize(
    ("looks", "since", "was_late"),
    [
        ([0.005] * 40, 0, False),
        ([0.03] * 40, 0, True),
        ([0.001] * 39 + [0.6], 0, True),
        # What was before the case does not count ...
        ([0.6] + [0.001] * 40, 1, False),
        ([0.03] * 40 + [0.001] * 20, 40, False),
        ([0.001] * 40 + [0.03] * 20, 40, True),
        # ... but for one that is too short to tell by itself.
        ([0.03] * 40 + [0.001], 40, True),
        ([0.03] * 40, 40, True),
        ([0.001] * 40, 40, False),
        ([0.03] * 3, 0, True),
    ],
)
def test_a_pulse_is_late_that_does_not_get_its_turn_on_the_average(
    monkeypatch: pytest.MonkeyPatch, looks: list[float], since: int, was_late: bool
) -> None:
    pulse = Pulse()
    monkeypatch.setattr(pulse, "_late", looks)
    assert pulse.was_late_since(since) is was_late


def test_what_a_thread_had_of_the_processor_only_grows() -> None:
    before = Processor.so_far()
    sum(range(2_000_000))
    after = Processor.so_far()
    assert after.had >= before.had >= 0.0
    assert after.denied >= before.denied >= 0.0


@pytest.mark.parametrize(("looks", "is_doubtful"), [([0.6] + [0.001] * 40, False), ([0.03] * 40, True)])
def test_what_the_pulse_has_seen_before_a_case_does_not_excuse_it(
    monkeypatch: pytest.MonkeyPatch,
    busy: Callable[[float, float], None],
    looks: list[float],
    is_doubtful: bool,
) -> None:
    def run(bench: object) -> None:
        raise Violation("S4", "late", "history")

    busy(0.5, 0.0)
    pulse = Pulse()
    monkeypatch.setattr(pulse, "_late", looks)
    case = attrs.evolve(catalogue_of("adapter").cases()[IDS[0]], run=run, needs=())
    harness = Harness(url="memory://", real_clock=True)
    harness.up()
    try:
        outcome = run_case(harness, case, Settings(), pulse)
    finally:
        harness.down()
    assert (outcome.verdict, outcome.is_doubtful) == (Verdict.FAIL, is_doubtful)

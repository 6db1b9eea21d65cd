"""`Simulation` as its users meet it (S43)."""

from __future__ import annotations

import _thread
import logging
import random
import re
import signal
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.entries import MemoryStore

from kessel_core import (
    Config,
    Fatal,
    HistoryConfig,
    InvalidConfig,
    InvalidRequest,
    JobContext,
    JobRequest,
    KesselError,
    ResultsConfig,
    Snooze,
    handler,
)
from kessel_core.contract import Buried, CapabilityMissing, Delete, Pause, Reach, StoreCapabilities, need
from kessel_core.testing import Seed, Simulation, Stuck, Totals, Violation, for_each_seed
from kessel_core.testing.simulation import strands

SECOND: Final = timedelta(seconds=1)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "@" in thread.name}


def test_two_workers_share_the_work_and_an_hour_passes_in_an_instant() -> None:
    ran: list[object] = []
    begun = time.monotonic()

    def work(payload: object) -> None:
        simulation.spend(600)
        ran.append(payload)

    with Simulation({"a": work}, seed=1, workers=2, slots=1) as simulation:
        simulation.manager.request_many([("a", n) for n in range(12)])
        simulation.run_until_idle()
        assert simulation.clock.monotonic() - 1000 == pytest.approx(3600, abs=1)
    assert sorted(map(str, ran)) == sorted(map(str, range(12)))
    assert time.monotonic() - begun < 60
    assert simulation.counts == {"jobs": 12, "runs": 12, "deaths": 0, "faults": 0, "jumps": 0, "stops": 0}
    assert {event.who for event in simulation.history if event.what == "runs"} == {
        "kessel-slot-1@1",
        "kessel-slot-1@2",
    }


def test_s39_no_history_is_written_beside_that_of_the_simulation() -> None:
    config = Config(history=HistoryConfig(keep=60 * SECOND))
    with Simulation({"a": lambda payload: None}, seed=1, config=config) as simulation:
        simulation.manager.request("a")
        simulation.run_until_idle()
        assert simulation.manager.store.scan("events") == []
        assert not any(thread.name == "kessel-history" for thread in threading.enumerate())


def test_a_process_that_dies_takes_all_its_threads_and_what_they_would_have_done() -> None:
    """A death in the middle of a handler: no `finally` of it has an effect before the end of the run."""
    before = threads()
    begun: list[str] = []
    ended: list[str] = []

    def work(payload: object, job: JobContext) -> None:
        begun.append(job.id)
        try:
            simulation.spend(9 * simulation.random())
        finally:
            ended.append(job.id)

    for number in range(5):
        with Simulation({"a": work}, seed=number, deaths=0.05) as simulation:
            simulation.manager.request_many([("a", n) for n in range(10)])
            simulation.run_until_idle()
            assert simulation.counts["deaths"] > 0
            at_rest = len(begun) - len(ended)
        assert not threads() - before, "now they have ended"
        if at_rest:
            return
    pytest.fail("no process died while its handler ran")


def test_leases_of_a_dead_process_are_not_extended() -> None:
    """Its heartbeat dies, too, so that its jobs come back."""
    lines = []
    for number in range(8):
        with Simulation({"a": lambda payload: simulation.spend(50)}, seed=number, deaths=0.05) as simulation:
            simulation.manager.request_many([("a", n) for n in range(4)])
            simulation.run_until_idle()
        lines += simulation.history
        dead: set[str] = set()
        for event in simulation.history:
            if "DIES" in event.what:
                dead.add(event.who.partition("@")[2])
            elif event.what not in ("the test fails",):
                assert event.who.partition("@")[2] not in dead, event
    assert any(event.what == "extended" for event in lines)
    assert any("DIES" in event.what for event in lines)


def test_a_process_that_died_is_replaced_after_a_while() -> None:
    found = 0
    for number in range(4):
        with Simulation({"a": len}, seed=number, workers=2, deaths=0.05) as simulation:
            simulation.manager.request_many([("a", []) for _ in range(10)])
            simulation.run_until_idle()
        begun = {event.who: event.at for event in simulation.history if event.what.endswith("begins")}
        died = [event.at for event in simulation.history if "DIES" in event.what]
        for replacement, at in enumerate(died, 3):
            if (name := f"main@{replacement}") in begun:
                assert 0 < begun[name] - at <= 20
                found += 1
    assert found > 0


def test_a_stopped_process_gives_back_what_does_not_end_in_time_and_is_replaced() -> None:
    """S21, fault 36."""
    with Simulation({"a": lambda payload: simulation.spend(45)}, seed=6, workers=1, stops=0.5) as simulation:
        simulation.manager.request_many([("a", n) for n in range(12)])
        simulation.run_until_idle()
    whats = [event.what for event in simulation.history]
    assert simulation.counts["stops"] > 0
    assert "given back" in whats
    assert whats.count("process 2 begins") == 1


def test_what_handlers_draw_and_all_ids_follow_from_the_seed_and_nothing_is_left_of_it() -> None:
    def drawn(seed: int) -> list[object]:
        found: list[object] = []

        def work(payload: object, job: JobContext) -> None:
            found.extend([job.id, random.random(), simulation.random()])

        with Simulation({"a": work}, seed=seed) as simulation:
            simulation.manager.request("a")
            simulation.run_until_idle()
        return found

    random.seed(7)
    before = random.getstate()
    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert random.getstate() == before


def test_kessel_logs_nothing_meanwhile_and_as_before_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    def fail(payload: object) -> None:
        raise Fatal("no")

    logger = logging.getLogger("kessel")
    before = logger.level, logger.propagate, logger.handlers
    with Simulation({"a": fail}, seed=1) as simulation:
        simulation.manager.request("a")
        simulation.run_until_idle()
    assert (logger.level, logger.propagate, logger.handlers) == before
    assert not caplog.records


def test_the_test_can_wait_for_a_result() -> None:
    with Simulation(
        {"a": lambda n: simulation.spend(n) or n},  # type: ignore[func-returns-value]
        seed=1,
        config=Config(results=ResultsConfig(keep=60 * SECOND)),
    ) as simulation:
        job = simulation.manager.request("a", 20)
        assert simulation.manager.result(job.id, 60 * SECOND).value == 20
        simulation.run_until_idle()
        later = simulation.manager.request("a", 21, delay=timedelta(days=2))
        assert simulation.manager.result(later.id, timedelta(days=3)).value == 21


def test_a_job_that_never_ends_is_told_when_the_limit_is_over() -> None:
    def never(payload: object) -> None:
        raise Snooze(60 * SECOND)

    with (
        pytest.raises(Violation, match=r"liveness: not idle after .* 1 jobs are left") as failure,
        Simulation({"a": never}, seed=1) as simulation,
    ):
        job = simulation.manager.request("a")
        simulation.run_until_idle(limit=timedelta(hours=1))
    assert failure.value.jobs == (job.id,)


def test_processes_that_only_die_are_told_long_before_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kessel_core.testing.simulation.simulation._MOST_IN_VAIN", 20)
    with (
        pytest.raises(Violation, match=r"21 processes died one after the other, .* `deaths`") as failure,
        Simulation({"a": len}, seed=1, deaths=1.0) as simulation,
    ):
        job = simulation.manager.request("a", [])
        simulation.run_until_idle()
    assert failure.value.jobs == (job.id,)


def test_processes_that_die_while_no_job_is_due_are_no_fault() -> None:
    with Simulation({"a": len}, seed=1, workers=1, slots=1, deaths=0.2) as simulation:
        simulation.manager.request("a", [], delay=timedelta(minutes=20))
        simulation.run_until_idle()
        assert simulation._ledger.in_vain < simulation.counts["deaths"] > 5


def test_idle_is_when_no_handler_runs_any_more_not_even_one_that_has_lost_its_job() -> None:
    ended: list[int] = []

    @handler("a", timeout=5 * SECOND)
    def work(payload: object, job: JobContext) -> None:
        if job.attempt == 1:
            simulation.spend(600)
        ended.append(job.attempt)

    with Simulation([work], seed=1, adapter="memory://?lease=30s") as simulation:
        simulation.manager.request("a")
        simulation.run_until_idle()
        assert ended == [2, 1]
        assert simulation.clock.monotonic() - 1000 == pytest.approx(600, abs=1)


def test_operators_kick_delete_pause_and_purge_and_the_history_knows() -> None:
    ran: list[object] = []

    def work(payload: object) -> None:
        ran.append(payload)
        if len(ran) == 1:
            raise Fatal("the first time")

    with Simulation({"a": work}, seed=1) as simulation:
        manager = simulation.manager
        job = manager.request("a", 1)
        simulation.run_until_idle()
        need(manager.adapter, Buried).kick("default", job.id)
        simulation.run_until_idle()
        assert ran == [1, 1]
        need(manager.adapter, Pause).pause("default", timedelta(hours=1))
        other = manager.request("a", 2)
        manager.request_many([JobRequest(type="a", payload=3, delay=SECOND) for _ in range(3)])
        simulation.spend(60)
        need(manager.adapter, Delete).delete("default", other.id)
        assert manager.adapter.purge("default") == 3
        simulation.run_until_idle()
    assert ran == [1, 1]


def test_functions_cannot_be_called_back_across_processes() -> None:
    """S17, S22: in a simulation as between real processes."""
    with (
        Simulation({"a": len}, seed=1) as simulation,
        pytest.raises(InvalidRequest, match="only be called in"),
    ):
        simulation.manager.request("a", [], callback=print)


def test_handlers_may_request_and_what_they_meet_are_the_faults_of_their_process() -> None:
    met: list[str] = []

    def work(payload: int) -> None:
        try:
            if payload:
                simulation.manager.request("a", payload - 1)
        except KesselError as exc:
            met.append(type(exc).__name__)

    with Simulation({"a": work}, seed=2, faults=0.3) as simulation:
        simulation.manager.request_many([("a", 3) for _ in range(8)])
        simulation.run_until_idle()
    assert {"AdapterUnavailable", "EnqueueUnknown"} <= set(met)


# --- mistakes --------------------------------------------------------------------------------------------


def test_wrong_arguments_are_told_together() -> None:
    with pytest.raises(
        ValueError, match=r"deaths must .* got 2; stops must .* got 'x'; workers must .* got 0"
    ):
        Simulation({}, seed=1, deaths=2, stops="x", workers=0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="number"):
        Simulation({}, seed="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"slots": 0}, {"queues": ["a b"]}, {"handlers": {"": len}}])
def test_what_a_manager_refuses_is_refused_before_anything_runs(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig), Simulation(**({"handlers": {"a": len}, "seed": 1} | wrong)):
        pytest.fail("it opened")
    with Simulation({"a": len}, seed=1):
        pass  # and another one can be opened


def test_one_at_a_time_once_and_only_while_it_is_open() -> None:
    simulation = Simulation({"a": len}, seed=1)
    with pytest.raises(KesselError, match="not open"):
        _ = simulation.manager
    with simulation, pytest.raises(KesselError, match="another simulation"), Simulation({}, seed=2):
        pass
    with pytest.raises(KesselError, match="runs once"), simulation:
        pass
    with pytest.raises(KesselError, match="only the test itself"):
        simulation.run_until_idle()
    with pytest.raises(KesselError, match="is over"):
        simulation.spend(1)


@pytest.mark.parametrize("broken", [MemoryAdapter, MemoryStore])
def test_a_queue_or_store_without_virtual_time_is_refused(
    broken: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S17."""
    if broken is MemoryAdapter:
        monkeypatch.setattr(MemoryAdapter, "facet", lambda self, kind: None)
    else:
        monkeypatch.setattr(MemoryStore, "capabilities", StoreCapabilities(reach=Reach.PROCESS))
    with pytest.raises(CapabilityMissing, match="virtual_time"), Simulation({}, seed=1):
        pass


@pytest.mark.parametrize("how", ["sleeps", "holds a lock"])
def test_a_handler_that_waits_in_real_time_is_named_with_its_place(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strands, "_PATIENCE", 0.5)
    monkeypatch.setattr(strands, "_LAST_WORDS", 0.2)
    lock, ends = threading.Lock(), threading.Event()

    def sleeps(payload: object) -> None:
        ends.wait()

    def holds(payload: object) -> None:
        while not lock.acquire(timeout=0.01):
            if ends.is_set():
                return
        simulation.spend(1)
        lock.release()

    work = sleeps if how == "sleeps" else holds
    try:
        with (
            pytest.raises(Stuck, match="did not come back") as failure,
            Simulation({"a": work}, seed=1) as simulation,
        ):
            simulation.manager.request_many([("a", n) for n in range(4)])
            simulation.run_until_idle()
    finally:
        ends.set()
    assert work.__name__ in str(failure.value)


def test_a_thread_of_its_own_cannot_wait_on_the_clock_but_may_request() -> None:
    errors: list[BaseException] = []

    def work(payload: object) -> None:
        def other() -> None:
            simulation.manager.request("b")
            try:
                simulation.spend(1)
            except RuntimeError as exc:
                errors.append(exc)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    with Simulation({"a": work, "b": print}, seed=1) as simulation:
        simulation.manager.request("a")
        simulation.run_until_idle()
    assert "does not take part" in str(errors[0])
    assert simulation.counts["runs"] == 2


@pytest.mark.parametrize(("fault", "effect"), [("sent late", "delivered"), ("answered late", "runs")])
def test_a_call_that_takes_long_is_done_late_or_known_late(fault: str, effect: str) -> None:
    found = 0
    for number in range(8):
        with Simulation({"a": len}, seed=number, workers=1, slots=1, faults=0.3) as simulation:
            simulation.manager.request_many([("a", []) for _ in range(10)])
            simulation.run_until_idle()
        history = simulation.history
        for place, event in enumerate(history):
            if event.what.startswith("FAULT") and event.detail.startswith(f"reserve: {fault} "):
                seconds = float(event.detail.split()[-2])
                mine = [one for one in history[place:] if one.who == event.who]
                after = [one for one in mine if one.what.startswith(("FAULT", effect))]
                if len(after) > 1 and after[1].what == effect:
                    assert after[1].at >= event.at + seconds - 0.001
                    found += 1
    assert found > 0


def test_what_comes_back_after_the_end_of_a_stuck_simulation_does_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(strands, "_PATIENCE", 0.5)
    monkeypatch.setattr(strands, "_LAST_WORDS", 0.05)
    ends, ended = threading.Event(), threading.Event()

    def sleeps(payload: object) -> None:
        ends.wait()
        ended.set()

    with pytest.raises(Stuck), Simulation({"a": sleeps}, seed=1) as simulation:
        simulation.manager.request("a")
        simulation.run_until_idle()
    events = len(simulation.history)
    ends.set()
    assert ended.wait(10)
    threading.Event().wait(0.1)  # real time, in which it would go on
    assert (len(simulation.history), caplog.records) == (events, [])


def test_an_error_of_the_test_is_told_with_the_seed_and_the_history() -> None:
    with pytest.raises(ZeroDivisionError) as failure, Simulation({"a": len}, seed=9) as simulation:
        simulation.manager.request(JobRequest(type="a", payload=[], id="the-job"))
        simulation.run_until_idle()
        _ = 1 / 0
    story = "\n".join(failure.value.__notes__)
    assert story.startswith("Seed(9): 1 jobs, 1 runs, 0 deaths")
    for line in ("process 1 begins", "enqueue the-job a", "runs the-job a, attempt 1", "commit the-job"):
        assert line in story


def test_an_interrupt_of_the_user_ends_it_and_all_its_threads() -> None:
    before = threads()
    handles = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it

    def work(payload: object) -> None:
        _thread.interrupt_main()
        while True:
            simulation.spend(1)

    with pytest.raises(KeyboardInterrupt), Simulation({"a": work}, seed=1) as simulation:
        simulation.manager.request_many([("a", n) for n in range(4)])
        simulation.run_until_idle()
    signal.signal(signal.SIGINT, handles)
    assert not threads() - before


def test_an_interpreter_ends_in_silence_whatever_its_simulated_processes_did_at_last() -> None:
    """Workers that died while they waited for the queue are never waited for, not even by Python's end."""
    program = """
from kessel_core.testing import Simulation
kept = []
for seed in range(6):
    with Simulation({"a": len}, seed=seed, deaths=0.1, faults=0.4) as simulation:
        simulation.manager.request_many([("a", [])] * 3)
        simulation.run_until_idle()
    kept.append(simulation)
print(sum(one.counts["deaths"] for one in kept))
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) > 5


# --- many seeds --------------------------------------------------------------------------------------------


def breaks(seed: Seed) -> None:
    """Fails when a process has died, whatever else went wrong."""
    with Simulation({"a": len}, seed=seed, deaths=0.03, faults=0.1, jumps=0.1) as simulation:
        simulation.manager.request_many([("a", []) for _ in range(10)])
        simulation.run_until_idle()
        assert simulation.counts["deaths"] == 0, "deaths"


def test_a_failure_is_made_small_and_runs_again_as_it_says() -> None:
    with pytest.raises(AssertionError) as failure:
        for_each_seed(breaks, range(100))
    notes = failure.value.__notes__
    assert re.search(r"only=\(\d+(, \d+)?,?\)\): .* 1 deaths, [01] faults, [01] jumps", notes[0])
    again = notes[-1].partition("to run it again: ")[2]
    assert again.startswith("breaks(Seed(")
    with pytest.raises(AssertionError):
        eval(again)


def test_another_failure_is_not_taken_for_the_same() -> None:
    def breaks_otherwise(seed: Seed) -> None:
        if seed.only == frozenset():
            raise ZeroDivisionError
        breaks(seed)

    with pytest.raises(AssertionError, match="deaths") as failure:
        for_each_seed(breaks_otherwise, range(100))
    assert re.search(r"only=\(\d+", failure.value.__notes__[-1])


@pytest.mark.parametrize("fail", [lambda: pytest.fail("deaths"), lambda: fails_to_raise()])
def test_a_failure_that_pytest_raises_is_made_small_as_any_other(fail: Callable[[], object]) -> None:
    def breaks_by_pytest(seed: Seed) -> None:
        try:
            breaks(seed)
        except AssertionError:
            fail()

    with pytest.raises(pytest.fail.Exception, match=r"deaths|DID NOT RAISE") as failure:
        for_each_seed(breaks_by_pytest, range(100))
    assert re.search(r"only=\(\d+(, \d+)?,?\)\)\)$", failure.value.__notes__[-1])


def fails_to_raise() -> None:
    with pytest.raises(KeyError):
        pass


@pytest.mark.parametrize("leave", [pytest.skip, pytest.xfail, pytest.exit, unittest.SkipTest])
def test_what_skips_a_test_or_ends_all_of_them_is_no_failure(leave: Callable[[str], object]) -> None:
    seen: list[Seed] = []

    def leaves(seed: Seed) -> None:
        seen.append(seed)
        if isinstance(made := leave("not now"), BaseException):
            raise made

    outcomes = (pytest.skip.Exception, pytest.xfail.Exception, pytest.exit.Exception, unittest.SkipTest)
    with pytest.raises(outcomes) as left:
        for_each_seed(leaves, range(3))
    assert (len(seen), hasattr(left.value, "__notes__")) == (1, False)


def test_a_smaller_run_that_is_skipped_does_not_hide_the_failure() -> None:
    def breaks_or_skips(seed: Seed) -> None:
        breaks(seed)
        if seed.only is not None:
            pytest.skip("nothing went wrong")

    with pytest.raises(AssertionError, match="deaths"):
        for_each_seed(breaks_or_skips, range(100))


def test_what_goes_well_is_added_up() -> None:
    def fine(seed: Seed) -> None:
        with Simulation({"a": len}, seed=seed) as simulation:
            simulation.manager.request("a", [])
            simulation.run_until_idle()

    totals = for_each_seed(fine, [1, Seed(2)])
    assert (totals.seeds, totals.counts["jobs"], totals.counts["runs"]) == (2, 2, 2)
    assert str(totals + Totals()).startswith(
        "2 seeds: 2 jobs, 2 runs, 0 deaths, 0 faults, 0 jumps, 0 stops; "
    )
    assert for_each_seed(fine, []) == Totals()
    with pytest.raises(TypeError, match=r"such as range\(20\), got 20"):
        for_each_seed(fine, 20)  # type: ignore[arg-type]


def test_a_seed_prints_as_it_is_written() -> None:
    for seed in (Seed(1), Seed(1, only=[]), Seed(1, only=[7]), Seed(-3, only={9, 2})):
        assert eval(repr(seed)) == seed

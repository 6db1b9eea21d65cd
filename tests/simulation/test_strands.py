"""The threads of a simulation take turns, and its time moves only when none can go on (S18, S43)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random

import pytest

from kessel_core import Clock
from kessel_core.runtime.threads import MakesThreads
from kessel_core.testing.simulation.strand import Stuck
from kessel_core.testing.simulation.strands import Strands

SECOND = timedelta(seconds=1)


class Stage:
    """Strands that a test makes by name, and what they have noted."""

    def __init__(self, seed: int = 1) -> None:
        self.notes: list[tuple[str, float]] = []
        self.strands = Strands(Random(seed), self.rest)
        self.is_done = threading.Condition()

    def rest(self) -> timedelta | None:
        if not list(self.strands.others()):
            self.strands.test.is_notified = True
        return None

    def note(self, what: str) -> None:
        self.notes.append((what, round(self.strands.passed.total_seconds(), 6)))

    def start(self, work: Callable[[], None], process: int = 1) -> threading.Thread:
        thread = self.strands.thread_of(work, work.__name__, process)
        thread.start()
        return thread

    def sleep(self, seconds: float) -> bool:
        never = threading.Condition()
        with never:
            return self.strands.wait(never, seconds)

    def run(self) -> list[tuple[str, float]]:
        self.strands.rest()
        return self.notes


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    assert stage.strands.end() == []


def test_it_is_a_clock_and_makes_threads(stage: Stage) -> None:
    assert isinstance(stage.strands, Clock)
    assert isinstance(stage.strands, MakesThreads)


def test_a_wait_ends_exactly_when_its_time_is_over_and_says_so(stage: Stage) -> None:
    def sleeper() -> None:
        before = stage.strands.monotonic(), stage.strands.now()
        assert stage.sleep(2.5) is False
        assert stage.strands.monotonic() - before[0] == 2.5
        assert stage.strands.now() - before[1] == 2.5 * SECOND
        assert stage.sleep(0) is False
        stage.note("woke")

    stage.start(sleeper)
    assert stage.run() == [("woke", 2.5)]


def test_a_notified_wait_ends_at_once_and_says_so_and_nobody_else_is_woken(stage: Stage) -> None:
    """A wake that is forgotten must be missing: no wait ends for another reason."""
    condition = threading.Condition()

    def waiter() -> None:
        with condition:
            stage.note(f"notified {stage.strands.wait(condition, 60)}")

    def notifier() -> None:
        stage.sleep(3)
        with condition:
            condition.notify()

    for work in (waiter, waiter, notifier):
        stage.start(work)
    assert stage.run() == [("notified True", 3.0), ("notified False", 60.0)]


def test_who_has_given_up_takes_no_wake_from_others(stage: Stage) -> None:
    condition = threading.Condition()

    def impatient() -> None:
        with condition:
            assert not stage.strands.wait(condition, 1)

    def patient() -> None:
        stage.sleep(0.5)
        with condition:
            stage.note(f"notified {stage.strands.wait(condition, None)}")

    def notifier() -> None:
        stage.sleep(2)
        with condition:
            condition.notify()

    for work in (impatient, patient, notifier):
        stage.start(work)
    assert stage.run() == [("notified True", 2.0)]


def test_a_lock_that_is_held_twice_is_let_go_of_while_waiting(stage: Stage) -> None:
    lock = threading.RLock()
    condition = threading.Condition(lock)

    def holder() -> None:
        with lock, condition:
            stage.strands.wait(condition, 5)
            stage.note("holds it again")

    def other() -> None:
        stage.sleep(1)
        with lock:
            stage.note("got it")

    stage.start(holder)
    stage.start(other)
    assert stage.run() == [("got it", 1.0), ("holds it again", 5.0)]


def test_the_order_of_turns_follows_from_the_seed() -> None:
    def order(seed: int) -> str:
        stage = Stage(seed)

        def named(name: str) -> Callable[[], None]:
            def work() -> None:
                for _ in range(3):
                    stage.strands.turn()
                    stage.note(name)

            return work

        for name in "abc":
            stage.start(named(name))
        stage.run()
        assert stage.strands.end() == []
        return "".join(name for name, _ in stage.notes)

    assert order(1) == order(1)
    orders = Counter(order(seed) for seed in range(30))
    assert len(orders) > 20
    assert all(sorted(found) == sorted("aaabbbccc") for found in orders)


def test_a_killed_process_runs_no_more_but_leaves_what_it_waits_for_inside_a_call(stage: Stage) -> None:
    condition = threading.Condition()

    def outside() -> None:
        stage.sleep(5)
        stage.note("lives")

    def inside() -> None:
        with stage.strands.inside("reserve"):
            try:
                with condition:
                    stage.strands.wait(condition, 5)
            finally:
                stage.note("leaves the line")
        stage.note("lives")

    def killer() -> None:
        stage.sleep(1)
        stage.strands.kill(1)

    stage.start(outside)
    stage.start(inside)
    stage.start(outside, 2)
    stage.start(killer, 3)
    assert stage.run() == [("leaves the line", 1.0), ("lives", 5.0)]


def test_a_join_takes_virtual_time(stage: Stage) -> None:
    def worker() -> None:
        stage.sleep(30)

    def joiner() -> None:
        thread.join(10)
        stage.note("not yet")
        thread.join()
        stage.note("ended")

    thread = stage.start(worker)
    stage.start(joiner)
    assert stage.run() == [("not yet", 10.0), ("ended", 30.0)]


def test_an_error_of_a_strand_reaches_the_test(stage: Stage) -> None:
    def fails() -> None:
        stage.sleep(1)
        raise ZeroDivisionError

    stage.start(fails)
    with pytest.raises(ZeroDivisionError):
        stage.sleep(60)
    with pytest.raises(ZeroDivisionError):
        stage.strands.rest()


def test_a_wait_for_nothing_is_told(stage: Stage) -> None:
    condition = threading.Condition()

    def waits() -> None:
        with condition:
            stage.strands.wait(condition, None)

    stage.start(waits)
    with pytest.raises(Stuck, match="nothing will ever happen"):
        stage.run()


def test_the_wall_clock_is_set_and_wakes_nobody(stage: Stage) -> None:
    def sleeper() -> None:
        stage.sleep(2)
        stage.note("woke")

    stage.start(sleeper)
    before = stage.strands.now()
    stage.strands.jump_wall(60 * SECOND)
    assert stage.strands.now() - before == 60 * SECOND == stage.strands.wrong
    assert stage.run() == [("woke", 2.0)]

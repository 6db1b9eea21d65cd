"""`VirtualClock`, and the clock of the machine (S18)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kessel_core import Clock, SystemClock
from kessel_core.testing.clock import VirtualClock
from tests.until import until

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_both_are_clocks() -> None:
    assert isinstance(SystemClock(), Clock)
    assert isinstance(VirtualClock(), Clock)


# --- the machine's ----------------------------------------------------------------------------


def test_s18_wall_clock_can_be_replaced_as_tools_for_tests_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another class under the name `datetime` of the module, as freezegun has it."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Frozen:
            return cls(2026, 1, 1, tzinfo=tz)

    clock = SystemClock()
    monkeypatch.setattr("kessel_core.clock.datetime", Frozen)
    assert clock.now() == START


def test_the_system_clock_is_aware_and_in_utc() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert now.tzinfo is UTC
    assert before <= now <= datetime.now(UTC)


def test_the_system_clock_never_goes_back() -> None:
    clock = SystemClock()
    readings = [clock.monotonic() for _ in range(100)]
    assert readings == sorted(readings)


def test_a_wait_on_the_system_clock_ends_by_time_or_by_a_call() -> None:
    clock, condition = SystemClock(), threading.Condition()
    with condition:
        assert clock.wait(condition, 0.001) is False
    with ThreadPoolExecutor(1) as pool, condition:

        def call() -> None:
            with condition:
                condition.notify()

        pool.submit(call)
        too_long = timedelta.max.total_seconds()
        assert too_long > threading.TIMEOUT_MAX
        assert clock.wait(condition, too_long) is True, "also with more seconds than a platform can wait"
        pool.submit(call)
        assert clock.wait(condition, None) is True


# --- the virtual one, moved by one thread -------------------------------------------------------


def test_time_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock(START)
    mono = clock.monotonic()
    assert (clock.now(), clock.monotonic()) == (START, mono)
    clock.advance(timedelta(hours=3))
    assert clock.now() == START + timedelta(hours=3)
    assert clock.monotonic() == mono + 3 * 3600
    clock.advance_to(START + timedelta(days=1))
    assert clock.now() == START + timedelta(days=1)
    assert clock.monotonic() == mono + 86_400


def test_its_start_may_be_in_any_zone_but_must_have_one() -> None:
    east = timezone(timedelta(hours=2))
    assert VirtualClock(START.astimezone(east)).now().tzinfo is UTC
    with pytest.raises(ValueError, match="naive"):
        VirtualClock(datetime(2026, 1, 1))
    with pytest.raises(ValueError, match="naive"):
        VirtualClock().advance_to(datetime(2027, 1, 1))


def test_time_is_not_moved_back() -> None:
    clock = VirtualClock(START)
    with pytest.raises(ValueError, match="jump_wall"):
        clock.advance(timedelta(seconds=-1))
    with pytest.raises(ValueError, match="jump_wall"):
        clock.advance_to(START - timedelta(seconds=1))


@pytest.mark.parametrize("span", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_jump_of_the_wall_clock_leaves_the_monotonic_one_alone(span: timedelta) -> None:
    clock = VirtualClock(START)
    mono = clock.monotonic()
    clock.jump_wall(span)
    assert clock.now() == START + span
    assert clock.monotonic() == mono


def test_a_wait_jumps_to_its_end_without_sleeping() -> None:
    clock, condition = VirtualClock(START), threading.Condition()
    with condition:
        assert clock.wait(condition, 86_400.0 * 30) is False
        assert clock.now() == START + timedelta(days=30)
        assert clock.wait(condition, 0) is False
        assert clock.wait(condition, -1) is False
    assert clock.now() == START + timedelta(days=30)


@pytest.mark.parametrize("days", [3_000_000, 999_999_999])
def test_a_wait_beyond_the_calendar_would_last_for_ever(days: int) -> None:
    """As of `result(job_id, timedelta.max)`; it was an `OverflowError`."""
    condition, seconds = threading.Condition(), timedelta(days).total_seconds() + 86_399.0
    clock = VirtualClock(START)
    with condition, pytest.raises(RuntimeError, match="would last for ever"):
        clock.wait(condition, seconds)
    assert clock.now() == START
    clock.advance(timedelta(days=1))
    clock.auto_advance = False
    ended = list[bool]()

    def wait() -> None:
        with condition:
            ended.append(clock.wait(condition, seconds))

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: clock.waiting == 1)
    with condition:
        condition.notify_all()
    thread.join(20)
    assert ended == [True]


def test_a_wait_that_would_last_for_ever_is_an_error() -> None:
    condition = threading.Condition()
    with condition, pytest.raises(RuntimeError, match="auto_advance=False"):
        VirtualClock().wait(condition, None)


@settings(deadline=None)
@given(st.floats(1e-9, 1e6), st.floats(0, 1e6))
def test_a_wait_is_never_short_and_at_most_a_microsecond_long(timeout: float, before: float) -> None:
    """So that a loop which waits for a deadline comes to its end (S4)."""
    clock, condition = VirtualClock(START), threading.Condition()
    clock.advance(timedelta(seconds=before))
    now, end = clock.now(), clock.monotonic() + timeout
    rounds = 0
    with condition:
        while (left := end - clock.monotonic()) > 0:
            clock.wait(condition, left)
            rounds += 1
    assert rounds <= 2, "a second one only for the rounding of float sums"
    assert clock.now() - now <= timedelta(seconds=timeout) + timedelta(microseconds=2)


# --- the virtual one, moved by another thread -----------------------------------------------------


def wait_on(clock: VirtualClock, timeout: float | None, condition: threading.Condition | None = None) -> bool:
    condition = condition or threading.Condition()
    with condition:
        return clock.wait(condition, timeout)


def test_a_blocked_wait_ends_when_the_time_is_moved_past_it() -> None:
    clock = VirtualClock(auto_advance=False)
    with ThreadPoolExecutor(2) as pool:
        short, long = pool.submit(wait_on, clock, 10), pool.submit(wait_on, clock, 20)
        until(lambda: clock.waiting == 2)
        clock.advance(timedelta(seconds=9))
        assert clock.waiting == 2
        clock.advance(timedelta(seconds=1))
        assert short.result(20) is False
        assert clock.waiting == 1
        clock.advance(timedelta(seconds=10))
        assert long.result(20) is False


def test_a_blocked_wait_ends_when_it_is_called() -> None:
    clock, condition = VirtualClock(auto_advance=False), threading.Condition()
    with ThreadPoolExecutor(2) as pool:
        for timeout in (10, None):
            future = pool.submit(wait_on, clock, timeout, condition)
            until(lambda: clock.waiting == 1)
            with condition:
                condition.notify()
            assert future.result(20) is True


def test_a_jump_of_the_wall_clock_wakes_all_who_wait() -> None:
    """They look at the time again; the time that they asked for is not over."""
    clock = VirtualClock(auto_advance=False)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(wait_on, clock, timeout) for timeout in (10, None)]
        until(lambda: clock.waiting == 2)
        clock.jump_wall(timedelta(hours=1))
        assert [future.result(20) for future in futures] == [True, True]


def test_a_wait_whose_timeout_is_out_of_date_is_asked_to_look_again() -> None:
    """Otherwise it would last until a time to which nobody moves any more."""
    clock = VirtualClock(auto_advance=False)
    deadline = clock.monotonic() + 10
    clock.advance(timedelta(seconds=10))  # by another thread, say
    assert wait_on(clock, deadline - 1000.0) is True
    clock.monotonic()
    clock.jump_wall(timedelta(seconds=10))
    assert wait_on(clock, None) is True
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(wait_on, clock, 10)  # a thread that has read nothing
        until(lambda: clock.waiting == 1)
        clock.advance(timedelta(seconds=10))
        assert future.result(20) is False


def test_a_wait_of_no_time_does_not_block() -> None:
    assert wait_on(VirtualClock(auto_advance=False), 0) is False


def test_s18_a_wait_for_no_time_again_and_again_is_an_error_until_the_time_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An adapter that says 'now' and has nothing then kept its consumer busy for ever."""
    monkeypatch.setattr("kessel_core.testing.clock._MOST_FOR_NO_TIME", 3)
    clock = VirtualClock()
    for _ in range(3):
        wait_on(clock, 0)
        wait_on(clock, 0)
        wait_on(clock, 0)
        wait_on(clock, 0.000_001)
    for _ in range(3):
        wait_on(clock, -1)
    with pytest.raises(RuntimeError, match="3 waits in a row were for no time at all, at 2026-01-05"):
        wait_on(clock, 0)
    clock.advance(timedelta(seconds=1))
    assert wait_on(clock, 0) is False


def test_many_threads_move_the_time_and_none_of_it_is_lost() -> None:
    clock = VirtualClock(START)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(400):
            pool.submit(clock.advance, timedelta(seconds=1))
            pool.submit(wait_on, clock, 1)
    assert clock.now() == START + timedelta(seconds=800)

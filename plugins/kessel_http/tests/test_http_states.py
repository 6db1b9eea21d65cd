"""S23: an endpoint that failed five times in a row is asked once per pause, by one job at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kessel_http.states import (
    FRESH,
    EndpointState,
    EndpointStates,
    MemoryStates,
    StoreStates,
    admitted,
    change,
    disabled,
    failed,
    pause_before,
    worked,
)

from kessel_core import JobManager
from kessel_core.testing import VirtualClock

NOW = datetime(2026, 1, 5, 9, 0, 0, 250_000, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LASTS = timedelta(seconds=40)


def after(failures: int) -> EndpointState:
    """Return the state after so many failures, each at the end of a pause, the last one now."""
    state, now = FRESH, NOW
    for _ in range(failures):
        now = state.rests_until or now
        state = failed(state, now, "https://a.example", "answered 500")
    rests = None if state.rests_until is None else NOW + (state.rests_until - now)
    return attrs.evolve(state, rests_until=rests)


@pytest.mark.parametrize("failures", range(5))
def test_s23_every_job_asks_an_endpoint_that_failed_less_than_five_times(failures: int) -> None:
    state = after(failures)
    assert pause_before(state, "a", NOW) is None
    assert admitted(state, "a", NOW, LASTS) == state


@pytest.mark.parametrize(
    ("failures", "minutes"),
    [(5, 1), (6, 2), (7, 4), (8, 8), (9, 16), (10, 32), (11, 60), (12, 60), (500, 60)],
)
def test_s23_the_pause_doubles_with_each_failure_from_a_minute_up_to_an_hour(
    failures: int, minutes: int
) -> None:
    state = after(failures)
    assert pause_before(state, "a", NOW) == minutes * MINUTE
    assert pause_before(state, "a", NOW + minutes * MINUTE - timedelta.resolution) == timedelta.resolution
    assert pause_before(state, "a", NOW + minutes * MINUTE) is None


def test_s23_while_one_job_asks_others_wait_until_it_is_taken_for_lost() -> None:
    then = NOW + MINUTE
    state = admitted(after(5), "a", then, LASTS)
    assert pause_before(state, "b", then) == LASTS
    assert pause_before(state, "b", then + LASTS - timedelta.resolution) == timedelta.resolution
    assert pause_before(state, "b", then + LASTS) is None
    assert pause_before(state, "a", then) is None, "the same job comes again if its worker died"
    again = admitted(state, "b", then + LASTS, LASTS)
    assert pause_before(again, "a", then + LASTS) == LASTS


def test_s23_jobs_that_asked_before_the_pause_do_not_make_it_longer() -> None:
    """Twelve slots that met an outage of a second made the endpoint rest for an hour."""
    state = FRESH
    for number in range(12):
        state = failed(state, NOW + number * timedelta.resolution, "https://a.example", f"answered {number}")
    assert (state.failures, state.message) == (5, "answered 11")
    assert pause_before(state, "a", NOW + 4 * timedelta.resolution) == MINUTE


def test_s23_a_failure_ends_the_asking_and_begins_the_next_pause() -> None:
    then = NOW + MINUTE
    state = failed(admitted(after(5), "a", then, LASTS), then, "https://a.example", "timed out")
    assert (state.failures, state.asked_by, state.message) == (6, "", "timed out")
    assert pause_before(state, "b", then) == 2 * MINUTE


def test_s23_what_a_clock_that_was_ahead_has_noted_holds_nobody_up() -> None:
    """A day by which one worker's clock was ahead became a day without a call, for all workers."""
    day = timedelta(days=1)
    ahead = attrs.evolve(after(5), rests_until=NOW + day + MINUTE)
    assert pause_before(ahead, "a", NOW) is None
    assert pause_before(admitted(ahead, "a", NOW + day, LASTS), "b", NOW) is None
    mended = failed(admitted(ahead, "a", NOW, LASTS), NOW, "https://a.example", "answered 500")
    assert (mended.failures, pause_before(mended, "b", NOW)) == (6, 2 * MINUTE)


def test_s23_a_success_forgets_all_failures() -> None:
    assert worked(admitted(after(9), "a", NOW, LASTS)) == FRESH
    assert worked(after(1)) == FRESH


def test_s23_what_is_still_on_its_way_enables_no_endpoint_that_is_gone() -> None:
    gone = disabled(NOW, "https://a.example")
    assert worked(gone) == gone
    assert failed(gone, NOW, "", "") == gone


# --- where states are kept --------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "store"])
def states(request: Any) -> Any:
    if request.param == "memory":
        yield MemoryStates()
        return
    with JobManager("memory://", clock=VirtualClock()) as manager:
        yield StoreStates(manager.store)


moments = st.none() | st.datetimes(timezones=st.just(UTC))
some_states = st.builds(
    EndpointState,
    failures=st.integers(0, 10**6),
    rests_until=moments,
    asked_by=st.text(max_size=10),
    asked_until=moments,
    disabled_at=moments,
    place=st.text(max_size=10),
    message=st.text(max_size=10),
)


def test_s23_a_kept_state_comes_back_equal(states: EndpointStates) -> None:
    @given(some_states)
    def comes_back(state: EndpointState) -> None:
        assert states.write("a", state, states.read("a")[1])
        assert states.read("a")[0] == state

    comes_back()


def test_s23_an_unknown_endpoint_is_fresh_and_a_fresh_one_is_not_kept(states: EndpointStates) -> None:
    assert states.read("a") == (FRESH, 0)
    assert states.write("a", FRESH, 0)
    assert list(states.all()) == []
    assert states.write("a", after(1), 0)
    assert list(states.all()) == [("a", after(1))]
    assert states.write("a", FRESH, states.read("a")[1])
    assert list(states.all()) == []


def test_s23_a_write_that_would_undo_another_is_refused(states: EndpointStates) -> None:
    assert states.write("a", after(1), 0)
    version = states.read("a")[1]
    assert not states.write("a", after(2), 0)
    assert not states.write("a", FRESH, 0)
    assert states.write("a", after(2), version)
    assert not states.write("a", after(3), version)
    assert not states.write("a", FRESH, version)
    assert states.read("a")[0] == after(2)


def test_s23_all_states_are_listed_by_key(states: EndpointStates) -> None:
    keys = [f"endpoint-{number:03}" for number in range(250)]
    for number, key in enumerate(reversed(keys)):
        assert states.write(key, EndpointState(failures=number + 1), 0)
    assert [key for key, _ in states.all()] == keys


def test_s23_no_failure_is_lost_when_many_threads_count(states: EndpointStates) -> None:
    def count() -> None:
        for _ in range(50):
            change(states, "a", lambda state: attrs.evolve(state, failures=state.failures + 1))

    _together([count] * 4)
    assert states.read("a")[0].failures == 200


def test_s23_a_change_that_another_was_quicker_than_is_made_again(states: EndpointStates) -> None:
    seen: list[int] = []

    def count(state: EndpointState) -> EndpointState:
        seen.append(state.failures)
        if len(seen) == 1:  # another worker is quicker
            states.write("a", after(3), states.read("a")[1])
        return attrs.evolve(state, failures=state.failures + 1)

    assert change(states, "a", count).failures == 4
    assert (seen, states.read("a")[0].failures) == ([0, 3], 4)


def test_s23_one_of_many_threads_may_ask_an_endpoint_that_rests(states: EndpointStates) -> None:
    states.write("a", after(5), 0)
    asked: list[str] = []

    class Waits(Exception): ...

    def ask(name: str) -> None:
        def may(state: EndpointState) -> EndpointState:
            if pause_before(state, name, NOW + MINUTE) is not None:
                raise Waits
            return admitted(state, name, NOW + MINUTE, LASTS)

        try:
            change(states, "a", may)
        except Waits:
            return
        asked.append(name)

    _together([lambda name=str(number): ask(name) for number in range(8)])  # type: ignore[misc]  # a default
    assert len(asked) == 1
    assert states.read("a")[0].asked_by == asked[0]


def _together(calls: list[Callable[[], None]]) -> None:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], None]) -> None:
        barrier.wait()
        call()

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_s23_failures_are_forgotten_after_a_month_and_a_disabled_endpoint_is_not() -> None:
    clock = VirtualClock()
    with JobManager("memory://", clock=clock) as manager:
        states = StoreStates(manager.store)
        states.write("failed", after(3), 0)
        states.write("gone", disabled(NOW, "https://a.example"), 0)
        clock.advance(timedelta(days=30) - timedelta(seconds=1))
        assert [key for key, _ in states.all()] == ["failed", "gone"]
        clock.advance(timedelta(seconds=1))
        assert [key for key, _ in states.all()] == ["gone"]


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b"x", b"\xff", b"[]", b"3", b"null", b'"failures"', b"[" * 100_000),
        *(b'{"rests_until": 5}', b'{"rests_until": "soon"}', b'{"rests_until": null}'),
        *(b'{"failures": "6"}', b'{"failures": null}', b'{"failures": 6.5}', b'{"failures": true}'),
        *(b'{"place": 5}', b'{"message": []}', b'{"failures": 6, "asked_by": null}'),
        # Without a zone, and beyond what can be said in UTC.
        *(b'{"failures": 6, "rests_until": "2026-01-05T10:00:00"}',),
        *(b'{"disabled_at": "9999-12-31T23:59:59-23:00"}',),
    ],
)
def test_s23_what_is_kept_and_is_no_state_is_one_of_which_nothing_is_known(value: bytes) -> None:
    with JobManager("memory://") as manager:
        manager.store.put("http.endpoints", "a", value)
        assert StoreStates(manager.store).read("a")[0] == FRESH


def test_s23_what_a_newer_version_keeps_besides_is_left_out() -> None:
    with JobManager("memory://") as manager:
        manager.store.put("http.endpoints", "a", b'{"failures": 2, "colour": "red"}')
        assert StoreStates(manager.store).read("a")[0] == EndpointState(failures=2)

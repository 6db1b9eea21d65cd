"""A call stands still where it should, and only there; tries are counted (S7, S9)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from kessel_conformance.bench import Bench
from kessel_conformance.cases import lease_ends
from kessel_conformance.faults import spread
from kessel_conformance.halting import Halt
from kessel_conformance.harness import Harness
from kessel_conformance.history import Violation
from kessel_conformance.woken import best_of


class Adapter:
    """Stands for an adapter: what it does is in this module."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.seen: list[str] = []

    def call(self) -> None:
        self.seen.append("first")
        self.seen.append("second")
        with self.lock:
            self.seen.append("locked")
        self.seen.append("last")

    def other(self) -> None:
        with self.lock:
            self.seen.append("other")


def met(number: int, longest: float = 5.0) -> tuple[list[str], Halt]:
    """Let the two calls of an adapter meet; return what was seen in turn."""
    adapter = Adapter()
    halt = Halt(adapter, number, longest)  # type: ignore[arg-type]  # it looks at the class only
    acts = threading.Thread(target=halt.acts, args=[adapter.other])
    walks = threading.Thread(target=halt.walks, args=[adapter.call])
    threads = [acts, walks]
    acts.start()
    acts.join(0.05)  # it waits for the other one
    walks.start()
    for thread in threads:
        thread.join(20)
    return adapter.seen, halt


def test_S9_other_call_is_made_before_the_step_at_which_the_first_one_stands() -> None:
    first, second, lock = (met(number)[0] for number in (1, 2, 3))
    assert first == ["other", "first", "second", "locked", "last"]
    assert second == ["first", "other", "second", "locked", "last"]
    assert lock == ["first", "second", "other", "locked", "last"]


def test_S9_who_keeps_the_other_out_by_a_lock_goes_on() -> None:
    seen, halt = met(4, longest=0.05)
    assert halt.keeps_out
    assert seen[:3] == ["first", "second", "locked"] and sorted(seen[3:]) == ["last", "other"]
    assert not met(2)[1].keeps_out


def test_S9_other_call_is_made_when_the_first_one_has_ended_without_the_step() -> None:
    seen, halt = met(99)
    assert seen == ["first", "second", "locked", "last", "other"]
    assert halt.where == ""


def test_S9_place_at_which_a_call_stood_is_named_with_its_lock() -> None:
    assert met(2)[1].where.startswith(", before test_conformance_halting.py:")
    assert met(3)[1].where.endswith(", with")


def test_S9_locks_come_before_lines_where_few_places_are_chosen() -> None:
    halt = met(0)[1]
    places = [halt.places[number - 1] for number in halt.some(1)]
    assert len(places) == 1 and places[0].endswith(", with")
    assert len(halt.some(99)) == len(set(halt.places))
    assert [len(halt.some(most)) for most in (2, 3)] == [2, 3]


def test_S9_trace_and_profile_of_a_thread_are_as_before() -> None:
    def traces(*_: Any) -> None:
        """See nothing."""

    def profiles(*_: Any) -> None:
        """See nothing."""

    found: list[object] = []

    def walks() -> None:
        sys.settrace(traces)
        sys.setprofile(profiles)
        adapter = Adapter()
        with pytest.raises(ZeroDivisionError):
            Halt(adapter).walks(lambda: 1 // 0)  # type: ignore[arg-type]
        found.extend([sys.gettrace(), sys.getprofile()])

    thread = threading.Thread(target=walks)
    thread.start()
    thread.join(20)
    assert found == [traces, profiles]


@pytest.fixture
def bench() -> Any:
    harness = Harness(url="memory://")
    harness.up()
    try:
        with Bench(harness) as bench:
            yield bench
    finally:
        harness.down()


def late(*seconds: float) -> tuple[Callable[[int], float], list[int]]:
    """Return tries that are so late, and the numbers of those that were made."""
    made: list[int] = []

    def tried(number: int) -> float:
        made.append(number)
        return seconds[number]

    return tried, made


def test_S9_one_try_of_three_in_time_is_enough_and_ends_them(bench: Bench) -> None:
    tried, made = late(1.5, 1.1, 1.0, 9.9)
    best_of(bench, tried, 1.0, "it came")
    assert made == [0, 1, 2]


def test_S9_three_late_tries_are_told_with_the_best_of_them(bench: Bench) -> None:
    tried, made = late(1.5, 1.1, 1.2, 0.1)
    with pytest.raises(Violation, match=r"it came 1\.10 s later, or more"):
        best_of(bench, tried, 1.0, "it came")
    assert made == [0, 1, 2]


def test_S7_leases_are_looked_at_again_until_somebody_looked_in_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True, False, True, True])
    monkeypatch.setattr(lease_ends, "_holds_to_its_deadline", lambda *_: next(looks))
    lease_ends._believes_no_longer(bench, lambda *_: [None, None])  # type: ignore[arg-type,list-item]
    assert list(looks) == []


def test_one_number_of_many_is_the_first() -> None:
    assert list(spread(5, 1)) == [0]
    assert list(spread(5, 2)) == [0, 4]
    assert list(spread(5, 0)) == []

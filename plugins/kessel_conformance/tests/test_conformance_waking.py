"""A consumer that looks now and then is not taken for one that is woken (S9)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kessel_conformance import Harness, Violation
from kessel_conformance.bench import Bench
from kessel_conformance.woken import _ASLEEP, soon_enough
from kessel_memory.plugin import SPEC


@pytest.fixture
def bench() -> Iterator[Bench]:
    harness = Harness(SPEC, url="memory://{namespace}", real_clock=True)
    harness.up()
    with Bench(harness) as one:
        yield one
    harness.down()


def test_S9_what_was_in_time_before_a_try_that_slept_does_not_count(bench: Bench) -> None:
    asleep = _ASLEEP + 0.1
    tries = iter([0.0, asleep, 0.0, asleep])
    with pytest.raises(Violation, match="it polls"):
        soon_enough(bench, lambda: next(tries))


def test_S9_a_busy_machine_may_be_late_now_and_then(bench: Bench) -> None:
    tries = iter([0.0, 0.9, _ASLEEP + 0.1, 0.0, 0.0])
    soon_enough(bench, lambda: next(tries))
    assert next(tries, None) is None


def test_S9_a_try_that_shows_nothing_counts_neither_way(bench: Bench) -> None:
    tries = iter([None, 0.0, None, None, 0.0])
    soon_enough(bench, lambda: next(tries))
    assert next(tries, "none left") == "none left"
    asleep = _ASLEEP + 0.1
    some = iter([None, asleep, None, asleep])
    with pytest.raises(Violation, match="it polls"):
        soon_enough(bench, lambda: next(some))


def test_S9_where_nothing_can_be_seen_the_tries_end(bench: Bench) -> None:
    tries = iter([None, None, 0.0, None])
    soon_enough(bench, lambda: next(tries), unseen=3)
    assert next(tries, "none left") == "none left"


def test_S9_once_in_time_is_enough_where_the_case_says_so(bench: Bench) -> None:
    tries = iter([_ASLEEP + 0.1, 0.0, 0.0])
    soon_enough(bench, lambda: next(tries), enough=1)
    assert next(tries) == 0.0

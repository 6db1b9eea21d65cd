"""What a seed draws is bounded, repeatable, and independent of what is left out (S43)."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

from kessel_core.testing import Seed
from kessel_core.testing.simulation.seeds import Chances, Fault

SECOND = timedelta(seconds=1)


def chances(seed: Seed, chance: float = 1.0) -> Chances:
    return Chances(seed, deaths=chance, faults=chance, jumps=chance, stops=chance)


def test_the_wall_clock_is_never_off_by_more_than_an_hour_and_each_jump_is_one() -> None:
    drawn, wrong, signs = chances(Seed(1)), timedelta(0), Counter[bool]()
    for _ in range(2000):
        jump = drawn.jump(wrong)
        assert jump is not None
        assert abs(jump[1]) >= 2 * SECOND
        wrong += jump[1]
        assert abs(wrong) <= 3602 * SECOND
        signs[jump[1] > timedelta(0)] += 1
    assert min(signs.values()) > 500
    assert drawn.jump(-1 * SECOND) is not None


def test_a_jump_to_where_the_clock_is_becomes_a_short_one() -> None:
    for number in range(300):
        first = chances(Seed(number)).jump(timedelta(0))
        assert first is not None
        again = chances(Seed(number)).jump(first[1])
        assert again is not None
        assert again[1] == 2 * SECOND or first[1] == 2 * SECOND


def test_every_fault_comes_and_some_outlast_a_lease() -> None:
    drawn = chances(Seed(1))
    mishaps = [mishap for _ in range(1000) if (mishap := drawn.fault()) is not None]
    assert set(Counter(mishap.fault for mishap in mishaps)) == set(Fault)
    assert all(0 <= mishap.seconds <= 90 for mishap in mishaps)
    assert sum(mishap.seconds > 60 for mishap in mishaps) > 50


def test_how_often_is_the_chance_and_never_is_never() -> None:
    drawn = chances(Seed(1), 0.1)
    hits = [place for _ in range(5000) if (place := drawn.death()) is not None]
    assert 400 < len(hits) < 600
    assert hits == drawn.hits == sorted(set(hits))
    assert all(later > sooner for sooner, later in pairwise(hits))
    never = chances(Seed(1), 0.0)
    assert not any(never.death() or never.stop() or never.fault() or never.jump(SECOND) for _ in range(1000))


def test_what_is_left_out_changes_nothing_of_the_rest() -> None:
    whole = chances(Seed(5), 0.2)
    all_of_them = [whole.fault() for _ in range(300)]
    kept = whole.hits[::3]
    some = chances(Seed(5, only=kept), 0.2)
    assert [some.fault() for _ in range(300)] == [
        mishap if mishap is not None and mishap.place in kept else None for mishap in all_of_them
    ]
    assert some.hits == kept

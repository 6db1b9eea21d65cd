"""The pause before a retry (S11)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kessel_core import RetryPolicy


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_s11_the_pause_is_between_zero_and_the_cap(attempt: int, draw: float) -> None:
    policy = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(minutes=1))
    assert timedelta(0) <= policy.next_pause(attempt, lambda: draw) <= policy.ceiling(attempt) <= policy.cap


@given(
    st.timedeltas(timedelta(0), timedelta(hours=1)),
    st.timedeltas(timedelta(0), timedelta(days=3)),
    st.integers(1, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_s11_every_pause_lies_between_zero_and_its_ceiling(
    base: timedelta, more: timedelta, attempt: int, draw: float
) -> None:
    policy = RetryPolicy(base=base, cap=base + more)
    assert timedelta(0) <= policy.next_pause(attempt, lambda: draw) <= policy.ceiling(attempt)
    assert policy.ceiling(attempt) <= policy.ceiling(attempt + 1) <= base + more


def test_s11_the_ceiling_doubles_up_to_the_cap() -> None:
    policy = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(seconds=5))
    assert [policy.ceiling(n).total_seconds() for n in range(1, 6)] == [1, 2, 4, 5, 5]


def test_s11_a_base_of_zero_never_pauses() -> None:
    policy = RetryPolicy(base=timedelta(0), cap=timedelta(0))
    assert policy.next_pause(50, lambda: 0.9) == timedelta(0)


@pytest.mark.parametrize(("base", "cap"), [(-1, 1), (2, 1)])
def test_a_policy_that_cannot_be_meant_is_refused(base: int, cap: int) -> None:
    with pytest.raises(ValueError, match="must not be"):
        RetryPolicy(base=timedelta(seconds=base), cap=timedelta(seconds=cap))


def test_attempts_count_from_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        RetryPolicy().ceiling(0)

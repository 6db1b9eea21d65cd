"""The table of fates (D7: S5, S8, S10 to S13) and the retry pause (S11)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kessel_core import Reason, RetryPolicy, Status
from kessel_core.contract import COMMIT, Bury, Rollback
from kessel_core.model.lifecycle import (
    FATES,
    TRANSITIONS,
    Ending,
    Fate,
    Limits,
    Settle,
    State,
    decide,
    settlement_of,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEFT = Limits(1, 3)
SPENT = Limits(3, 3)
TOO_LATE = Limits(1, 3, NOW, NOW)


def test_every_case_has_exactly_one_fate() -> None:
    assert set(FATES) == set(product(Ending, (True, False), (True, False)))


@pytest.mark.parametrize(
    ("ending", "limits", "settle", "status", "reason"),
    [
        (Ending.SUCCESS, LEFT, Settle.COMMIT, Status.SUCCESS, None),
        (Ending.SUCCESS, SPENT, Settle.COMMIT, Status.SUCCESS, None),
        (Ending.FATAL, LEFT, Settle.BURY, Status.FAILED, None),
        (Ending.TRANSIENT, LEFT, Settle.ROLLBACK, Status.TRANSIENT, None),
        (Ending.TRANSIENT, SPENT, Settle.BURY, Status.FAILED, Reason.RETRIES_EXHAUSTED),
        (Ending.TRANSIENT, TOO_LATE, Settle.COMMIT, Status.FAILED, Reason.EXPIRED),
        (Ending.EXPIRED, LEFT, Settle.COMMIT, Status.FAILED, Reason.EXPIRED),
        (Ending.NO_HANDLER, LEFT, Settle.BURY, Status.FAILED, Reason.NO_HANDLER),
        (Ending.NO_HANDLER_HERE, LEFT, Settle.ROLLBACK, Status.TRANSIENT, None),
        (Ending.NO_HANDLER_HERE, SPENT, Settle.BURY, Status.FAILED, Reason.NO_HANDLER),
        (Ending.UNDECODABLE, LEFT, Settle.BURY, Status.FAILED, Reason.UNDECODABLE),
        (Ending.LOST, SPENT, Settle.BURY, Status.FAILED, Reason.WORKER_LOST),
    ],
)
def test_fate(ending: Ending, limits: Limits, settle: Settle, status: Status, reason: Reason | None) -> None:
    fate = decide(ending, limits)
    assert (fate.settle, fate.status, fate.reason) == (settle, status, reason)


def test_every_fate_names_its_clause() -> None:
    assert {fate.clause for fate in FATES.values()} <= {f"S{number}" for number in range(1, 19)}


def test_every_state_can_be_reached_and_only_gone_is_left_by_nothing() -> None:
    assert {arrow.target for arrow in TRANSITIONS} == set(State)
    assert {arrow.source for arrow in TRANSITIONS if arrow.source} == set(State) - {State.GONE}


def spelled(fate: Fate, bury_expired: bool = False) -> object:
    return settlement_of(
        fate, pause=timedelta(5), reason=Reason.ERROR, message="why", bury_expired=bury_expired
    )


def test_a_fate_is_spelled_out_as_one_settlement() -> None:
    assert spelled(decide(Ending.SUCCESS, LEFT)) == COMMIT
    assert spelled(decide(Ending.TRANSIENT, LEFT)) == Rollback(timedelta(5))
    assert spelled(decide(Ending.FATAL, LEFT)) == Bury("error", "why")


def test_s5_an_expired_job_is_committed_or_buried_as_configured() -> None:
    fate = decide(Ending.EXPIRED, LEFT)
    assert spelled(fate) == COMMIT
    assert spelled(fate, bury_expired=True) == Bury("expired", "why")


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_s11_the_pause_is_between_zero_and_the_cap(attempt: int, draw: float) -> None:
    policy = RetryPolicy(base=timedelta(seconds=1), cap=timedelta(minutes=1))
    assert timedelta(0) <= policy.next_pause(attempt, lambda: draw) <= policy.ceiling(attempt) <= policy.cap


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

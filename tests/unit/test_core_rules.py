"""The table that decides what becomes of a job (D7, E2): S5, S8, S10 to S13, S21."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import product, starmap
from typing import Any

import pytest

from kessel_core import Job, JobManager, JobResult, JobsConfig, Reason, Snooze, Status
from kessel_core.contract import COMMIT, Bury, Commit, JobState, Rollback, Settlement
from kessel_core.contract import Snooze as Snoozed
from kessel_core.model.lifecycle import RULES, TRANSITIONS, Rule, Situation, rules_for
from kessel_core.model.policies import OnExpired
from kessel_core.runtime.delivery import decide
from kessel_core.testing import VirtualClock, run_until_idle

App = Callable[..., JobManager]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOTH = (True, False)
SITUATIONS = list(starmap(Situation, product(Status, (None, *Reason), BOTH, BOTH)))
#: Attempts left, another delivery in time.
LEFT, SPENT, LATE = (True, True), (False, True), (True, False)


def test_every_situation_has_exactly_one_rule() -> None:
    """Whatever a middleware makes of a result: nothing is left to chance, and nothing cannot happen."""
    assert len(SITUATIONS) == 4 * 11 * 2 * 2
    assert set(RULES) == set(SITUATIONS)


@pytest.mark.parametrize(
    ("status", "reason", "rest", "settle", "reported", "why"),
    [
        (Status.SUCCESS, None, LEFT, Commit, Status.SUCCESS, None),
        (Status.SUCCESS, None, SPENT, Commit, Status.SUCCESS, None),
        (Status.SUCCESS, Reason.ERROR, LATE, Commit, Status.SUCCESS, None),
        (Status.FAILED, Reason.ERROR, LEFT, Bury, Status.FAILED, None),
        (Status.FAILED, None, LEFT, Bury, Status.FAILED, None),
        (Status.FAILED, Reason.BAD_PAYLOAD, LATE, Bury, Status.FAILED, None),
        (Status.FAILED, Reason.EXPIRED, LEFT, Commit, Status.FAILED, Reason.EXPIRED),
        (Status.FAILED, Reason.NO_HANDLER, LEFT, Bury, Status.FAILED, Reason.NO_HANDLER),
        (Status.FAILED, Reason.UNDECODABLE, LEFT, Bury, Status.FAILED, Reason.UNDECODABLE),
        (Status.FAILED, Reason.WORKER_LOST, SPENT, Bury, Status.FAILED, Reason.WORKER_LOST),
        (Status.TRANSIENT, Reason.ERROR, LEFT, Rollback, Status.TRANSIENT, None),
        (Status.TRANSIENT, Reason.ERROR, SPENT, Bury, Status.FAILED, Reason.RETRIES_EXHAUSTED),
        (Status.TRANSIENT, Reason.ERROR, LATE, Commit, Status.FAILED, Reason.EXPIRED),
        # Attempts are asked before the time: who failed as often as allowed is to be looked at.
        (Status.TRANSIENT, Reason.ERROR, (False, False), Bury, Status.FAILED, Reason.RETRIES_EXHAUSTED),
        (Status.SNOOZED, None, LEFT, Snoozed, Status.SNOOZED, None),
        (Status.SNOOZED, None, SPENT, Snoozed, Status.SNOOZED, None),
        (Status.SNOOZED, None, LATE, Commit, Status.FAILED, Reason.EXPIRED),
        (Status.SNOOZED, Reason.TOO_EARLY, SPENT, Snoozed, Status.SNOOZED, None),
        (Status.SNOOZED, Reason.NO_HANDLER, SPENT, Snoozed, Status.SNOOZED, None),
        (Status.SNOOZED, Reason.NO_HANDLER, LATE, Commit, Status.FAILED, Reason.EXPIRED),
    ],
)
def test_what_becomes_of_a_job(
    status: Status,
    reason: Reason | None,
    rest: tuple[bool, bool],
    settle: type[Settlement],
    reported: Status,
    why: Reason | None,
) -> None:
    rule = RULES[Situation(status, reason, *rest)]
    assert (rule.settle, rule.status, rule.reason) == (settle, reported, why)


def test_every_rule_names_its_clause() -> None:
    assert {rule.clause for rule in RULES.values()} == {"S5", "S8", "S10", "S11", "S12", "S13", "S20", "S21"}


def test_only_a_settlement_that_brings_the_job_back_reports_that_it_has_not_ended() -> None:
    for situation, rule in RULES.items():
        returns = rule.settle in (Rollback, Snoozed)
        assert returns == (rule.status in (Status.TRANSIENT, Status.SNOOZED)), situation


def test_s10_s21_no_rule_counts_what_is_no_failure_and_none_lets_a_failure_go_uncounted() -> None:
    for situation, rule in RULES.items():
        assert (rule.settle is Snoozed) <= (situation.status is Status.SNOOZED), situation
        assert (rule.settle is Rollback) <= (situation.status is Status.TRANSIENT), situation


def test_s5_expired_jobs_are_committed_or_buried_as_configured_and_nothing_else_changes() -> None:
    assert rules_for(OnExpired.COMMIT) is RULES
    buried = rules_for(OnExpired.BURY)
    assert set(buried) == set(RULES)
    for situation, rule in RULES.items():
        expected = rule._replace(settle=Bury) if rule.reason is Reason.EXPIRED else rule
        assert buried[situation] == expected


def test_every_state_can_be_reached_and_left() -> None:
    assert {arrow.target for arrow in TRANSITIONS} == {None, *JobState}
    assert {arrow.source for arrow in TRANSITIONS} == {None, *JobState}


# --- a look-up ----------------------------------------------------------------------------------------


def ended(status: Status, reason: Reason | None = None, **fields: Any) -> JobResult:
    job = Job(type="a", id="i", expires_at=fields.pop("expires_at", None))
    return JobResult(id="i", request=job, status=status, reason=reason, **fields)


@pytest.mark.parametrize(
    ("outcome", "settlement"),
    [
        (ended(Status.SUCCESS), COMMIT),
        (ended(Status.TRANSIENT, Reason.ERROR), Rollback(timedelta(5))),
        (ended(Status.SNOOZED), Snoozed(timedelta(5))),
        (ended(Status.FAILED, Reason.ERROR, message="why"), Bury("error", "why")),
        (ended(Status.FAILED, message="why"), Bury("error", "why")),
        (ended(Status.FAILED, Reason.EXPIRED), COMMIT),
    ],
)
def test_a_decision_is_spelled_out_as_one_settlement(outcome: JobResult, settlement: Settlement) -> None:
    assert decide(RULES, outcome, pause=timedelta(5), now=NOW).settlement == settlement


@pytest.mark.parametrize("status", [Status.TRANSIENT, Status.SNOOZED])
@pytest.mark.parametrize(("early", "expired"), [(timedelta(microseconds=1), False), (timedelta(0), True)])
def test_s11_s21_a_next_delivery_at_the_expiration_itself_is_too_late(
    status: Status, early: timedelta, expired: bool
) -> None:
    pause = timedelta(hours=1)
    outcome = ended(status, expires_at=NOW + pause + early)
    decision = decide(RULES, outcome, pause=pause, now=NOW)
    assert (decision.result.reason is Reason.EXPIRED) is expired
    assert (decision.settlement == COMMIT) is expired


def test_a_pause_beyond_all_time_is_a_pause() -> None:
    decision = decide(RULES, ended(Status.SNOOZED), pause=timedelta.max, now=NOW)
    assert decision.settlement == Snoozed(timedelta.max)
    late = decide(RULES, ended(Status.SNOOZED, expires_at=NOW), pause=timedelta.max, now=NOW)
    assert late.result.reason is Reason.EXPIRED


# --- it is the table that decides -------------------------------------------------------------------------


def change(patch: pytest.MonkeyPatch, situation: Situation, rule: Rule) -> None:
    assert RULES[situation].settle is not rule.settle
    patch.setitem(RULES, situation, rule)


def test_d7_a_changed_row_buries_a_success(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = Rule(Bury, Status.FAILED, Reason.ERROR, "S8")
    change(monkeypatch, Situation(Status.SUCCESS, None, True, True), rule)
    manager = app({"a": lambda payload: "fine"})
    manager.request("a")
    (result,) = run_until_idle(manager)
    assert (result.status, result.reason, result.value) == (Status.FAILED, Reason.ERROR, "fine")
    assert [stored.reason for stored in manager.adapter.buried("default")] == ["error"]


def test_d7_a_changed_row_commits_a_snooze(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    def snoozing(payload: object) -> None:
        raise Snooze(timedelta(hours=1))

    rule = Rule(Commit, Status.SUCCESS, None, "S21")
    change(monkeypatch, Situation(Status.SNOOZED, None, True, True), rule)
    manager = app({"a": snoozing}, jobs=JobsConfig(max_attempts=2))
    manager.request("a")
    (result,) = run_until_idle(manager)
    assert result.ok
    assert manager.adapter.stats("default").total == 0


def test_d7_a_changed_row_buries_what_was_delivered_too_early(
    app: App, deliver: Any, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = Rule(Bury, Status.FAILED, Reason.TOO_EARLY, "S4")
    change(monkeypatch, Situation(Status.SNOOZED, Reason.TOO_EARLY, True, True), rule)
    body = {"type": "a", "id": "i", "delay": (clock.now() + timedelta(hours=1)).isoformat()}
    done = deliver(app({"a": print}), json.dumps(body).encode())
    assert done.ending == ("failed", "too-early")
    assert done.settlements == [Bury("too-early", "delivered before its delay")]

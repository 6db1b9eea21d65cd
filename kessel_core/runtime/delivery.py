"""The values on a job's way through a worker: a delivery, its outcome (a `JobResult`), the decision.

Each step of the pipeline takes one and gives the next; nobody changes one. The decision is a look-up in
`model.lifecycle.RULES`; nothing here acts, waits or asks anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import attrs

from kessel_core.contract.messages import Reservation
from kessel_core.handlers.registry import Handler
from kessel_core.model.job import Job
from kessel_core.model.lifecycle import Rule, Situation
from kessel_core.model.result import JobResult, Reason, Status
from kessel_core.model.settlement import COMMIT, NO_PAUSE, Bury, Commit, Rollback, Settlement, Snooze

__all__ = ["Decision", "Delivery", "decide"]


@attrs.frozen
class Delivery:
    """One delivery of one job, as far as its bytes could be read."""

    #: What the adapter handed over.
    reservation: Reservation
    #: Which delivery this is, of those that count (S10).
    attempt: int
    #: What the bytes say; None: nothing that can be read.
    job: Job | None = None
    #: What runs jobs of its type; None: nothing here.
    handler: Handler | None = None

    @property
    def id(self) -> str:
        """The job's id, or how the adapter names it, for logs."""
        return (self.job.id if self.job is not None else None) or self.reservation.id or ""

    def ended(
        self,
        status: Status,
        reason: Reason | None,
        message: str,
        now: datetime,
        after: timedelta | None = None,
    ) -> JobResult:
        """Make the outcome of a delivery that no handler has seen."""
        return JobResult(
            id=self.id,
            request=self.job,
            status=status,
            message=message,
            reason=reason,
            attempt=self.attempt,
            after=after,
            finished_at=now,
        )


@attrs.frozen
class Decision:
    """What becomes of the job."""

    #: The one call that the queue gets.
    settlement: Settlement
    #: What is told to watchers and callbacks: the outcome, with what the decision says of it.
    result: JobResult


def decide(
    rules: Mapping[Situation, Rule],
    outcome: JobResult,
    *,
    attempts_left: bool = True,
    pause: timedelta = NO_PAUSE,
    now: datetime | None = None,
) -> Decision:
    """Look up what becomes of a job.

    Args:
        rules: The table, as `model.lifecycle.rules_for` gives it.
        outcome: How the attempt ended.
        attempts_left: Whether one more delivery is allowed.
        pause: Before the next delivery, if there is one.
        now: The present moment; None where no next delivery is thinkable, as after a success.
    """
    in_time = True
    if now is not None and outcome.request is not None and outcome.request.expires_at is not None:
        in_time = _later(now, pause) < outcome.request.expires_at
    # A plain tuple finds what a `Situation` is the key of, and costs half.
    rule = rules[outcome.status, outcome.reason, attempts_left, in_time]  # type: ignore[index]  # as above
    result, reason = outcome, rule.reason or outcome.reason
    if rule.status is not outcome.status or reason is not outcome.reason:
        result = attrs.evolve(outcome, status=rule.status, reason=reason)
    return Decision(COMMIT if rule.settle is Commit else _settlement(rule, result, pause), result)


def _settlement(rule: Rule, result: JobResult, pause: timedelta) -> Settlement:
    if rule.settle is Rollback:
        return Rollback(pause)
    if rule.settle is Snooze:
        return Snooze(pause)
    return Bury(str(result.reason or Reason.ERROR), result.message)


def _later(now: datetime, pause: timedelta) -> datetime:
    try:
        return now + pause
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)

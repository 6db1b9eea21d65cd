"""The values of the pipeline: a delivery, its outcome (a `JobResult`), the decision.

Each step of the pipeline takes one and returns the next; they are immutable. The decision is a look-up in
`model.lifecycle.RULES`; nothing here acts, waits or calls out. Named tuples, because one of each is created
for every job, in a third of the time that a frozen attrs class takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import attrs

from kessel_core.clock import later
from kessel_core.contract.messages import Reservation
from kessel_core.handlers.registry import Handler
from kessel_core.model.job import Job
from kessel_core.model.lifecycle import Rule, Situation
from kessel_core.model.result import JobResult, Reason, Status
from kessel_core.model.settlement import COMMIT, NO_PAUSE, Bury, Commit, Rollback, Settlement, Snooze

__all__ = ["MESSAGE_LIMIT", "Decision", "Delivery", "decide"]

#: Failure texts are cut here: they are for people, and are stored beside the job.
MESSAGE_LIMIT: Final = 2000


class Delivery(NamedTuple):
    """One delivery of one job, as far as its bytes could be read."""

    #: What the adapter returned.
    reservation: Reservation
    #: The number of this attempt, from 1 (S10).
    attempt: int
    #: The decoded job; None: it cannot be decoded.
    job: Job | None = None
    #: The handler of its type; None: there is none here.
    handler: Handler | None = None

    @property
    def id(self) -> str:
        """The job's id, or the adapter's name for it; for logs."""
        return (self.job.id if self.job is not None else None) or self.reservation.id or ""

    def outcome(
        self,
        status: Status,
        reason: Reason | None,
        message: str,
        now: datetime,
        after: timedelta | None = None,
    ) -> JobResult:
        """Return the outcome of a delivery whose handler was not run."""
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


class Decision(NamedTuple):
    """What happens to the job, and what is reported."""

    #: What the queue is told.
    settlement: Settlement
    #: What watchers and callbacks get: the outcome, with the status and reason of the decision.
    result: JobResult


def decide(
    rules: Mapping[Situation, Rule],
    outcome: JobResult,
    *,
    attempts_left: bool = True,
    pause: timedelta = NO_PAUSE,
    now: datetime | None = None,
) -> Decision:
    """Look up what happens to a job. Pure.

    Args:
        rules: The table from `model.lifecycle.rules_for`.
        outcome: How the attempt ended.
        attempts_left: Whether one more delivery is allowed.
        pause: The pause before the next delivery, if there is one; zero or more.
        now: The current time; None if there can be no next delivery, as after a success.
    """
    in_time = True
    if now is not None and outcome.request is not None and outcome.request.expires_at is not None:
        in_time = later(now, pause) < outcome.request.expires_at
    # A plain tuple equals the `Situation` that is the key, and is twice as fast.
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
    message = result.message
    if result.frames:
        message = f"{message[: MESSAGE_LIMIT - len(result.frames) - 1]}\n{result.frames}"
    return Bury(str(result.reason or Reason.ERROR), message)

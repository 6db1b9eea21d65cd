"""The decision about a job, as a pure table (D7): how an attempt ended x what is left -> how it is settled.

Rules of this file: every transition of a job is in `TRANSITIONS` and every decision in `RULES`; there are
no others. No clock, no adapter, no randomness. The state diagram in the docs is generated from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from kessel_core.model.policies import OnExpired
from kessel_core.model.result import Reason, Status
from kessel_core.model.settlement import Bury, Commit, Rollback, Snooze
from kessel_core.model.states import JobState

__all__ = ["RULES", "TRANSITIONS", "Rule", "Situation", "Transition", "rules_for"]


class Transition(NamedTuple):
    """One arrow of the state diagram; None as source or target means that the job is not stored."""

    source: JobState | None
    event: str
    target: JobState | None
    clause: str


TRANSITIONS: Final = (
    Transition(None, "enqueue", JobState.READY, "S9"),
    Transition(None, "enqueue with delay", JobState.DELAYED, "S4"),
    Transition(JobState.DELAYED, "its time comes", JobState.READY, "S4"),
    Transition(JobState.READY, "reserve", JobState.RESERVED, "S6"),
    Transition(JobState.RESERVED, "commit", None, "S8"),
    Transition(JobState.RESERVED, "rollback or snooze", JobState.READY, "S8, S21"),
    Transition(JobState.RESERVED, "rollback or snooze with pause", JobState.DELAYED, "S11, S21"),
    Transition(JobState.RESERVED, "bury", JobState.BURIED, "S8"),
    Transition(JobState.RESERVED, "lease ends or worker dies", JobState.READY, "S7"),
    Transition(JobState.BURIED, "kick", JobState.READY, "S8"),
    Transition(JobState.BURIED, "delete", None, "S8"),
    Transition(JobState.READY, "delete", None, "S8"),
    Transition(JobState.DELAYED, "delete", None, "S8"),
)


class Situation(NamedTuple):
    """Everything that a decision depends on."""

    #: How the attempt ended.
    status: Status
    #: Why it ended so; None: no reason was given.
    reason: Reason | None
    #: Whether one more delivery is allowed (S10).
    attempts_left: bool
    #: Whether another delivery could begin before the job expires (S11, S21).
    in_time: bool


class Rule(NamedTuple):
    """What happens in a situation."""

    #: The type of settlement.
    settle: type[Commit | Rollback | Snooze | Bury]
    #: The status that is reported.
    status: Status
    #: The reason that is reported; None keeps the reason of the attempt.
    reason: Reason | None
    #: The clause that promises it.
    clause: str


#: Reasons with a clause of their own.
_SET_ASIDE: Final = {Reason.NO_HANDLER: "S12", Reason.UNDECODABLE: "S13", Reason.WORKER_LOST: "S10"}
_EXPIRED: Final = Rule(Commit, Status.FAILED, Reason.EXPIRED, "S5")
_Row: TypeAlias = tuple[Situation, Rule]
_BOTH: Final = (True, False)


def _rows(
    status: Status,
    reason: Reason | None,
    rule: Rule,
    *,
    attempts_left: tuple[bool, ...] = _BOTH,
    in_time: tuple[bool, ...] = _BOTH,
) -> Iterator[_Row]:
    """Yield the rows of one rule; it applies to both values of what is not given."""
    for left in attempts_left:
        for soon in in_time:
            yield Situation(status, reason, left, soon), rule


def _all_rows() -> Iterator[_Row]:
    """Yield every row; a later row for the same situation replaces an earlier one."""
    for reason in (None, *Reason):
        yield from _rows(Status.SUCCESS, reason, Rule(Commit, Status.SUCCESS, None, "S8"))
        yield from _rows(Status.FAILED, reason, Rule(Bury, Status.FAILED, None, "S8"))
        # Attempts come before expiration: a job that has used them up is a failure that somebody should
        # look at, even if it has expired as well.
        exhausted = Rule(Bury, Status.FAILED, Reason.RETRIES_EXHAUSTED, "S10")
        yield from _rows(Status.TRANSIENT, reason, exhausted, attempts_left=(False,))
        retried = Rule(Rollback, Status.TRANSIENT, None, "S11")
        yield from _rows(Status.TRANSIENT, reason, retried, attempts_left=(True,), in_time=(True,))
        too_late = _EXPIRED._replace(clause="S11")
        yield from _rows(Status.TRANSIENT, reason, too_late, attempts_left=(True,), in_time=(False,))
        # A snooze is not an attempt, so the attempts left do not matter.
        yield from _rows(Status.SNOOZED, reason, Rule(Snooze, Status.SNOOZED, None, "S21"), in_time=(True,))
        yield from _rows(Status.SNOOZED, reason, _EXPIRED._replace(clause="S21"), in_time=(False,))
    yield from _rows(Status.FAILED, Reason.EXPIRED, _EXPIRED)
    for reason, clause in (
        (Reason.NO_HANDLER, "S12"),
        (Reason.UNDECODABLE, "S13"),
        (Reason.WORKER_LOST, "S10"),
        (Reason.FOLLOW_UP_REFUSED, "S20"),
    ):
        yield from _rows(Status.FAILED, reason, Rule(Bury, Status.FAILED, reason, clause))


#: Every situation -> its rule. This table decides: change a row, and jobs end differently.
RULES: Final[dict[Situation, Rule]] = dict(_all_rows())


def rules_for(on_expired: OnExpired) -> Mapping[Situation, Rule]:
    """Return the table for a policy: `RULES` itself, or a copy that buries expired jobs (S5)."""
    if on_expired is OnExpired.COMMIT:
        return RULES
    return {
        situation: rule._replace(settle=Bury) if rule.reason is Reason.EXPIRED else rule
        for situation, rule in RULES.items()
    }

"""The fate of a job, as a pure table (D7): how an attempt ended x what is left -> what happens.

Rules of this file: every transition of a job is in `TRANSITIONS`, every decision in `FATES`;
no clock, no adapter, no randomness. The state diagram in the docs is drawn from it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

import attrs

from kessel_core.model.job import Reason, Status
from kessel_core.model.settlement import COMMIT, Bury, Rollback, Settlement

__all__ = ["Ending", "FATES", "Fate", "Limits", "State", "TRANSITIONS", "Transition", "decide"]


class State(StrEnum):
    """Where a job is in its life."""

    DELAYED = "delayed"
    READY = "ready"
    RESERVED = "reserved"
    BURIED = "buried"
    GONE = "gone"


class Transition(NamedTuple):
    """One arrow of the state diagram."""

    source: State | None
    event: str
    target: State
    clause: str


TRANSITIONS: Final = (
    Transition(None, "enqueue", State.READY, "S9"),
    Transition(None, "enqueue with delay", State.DELAYED, "S4"),
    Transition(State.DELAYED, "its time comes", State.READY, "S4"),
    Transition(State.READY, "reserve", State.RESERVED, "S6"),
    Transition(State.RESERVED, "commit", State.GONE, "S8"),
    Transition(State.RESERVED, "rollback", State.READY, "S8"),
    Transition(State.RESERVED, "rollback with pause", State.DELAYED, "S11"),
    Transition(State.RESERVED, "bury", State.BURIED, "S8"),
    Transition(State.RESERVED, "lease ends or worker dies", State.READY, "S7"),
    Transition(State.BURIED, "kick", State.READY, "S8"),
    Transition(State.BURIED, "delete", State.GONE, "S8"),
    Transition(State.READY, "delete", State.GONE, "S8"),
    Transition(State.DELAYED, "delete", State.GONE, "S8"),
)


class Ending(StrEnum):
    """How an attempt ended, before anything is decided."""

    SUCCESS = "success"
    #: The handler failed in a way that a retry cannot help.
    FATAL = "fatal"
    #: The handler failed in a way that will pass.
    TRANSIENT = "transient"
    #: Its expiration came before the handler was started (S5).
    EXPIRED = "expired"
    #: No handler here for the type (S12).
    NO_HANDLER = "no-handler"
    #: The same, where other workers may know the type: `unknown_type = "retry"` (S12).
    NO_HANDLER_HERE = "no-handler-here"
    #: The body is not a request (S13).
    UNDECODABLE = "undecodable"
    #: Earlier deliveries used up all attempts and the last one never reported (S10).
    LOST = "lost"


class Settle(StrEnum):
    """The three ways to settle (S8)."""

    COMMIT = "commit"
    ROLLBACK = "rollback"
    BURY = "bury"


class Fate(NamedTuple):
    """What happens to the job."""

    settle: Settle
    status: Status
    #: None keeps the reason that the attempt gave.
    reason: Reason | None
    clause: str


_EXPIRED: Final = Fate(Settle.COMMIT, Status.FAILED, Reason.EXPIRED, "S5")


_RETRY: Final = Fate(Settle.ROLLBACK, Status.TRANSIENT, None, "S11")


_RETRY_TOO_LATE: Final = Fate(Settle.COMMIT, Status.FAILED, Reason.EXPIRED, "S11")


# (ending, attempts are left, a retry could start before the expiration) -> fate.
_BOTH: Final = (True, False)


def _rows(ending: Ending, fate: Fate) -> dict[tuple[Ending, bool, bool], Fate]:
    """The fate of an ending that depends on nothing else."""
    return {(ending, left, in_time): fate for left in _BOTH for in_time in _BOTH}


FATES: Final[dict[tuple[Ending, bool, bool], Fate]] = {
    **_rows(Ending.SUCCESS, Fate(Settle.COMMIT, Status.SUCCESS, None, "S8")),
    **_rows(Ending.FATAL, Fate(Settle.BURY, Status.FAILED, None, "S8")),
    **_rows(Ending.EXPIRED, _EXPIRED),
    **_rows(Ending.NO_HANDLER, Fate(Settle.BURY, Status.FAILED, Reason.NO_HANDLER, "S12")),
    **_rows(Ending.UNDECODABLE, Fate(Settle.BURY, Status.FAILED, Reason.UNDECODABLE, "S13")),
    **_rows(Ending.LOST, Fate(Settle.BURY, Status.FAILED, Reason.WORKER_LOST, "S10")),
    (Ending.TRANSIENT, True, True): _RETRY,
    (Ending.TRANSIENT, True, False): _RETRY_TOO_LATE,
    # Attempts are asked first: a job that failed as often as it may is a failure to be looked at,
    # even if its time is over, too.
    (Ending.TRANSIENT, False, True): Fate(Settle.BURY, Status.FAILED, Reason.RETRIES_EXHAUSTED, "S10"),
    (Ending.TRANSIENT, False, False): Fate(Settle.BURY, Status.FAILED, Reason.RETRIES_EXHAUSTED, "S10"),
    (Ending.NO_HANDLER_HERE, True, True): _RETRY,
    (Ending.NO_HANDLER_HERE, True, False): _RETRY_TOO_LATE,
    (Ending.NO_HANDLER_HERE, False, True): Fate(Settle.BURY, Status.FAILED, Reason.NO_HANDLER, "S12"),
    (Ending.NO_HANDLER_HERE, False, False): Fate(Settle.BURY, Status.FAILED, Reason.NO_HANDLER, "S12"),
}


@attrs.frozen
class Limits:
    """What is left for a job."""

    #: The delivery that just ended, from 1 (S10).
    attempt: int
    #: Most deliveries; at least 1.
    max_attempts: int
    #: When a retry could start: now + pause.
    retry_at: datetime | None = None
    #: The job's expiration.
    expiration: datetime | None = None

    @property
    def attempts_left(self) -> bool:
        """Whether one more delivery is allowed."""
        return self.attempt < self.max_attempts

    @property
    def retry_in_time(self) -> bool:
        """Whether a retry could start before the expiration (S11)."""
        return self.expiration is None or self.retry_at is None or self.retry_at < self.expiration


def decide(ending: Ending, limits: Limits) -> Fate:
    """Return the fate of a job; a look-up in `FATES`."""
    return FATES[ending, limits.attempts_left, limits.retry_in_time]


def settlement_of(
    fate: Fate,
    *,
    pause: timedelta,
    reason: Reason | None,
    message: str,
    bury_expired: bool = False,
) -> Settlement:
    """Spell a fate out as the one call that the adapter gets.

    Args:
        fate: What was decided.
        pause: The retry pause, used by a rollback.
        reason: What a burial says, if the fate names none.
        message: The failure's text, used by a burial.
        bury_expired: The policy `on_expired = "bury"` (S5).
    """
    if fate.settle is Settle.ROLLBACK:
        return Rollback(pause)
    if fate.settle is Settle.BURY or (bury_expired and fate.reason is Reason.EXPIRED):
        return Bury(str(fate.reason or reason or Reason.ERROR), message)
    return COMMIT

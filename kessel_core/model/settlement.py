"""How a reservation ends (S8, S21): the four values that a settle takes. Nothing else ends one."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, TypeAlias

import attrs

__all__ = ["COMMIT", "NO_PAUSE", "Bury", "Commit", "Rollback", "Settlement", "Snooze"]

NO_PAUSE: Final = timedelta(0)


@attrs.frozen
class Commit:
    """Remove the job (S8)."""

    #: The encoded result, given only to adapters with the facet `Results`.
    result: bytes | None = None


@attrs.frozen
class Rollback:
    """Make the job ready again after a pause, with its own priority; the delivery counts (S8, S10)."""

    #: Zero or more; rounded up to the adapter's granularity.
    pause: timedelta = NO_PAUSE


@attrs.frozen
class Snooze:
    """Make the job ready again after a pause, with its own priority; the delivery does not count (S21)."""

    #: Zero or more; rounded up to the adapter's granularity.
    pause: timedelta = NO_PAUSE


@attrs.frozen
class Bury:
    """Set the job aside until it is kicked or deleted (S8)."""

    #: Machine-readable, as `JobResult.reason`.
    reason: str
    #: For people; at most some thousand characters.
    message: str = ""
    #: The encoded result, given only to adapters with the facet `Results`.
    result: bytes | None = None


Settlement: TypeAlias = Commit | Rollback | Snooze | Bury

#: The settlement of the ordinary job, made once.
COMMIT: Final = Commit()

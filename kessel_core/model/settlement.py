"""The four ways to settle a reservation (S8, S21). Nothing else ends one."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, TypeAlias

import attrs

__all__ = ["COMMIT", "NO_PAUSE", "Bury", "Commit", "Rollback", "Settlement", "Snooze"]

NO_PAUSE: Final = timedelta(0)


@attrs.frozen
class Commit:
    """Remove the job (S8)."""

    #: The encoded result; passed only to adapters with the facet `Results`.
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

    #: A code for programs, as in `JobResult.reason`.
    reason: str
    #: The explanation for people; at most a few thousand characters.
    message: str = ""
    #: The encoded result; passed only to adapters with the facet `Results`.
    result: bytes | None = None


Settlement: TypeAlias = Commit | Rollback | Snooze | Bury

#: A commit without a result, shared by all ordinary jobs.
COMMIT: Final = Commit()

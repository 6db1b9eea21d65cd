"""How a reservation ends (S8): the values that a settle takes."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import attrs

__all__ = ["Bury", "COMMIT", "Commit", "NO_PAUSE", "Rollback", "Settlement"]


NO_PAUSE: Final = timedelta(0)


@attrs.frozen
class Commit:
    """Remove the job (S8)."""

    #: The encoded result, given only to adapters that declare `results`.
    result: bytes | None = None


@attrs.frozen
class Rollback:
    """Make the job ready again after a pause, with its own priority (S8)."""

    #: Zero or more; rounded up to the adapter's granularity.
    pause: timedelta = NO_PAUSE


@attrs.frozen
class Bury:
    """Set the job aside until it is kicked or deleted (S8)."""

    #: Machine-readable, as `JobResult.reason`.
    reason: str
    #: For people; at most some thousand characters.
    message: str = ""


Settlement = Commit | Rollback | Bury


#: The settlement of the ordinary job, made once.
COMMIT: Final = Commit()

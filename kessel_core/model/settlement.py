"""The four ways to settle a reservation (S8, S21), and what two of them bring along (S20)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, TypeAlias

import attrs

from kessel_core.clock import plain_span
from kessel_core.model.json import storable
from kessel_core.model.message import Message

__all__ = ["COMMIT", "NO_PAUSE", "Bury", "Commit", "Put", "Rollback", "Settlement", "Snooze"]

NO_PAUSE: Final = timedelta(0)
#: Longest text of a burial, in characters.
_LONGEST_TEXT: Final = 100_000


@attrs.frozen
class Put:
    """An entry for the adapter's own store, written in the transaction of a settlement (S20, S25)."""

    #: The space of the entry.
    space: str
    #: The key; whatever is there is replaced.
    key: str
    #: The value.
    value: bytes
    #: More than zero; the entry is gone after it; None: it stays.
    ttl: timedelta | None = attrs.field(default=None, converter=attrs.converters.optional(plain_span))


@attrs.frozen
class Commit:
    """Remove the job (S8)."""

    #: Jobs to store in the same transaction; passed only where `Capabilities.follow` is declared (S20). One
    #: whose id is held already counts as stored.
    follow: tuple[Message, ...] = ()
    #: Entries for the adapter's own store, in the same transaction; passed only where `follow` is declared.
    puts: tuple[Put, ...] = ()


@attrs.frozen
class Rollback:
    """Make the job ready again after a pause, with its own priority; the delivery counts (S8, S10)."""

    #: Zero or more, rounded up to the adapter's granularity. The core cuts it to `longest_delay`, and the log
    #: says so; an adapter without delays may make the job ready at once.
    pause: timedelta = attrs.field(default=NO_PAUSE, converter=plain_span)


@attrs.frozen
class Snooze:
    """Make the job ready again after a pause, with its own priority; the delivery does not count (S21)."""

    #: As in `Rollback`.
    pause: timedelta = attrs.field(default=NO_PAUSE, converter=plain_span)


def _text(text: str) -> str:
    return storable(text, _LONGEST_TEXT)


@attrs.frozen
class Bury:
    """Set the job aside until it is kicked or deleted (S8).

    Its texts can always be written as UTF-8: what cannot is escaped here, so that no odd text prevents a
    burial.
    """

    #: A code for programs, as in `JobResult.reason`; cut after 100,000 characters.
    reason: str = attrs.field(converter=_text)
    #: The explanation for people, a few thousand characters as a rule; cut like it.
    message: str = attrs.field(default="", converter=_text)
    #: As in `Commit`.
    follow: tuple[Message, ...] = ()
    #: As in `Commit`.
    puts: tuple[Put, ...] = ()


Settlement: TypeAlias = Commit | Rollback | Snooze | Bury

#: A commit that brings nothing along, shared by all ordinary jobs.
COMMIT: Final = Commit()

"""The one edge between beanstalkd and kessel's errors: every surprise of a connection, by table.

A reply that belongs to its command is a value, see `commands`. Whatever else happens in a conversation
comes through here, and the connection is given up.
"""

from __future__ import annotations

from typing import Final

from kessel_beanstalk.framing import MalformedReply
from kessel_core.contract import AdapterError, AdapterUnavailable, ProtocolError

__all__ = ["UnexpectedReply", "described", "translated"]


class UnexpectedReply(Exception):
    """The server answered what does not belong to the command."""

    def __init__(self, command: str, line: bytes) -> None:
        self.command = command
        self.line = line
        self.status = (line.split() or [b""])[0]
        super().__init__(f"{line[:80].rstrip()!r} to {command!r}")


_MISUNDERSTOOD: Final = "the server does not understand us"
_FAILED: Final = "the server failed"
_ODD: Final = "the server gave an answer that does not belong here"
#: What a status means where it does not belong. Another one: that is no beanstalkd.
_STATUSES: Final[dict[bytes, tuple[type[AdapterError], str]]] = {
    b"BAD_FORMAT": (ProtocolError, _MISUNDERSTOOD),
    b"EXPECTED_CRLF": (ProtocolError, _MISUNDERSTOOD),
    b"UNKNOWN_COMMAND": (ProtocolError, _MISUNDERSTOOD),
    b"INTERNAL_ERROR": (AdapterError, _FAILED),
    b"OUT_OF_MEMORY": (AdapterError, _FAILED),
    **dict.fromkeys(
        (
            b"BURIED", b"DEADLINE_SOON", b"DELETED", b"DRAINING", b"FOUND", b"INSERTED", b"JOB_TOO_BIG",
            b"KICKED", b"NOT_FOUND", b"NOT_IGNORED", b"OK", b"PAUSED", b"RELEASED", b"RESERVED", b"TIMED_OUT",
            b"TOUCHED", b"USING", b"WATCHING",
        ),
        (AdapterError, _ODD),
    ),
}  # fmt: skip


def translated(exc: Exception, address: str) -> AdapterError:
    """Return kessel's error for whatever a conversation with the server at `address` raised."""
    match exc:
        case AdapterError():
            return exc
        case UnexpectedReply(status=status):
            kind, what = _STATUSES.get(status, (ProtocolError, "not a beanstalkd, it answered"))
            return kind(f"{address}: {what}: {exc}")
        case MalformedReply():
            return ProtocolError(f"{address}: not a beanstalkd, {exc}")
        case OSError():
            return AdapterUnavailable(f"{address}: connection lost: {described(exc)}")
        case _:  # as a signal handler may raise it in the middle
            return AdapterUnavailable(f"{address}: connection lost: interrupted by {type(exc).__name__}")


def described(exc: BaseException) -> str:
    """Return an exception's text, or its name where it has none."""
    return str(exc) or type(exc).__name__

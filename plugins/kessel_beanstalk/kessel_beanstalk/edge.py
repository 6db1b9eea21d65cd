"""Translates every unexpected event on a connection into an error of the contract, by a table.

A valid reply is a value; see `commands`. Anything else comes through here, and closes the connection.
"""

from __future__ import annotations

from typing import Final

from kessel_beanstalk.framing import MalformedReply
from kessel_core.contract import AdapterError, AdapterUnavailable, ProtocolError

__all__ = ["UnexpectedReply", "described", "translated"]


class UnexpectedReply(Exception):
    """The server sent a reply that is not valid for the command."""

    def __init__(self, command: str, line: bytes) -> None:
        self.command = command
        self.line = line
        self.status = (line.split() or [b""])[0]
        super().__init__(f"{line[:80].rstrip()!r} to {command!r}")


_MISUNDERSTOOD: Final = "the server does not understand us"
_FAILED: Final = "the server failed"
_ODD: Final = "the server gave an answer that does not belong here"
#: What a status means as an unexpected reply. With any other status the server is not a beanstalkd.
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
    """Return the contract's error for an exception on a connection to the server at `address`."""
    match exc:
        case AdapterError():
            return exc
        case UnexpectedReply(status=status):
            error, what = _STATUSES.get(status, (ProtocolError, "not a beanstalkd, it answered"))
            return error(f"{address}: {what}: {exc}")
        case MalformedReply():
            return ProtocolError(f"{address}: not a beanstalkd, {exc}")
        case OSError():
            return AdapterUnavailable(f"{address}: connection lost: {described(exc)}")
        case _:  # for example from a signal handler
            return AdapterUnavailable(f"{address}: connection lost: interrupted by {type(exc).__name__}")


def described(exc: BaseException) -> str:
    """Return the message of an exception, or the name of its type if it has none."""
    return str(exc) or type(exc).__name__

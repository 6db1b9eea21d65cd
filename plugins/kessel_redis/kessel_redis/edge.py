"""Translates what Redis and its client say into the errors of the contract; the only place that does."""

from __future__ import annotations

from typing import Final

import redis

from kessel_core.contract import (
    AdapterError,
    AdapterUnavailable,
    ProtocolError,
    Written,
    refused_write,
    unknown_write,
    without_secrets,
)
from kessel_redis.link import Lost, Refused, refusal

__all__ = ["RIGHTS", "outdates_connections", "may_be_done", "not_connected", "translated"]

#: What a server says that will take commands again later, or that another one takes; nothing was done.
_LATER: Final = frozenset(
    {
        *("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED", "MOVED", "ASK"),
        *("BUSY", "NOREPLICAS", "NOSCRIPT"),
    }
)
#: The connection leads to a server that may never take our jobs again.
_ELSEWHERE: Final = frozenset(
    {"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "UNBLOCKED", "MOVED", "ASK"}
)
#: What the user of a worker needs.
RIGHTS: Final = "+@read +@write +@scripting +@connection +@pubsub -@dangerous +time +info +config|get +role"


def outdates_connections(exc: Lost | Refused) -> bool:
    """Whether the connection, and those that were made before, are to be replaced by new ones.

    They lead to the same server, which is not the one to ask; or may be as dead as one that got no answer,
    and not say a word.
    """
    return isinstance(exc, Lost) or exc.code in _ELSEWHERE


def may_be_done(exc: BaseException) -> bool:
    """Whether a call that ended with this may have been carried out all the same."""
    if isinstance(exc, AdapterUnavailable):
        return isinstance(exc.__cause__, Lost) and exc.__cause__.was_sent
    return not isinstance(exc, AdapterError)  # as when a signal ends the wait


def translated(exc: Lost | Refused, place: str, written: Written) -> AdapterError:
    """Return the error to raise; that of an enqueue (S14) or of a put (S19), if one was to be written."""
    if isinstance(exc, Lost):
        if exc.was_sent and written is not None:
            return unknown_write(written, f"{place}: {exc.why}")
        return AdapterUnavailable(f"{place}: {exc.why}")
    why = f"{place}: {without_secrets(exc.why)} ({exc.code})"
    match exc.code:
        case "OOM":
            return refused_write(written, f"{place}: the server's memory is full (maxmemory)", "full")
        case "MISCONF":
            return refused_write(
                written, f"{why}; the server cannot save, look at its disk and its log", "full"
            )
        case "READONLY":
            return refused_write(written, f"{place}: it takes no writes now, as a replica does", "read-only")
        case "NOAUTH":
            return ProtocolError(f"{place}: refused: {without_secrets(exc.why)}")
        case "NOPERM":
            return ProtocolError(f"{why}; the rights that are needed: {RIGHTS}, on the keys and channels")
        case "WRONGTYPE":
            return ProtocolError(f"{why}; something else uses keys of this namespace: choose another one")
        case code if code in _LATER:
            return AdapterUnavailable(why)
    if "index is out of range" in exc.why:
        return ProtocolError(f"{place}: the server has no such database; choose a smaller number")
    if "max number of clients" in exc.why:
        return AdapterUnavailable(f"{why}; raise maxclients, or lower the option connections")
    return ProtocolError(why)


def not_connected(exc: Exception, place: str, *, is_tls: bool) -> AdapterError:
    """Return the error for a connection that was not made; nothing was sent."""
    if (refused := refusal(exc)) is not None:
        return translated(refused, place, None)
    text = without_secrets(" ".join(str(exc).split())) or type(exc).__name__
    if isinstance(exc, redis.InvalidResponse):
        return ProtocolError(f"{place}: this is no Redis: {text}")
    if "Invalid Database" in text:
        return ProtocolError(f"{place}: the server has no such database; choose a smaller number")
    if "Invalid Username or Password" in text:
        return ProtocolError(f"{place}: refused: invalid user name or password")
    if "SSL" in text or "certificate" in text:
        return ProtocolError(f"{place}: no encrypted connection: {text}")
    if isinstance(exc, redis.TimeoutError) and is_tls:
        text += "; are connections encrypted there?"  # a server without TLS waits for the end of a command
    return AdapterUnavailable(f"{place}: {text}")

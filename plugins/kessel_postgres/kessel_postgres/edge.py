"""Translates what PostgreSQL and its client say into the errors of the contract; the only place that does."""

from __future__ import annotations

from typing import Final

import psycopg

from kessel_core.contract import (
    AdapterError,
    AdapterUnavailable,
    ProtocolError,
    Written,
    redacted,
    refused_write,
    unknown_write,
    without_secrets,
)
from kessel_postgres.link import Lost, Refused

__all__ = [
    "LEASE_LOST",
    "is_repeatable",
    "leaves_connection_sound",
    "may_be_done",
    "not_connected",
    "not_installed",
    "translated",
]

#: Raised by our own functions: the delivery does not hold its job.
LEASE_LOST: Final = "KS001"

#: Two transactions met; this one is undone and may be done again.
_AGAIN: Final = frozenset({"40001", "40P01"})
#: The schema lacks what a statement names.
_MISSING: Final = frozenset({"42P01", "3F000", "42883", "42703"})
_RIGHTS: Final = frozenset({"42501"})
_READ_ONLY: Final = "25006"
_FULL: Final = frozenset({"53100", "53200", "54000"})
#: What a value may not hold or be.
_VALUE: Final = frozenset({"22021", "22P05", "22003", "22008", "22001"})
#: What libpq says of an answer that is none of PostgreSQL.
_ODD: Final = ("SSL negotiation", "invalid response", "expected authentication", "unexpected")
#: Who is refused at the door; trying again does not help.
_DOOR: Final = frozenset({"28P01", "28000", "3D000"})


def is_repeatable(exc: Refused) -> bool:
    """Whether the transaction is undone only because it met another one."""
    return exc.code in _AGAIN


def leaves_connection_sound(exc: Refused) -> bool:
    """Whether the connection may be used again; a server that is read-only now may be so for ever."""
    return exc.code != _READ_ONLY and exc.code[:2] not in ("57", "58", "08", "26", "XX")


def not_installed(place: str) -> ProtocolError:
    """Return the error that names the command."""
    return ProtocolError(
        f"{place}: the tables of kessel are not there; make them with: kessel postgres install, and the same"
        " address or configuration"
    )


def may_be_done(exc: BaseException) -> bool:
    """Whether a call that ended with this may have been carried out all the same."""
    if isinstance(exc, AdapterUnavailable):
        return isinstance(exc.__cause__, Lost) and exc.__cause__.was_sent
    return not isinstance(exc, (AdapterError, Refused))  # as when a signal ends the wait


def translated(exc: Lost | Refused, place: str, written: Written) -> AdapterError:
    """Return the error to raise; that of an enqueue (S14) or of a put (S19), if one was to be written."""
    if isinstance(exc, Lost):
        if exc.was_sent and written is not None:
            return unknown_write(written, f"{place}: {exc.why}")
        return AdapterUnavailable(f"{place}: {exc.why}")
    why = f"{place}: {exc.why} ({exc.code})"
    if exc.code in _MISSING:
        return not_installed(place)
    if exc.code in _RIGHTS:
        return ProtocolError(
            f"{why}; the rights that are needed: kessel postgres sql --grant ROLE, and --schema NAME for"
            " another schema than kessel"
        )
    if exc.code == _READ_ONLY:
        # Of a replica, or of a server that was made one: another may take writes.
        return refused_write(written, f"{place}: it takes no writes now, as a replica does", "read-only")
    if exc.code in _FULL:
        return refused_write(written, why, "too-large" if exc.code == "54000" else "full")
    if exc.code in _VALUE:
        return refused_write(written, why, "refused")
    if exc.code.startswith(("08", "53", "55", "57", "58", "40", "26")):
        return AdapterUnavailable(why)
    return ProtocolError(why)


def not_connected(exc: psycopg.Error, place: str, hosts: str) -> AdapterError:
    """Return the error for a connection that was not made; nothing was sent."""
    code = exc.sqlstate or ""
    # libpq repeats neither passwords nor what it was given, apart from hosts, which may hold one by mistake.
    text = without_secrets(" ".join(str(exc).split()))
    for host in filter(None, hosts.split(",")):
        text = text.replace(host, redacted(host))
    if "unsupported startup parameter" in text:
        return ProtocolError(
            f"{place}: a pooler answers, which takes no options of a connection; if it pools transactions,"
            " add pooler=true to the address"
        )
    if code in _DOOR or "authentication failed" in text or "no password supplied" in text:
        return ProtocolError(f"{place}: refused: {text}")
    if code == "42501":
        return ProtocolError(f"{place}: refused: {text}")
    if "does not exist" in text and code == "":
        return ProtocolError(f"{place}: refused: {text}")
    is_odd = any(part in text for part in _ODD)
    if is_odd and "terminated" not in text and "closed" not in text:
        return ProtocolError(f"{place}: this is no PostgreSQL: {text}")
    return AdapterUnavailable(f"{place}: {text}")

"""The wall clock in microseconds, and how leases survive when somebody sets it.

The ends of leases in the file are wall-clock times, because only those can be compared by all processes and
after a restart. But a clock that is set forward by an hour must not end the leases of running jobs. So each
process compares the wall clock with the monotonic one, and the first that sees their difference change moves
the ends of all leases by as much. The file holds the latest difference, so that this is done only once.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from kessel_core import Clock, SystemClock
from kessel_core.contract import get_logger, plain_span
from kessel_sqlite import sql

__all__ = ["HostClock", "after", "microseconds", "moment", "span_microseconds"]

log = get_logger("kessel.sqlite")

#: The last moment that a datetime can be, in microseconds since 1970; later ends are moved to it.
_LAST: Final = 253_402_300_799_999_999
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
#: In microseconds; a smaller change is drift that a time server corrects, and not a jump.
_JUMP: Final = 1_000_000
#: The same for a process that starts: it can only compare with the file, whose value may be days old.
_JUMP_SINCE_FILE: Final = 60_000_000


def microseconds(when: datetime) -> int:
    """Return the time as whole microseconds since 1970."""
    return (when - _EPOCH) // _MICROSECOND


def span_microseconds(span: timedelta) -> int:
    """Return the span as whole microseconds, rounded down."""
    return plain_span(span) // _MICROSECOND


def after(now: int, span: timedelta) -> int:
    """Return the end of a span in microseconds since 1970, at most the end of the year 9999."""
    return min(now + span_microseconds(span), _LAST)


def moment(value: int | None) -> datetime | None:
    """Return the inverse of `microseconds`, in UTC."""
    return None if value is None else _EPOCH + timedelta(microseconds=min(value, _LAST))


class HostClock:
    """The application's clock, watched for jumps."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        #: A virtual clock belongs to this process alone, so it is not recorded in the file.
        self._is_shared = type(clock) is SystemClock
        self._host = _host() if self._is_shared else ""
        self._difference = self._measured(self.now(), clock.monotonic())
        #: What this process last saw in the file, or wrote there; None: it has seen nothing.
        self._seen: int | None = None

    def now(self) -> int:
        """Return the wall clock in microseconds."""
        return microseconds(self.clock.now())

    def jumped(self, now: int, monotonic: float) -> bool:
        """Whether the wall clock was set since the last call; if so, call `follow`."""
        difference = self._measured(now, monotonic)
        if -_JUMP < difference - self._difference < _JUMP:
            self._difference = difference
            return False
        return True

    def opened(self, connection: sqlite3.Connection) -> None:
        """Compare with the difference in the file, or store it there; ignored if the file is read-only."""
        if not self._is_shared:
            return
        known = self._seen = self._in_file(connection)
        if known is not None and self._host:
            if abs(known - self._difference) > _JUMP_SINCE_FILE:
                self._difference = known
            return
        with suppress(sqlite3.Error):
            self._write(connection, self._difference)
            self._seen = self._difference

    def follow(self, connection: sqlite3.Connection) -> None:
        """Move the ends of all leases by as much as the wall clock was moved."""
        difference = self._measured(self.now(), self.clock.monotonic())
        connection.execute(sql.BEGIN)
        known = self._in_file(connection) if self._is_shared else None
        # Another process may have followed an earlier jump that this one has missed: leases are there now.
        jump = difference - (self._difference if known is None or known == self._seen else known)
        if known is None or abs(known - difference) >= _JUMP // 2:
            log.warning("the wall clock was set by %+.1f s; leases are kept", jump / 1_000_000)
            connection.execute(sql.MOVE_LEASES, (jump,))
        if self._is_shared:
            self._write(connection, difference)
        connection.execute(sql.END)
        # Only now: if the commit had failed, the next call would have to see the jump again.
        self._difference = self._seen = difference

    def _in_file(self, connection: sqlite3.Connection) -> int | None:
        row = connection.execute(sql.CLOCK).fetchone()
        if row is None:
            return None
        host, _, difference = str(row[0]).rpartition(" ")
        return int(difference) if host == self._host else None

    def _write(self, connection: sqlite3.Connection, difference: int) -> None:
        connection.execute(sql.SET_CLOCK, (f"{self._host} {difference}",))

    @staticmethod
    def _measured(now: int, monotonic: float) -> int:
        return now - round(monotonic * 1_000_000)  # cut off, each jump would move the ends of leases by some


def _host() -> str:
    # Monotonic clocks are comparable only within one boot and one time namespace; "" if unknown.
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    with suppress(OSError):
        return f"{boot}/{Path('/proc/self/ns/time').stat().st_ino}"
    return boot

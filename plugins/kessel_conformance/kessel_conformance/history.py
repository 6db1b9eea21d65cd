"""What was done to an adapter and what it answered, written so that a person can follow it."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Final, assert_never

from kessel_core import Clock
from kessel_core.contract import Bury, Commit, QueueStats, Rollback, Settlement, Snooze

__all__ = ["History", "Violation", "seconds", "settlement_text", "shown"]

_LONGEST: Final = 120


class Violation(AssertionError):
    """An adapter broke a clause or a declared capability.

    Attributes:
        clause: The clause, such as `S4`.
        why: What was promised and what was seen.
        history: The calls that led there, one a line, with times.
        is_late: Whether the case was so slow that the lease was over; in real time that proves nothing.
    """

    def __init__(self, clause: str, why: str, history: str = "") -> None:
        self.is_late = False
        self.clause = clause
        self.why = why
        self.history = history
        super().__init__("\n".join(filter(None, (self.reason, self.example))))

    @property
    def reason(self) -> str:
        """Clause and why, in one line."""
        return f"{self.clause}: {self.why}"

    @property
    def example(self) -> str:
        """The history under a heading; empty if there is none."""
        return f"What happened, in seconds since the start:\n{self.history}" if self.history else ""


def shown(value: object) -> str:
    """Write a value short enough for one line."""
    match value:
        case timedelta():
            return seconds(value.total_seconds())
        case QueueStats():
            counts = f"ready {value.ready}, delayed {value.delayed}, reserved {value.reserved}"
            paused = "" if value.paused is None else f", paused for {shown(value.paused)}"
            return f"{counts}, buried {value.buried}{paused}"
        case _:
            text = repr(value)
            return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}... ({len(text)} characters)"


def seconds(number: float) -> str:
    """Write a span without powers of ten, to the microsecond."""
    return f"{number:.6f}".rstrip("0").rstrip(".") + " s"


def settlement_text(settlement: Settlement, job: str) -> str:
    """Say what a worker does with a job."""
    match settlement:
        case Commit():
            return f"commits {job}"
        case Rollback(pause):
            return f"rolls {job} back" + (f" for {shown(pause)}" if pause else "")
        case Snooze(pause):
            return f"snoozes {job}" + (f" for {shown(pause)}" if pause else "")
        case Bury(reason):
            return f"buries {job} ({reason})"
        case _:
            assert_never(settlement)


class History:
    """Lines with times; safe for any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start = clock.monotonic()
        self._lines: list[tuple[float, str]] = []
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Note what happened now."""
        line = (self._clock.monotonic() - self._start, text)
        with self._lock:
            self._lines.append(line)

    def length(self) -> int:
        """Return how many lines there are."""
        return len(self._lines)

    def text(self) -> str:
        """Return all lines, oldest first."""
        with self._lock:
            return "\n".join(f"  {time:9.3f}  {text}" for time, text in self._lines)

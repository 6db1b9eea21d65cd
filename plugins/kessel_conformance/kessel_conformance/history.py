"""What was done to an adapter and what it answered, written so that a person can follow it."""

from __future__ import annotations

import threading
from datetime import timedelta

from kessel_core.clock import Clock

__all__ = ["History", "Violation", "shown"]

_LONGEST = 120


class Violation(AssertionError):
    """An adapter broke a clause or a declared capability.

    Attributes:
        clause: The clause, such as `S4`.
        why: What was promised and what was seen.
        history: The calls that led there, one a line, with times.
    """

    def __init__(self, clause: str, why: str, history: str = "") -> None:
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
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}... ({len(text)} characters)"


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

    def text(self) -> str:
        """Return all lines, oldest first."""
        with self._lock:
            return "\n".join(f"  {time:9.3f}  {text}" for time, text in self._lines)

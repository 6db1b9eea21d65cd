"""A terminal that is drawn whole and read key by key, and left as it was found, however it ends.

The standard library and escape sequences that every terminal since the VT220 knows.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

__all__ = ["Terminal", "is_usable", "logs_to"]

#: The second screen and no cursor; and back.
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[0m\x1b[?25h\x1b[?1049l"
#: What is taken for the size of a terminal that does not know it.
_USUAL: Final = (80, 24)


def is_usable() -> bool:
    """Whether there is a terminal to draw on and to read keys from."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb")


class _Handler(logging.Handler):
    """Hands on the messages of log records."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._say(f"{record.levelname.lower()}: {record.getMessage()}")
        except Exception:
            self.handleError(record)


@contextmanager
def logs_to(say: Callable[[str], None]) -> Iterator[None]:
    """Hand on what is logged and warned of, which would be printed over the screen."""
    root, handler = logging.getLogger(), _Handler(say)
    others = root.handlers[:]
    root.handlers[:] = [handler]
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = others


class Terminal:
    """The terminal of this process. Only the main thread uses it; any thread may call `wake`."""

    def __init__(self) -> None:
        self._keys = sys.stdin.fileno()
        self._screen = sys.stdout.fileno()
        self._encoding = sys.stdout.encoding or "ascii"
        self._before = termios.tcgetattr(self._keys)
        #: The lines on the screen; empty: not known.
        self._lines: list[str] = []
        self._wake, self._woken = -1, -1
        #: Whether Ctrl-C or SIGTERM asks for the end. Nothing is raised, so that nothing is left half done.
        self.is_interrupted = False

    @contextmanager
    def entered(self) -> Iterator[Terminal]:
        """Take the screen, and give it back at the end, whatever that is."""
        read, write = os.pipe()
        for end in (read, write):
            os.set_blocking(end, False)
        self._woken, self._wake = read, write
        # A signal wakes `typed` through the pipe: a call that it only interrupts is begun again.
        wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        before = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGINT, self._interrupted),
                (signal.SIGTERM, self._interrupted),
                (signal.SIGWINCH, self._resized),
                (signal.SIGTSTP, self._suspended),
            )
        }
        try:
            self._enter()
            yield self
        finally:
            self._leave()
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._wake = -1
            os.close(write)
            os.close(read)

    def _enter(self) -> None:
        tty.setcbreak(self._keys)
        self._write(_ENTER)
        self.forget()

    def _leave(self) -> None:
        with suppress(OSError, termios.error):  # a terminal that is gone needs nothing
            self._write(_LEAVE)
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self.is_interrupted = True

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self.forget()

    def _suspended(self, number: int, frame: FrameType | None) -> None:
        """Give the screen to the shell until this process is told to go on."""
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()

    def forget(self) -> None:
        """Draw every line at the next picture."""
        self._lines = []

    def wake(self) -> None:
        """Let `typed` return now; from any thread."""
        with suppress(OSError):  # it is awake already, or over
            os.write(self._wake, b"\0")

    @property
    def is_drawn(self) -> bool:
        """Whether what was drawn last is still on the screen."""
        return bool(self._lines)

    def size(self) -> tuple[int, int]:
        """Return columns and lines, each at least 1."""
        try:
            columns, lines = os.get_terminal_size(self._screen)
        except OSError:
            return _USUAL
        return (columns, lines) if columns > 0 and lines > 0 else _USUAL

    def typed(self, timeout: float | None) -> bytes | None:
        """Wait for what is typed.

        Returns:
            The bytes; empty if it was woken or the time is over; None if the terminal is gone.
        """
        ready, _, _ = select.select([self._keys, self._woken], [], [], timeout)
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._keys not in ready:
            return b""
        try:
            typed = os.read(self._keys, 1024)
        except OSError:
            return None
        # What follows an escape may arrive a moment later, over a slow line.
        if typed.endswith((b"\x1b", b"\x1b[", b"\x1bO")) and select.select([self._keys], [], [], 0.05)[0]:
            typed += os.read(self._keys, 1024)
        return typed or None

    def draw(self, lines: Sequence[str]) -> None:
        """Draw the lines that differ from those on the screen; each is as wide as the screen at most."""
        parts = [] if self._lines else ["\x1b[0m\x1b[2J"]
        for number, line in enumerate(lines):
            if number >= len(self._lines) or self._lines[number] != line:
                # Emptied before, because behind a full line that would remove its last character.
                parts.append(f"\x1b[{number + 1};1H\x1b[2K{line}\x1b[0m")
        self._lines = list(lines)
        if parts:
            self._write("".join(parts))

    def _write(self, text: str) -> None:
        # One cell for one character, also where the terminal knows few of them.
        rest = memoryview(text.encode(self._encoding, "replace"))
        while rest:
            rest = rest[os.write(self._screen, rest) :]

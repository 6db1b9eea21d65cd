"""Where a process is killed: at any step of what it does with an adapter."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

import attrs

from kessel_conformance.effects import EFFECTS, MOVES, homes, is_of
from kessel_core.contract import QueueAdapter

__all__ = ["Death", "Extent", "Steps", "dies", "dying_beyond", "longest_in"]


@attrs.frozen(kw_only=True)
class Death:
    """When a process is killed; zero: not there."""

    #: Before it runs this line of Python, whoever wrote it.
    line: int = 0
    #: In this deed: before this step, which is a line of the adapter's own code, or an effect on the world.
    deed: int = 0
    step: int = 0
    #: Right after so many deeds.
    after: int = 0
    #: In the last deed, when a file is so many bytes longer than the longest one was.
    beyond: int = 0

    def __str__(self) -> str:
        if self.beyond:
            return f"at byte {self.beyond} of what it wrote at the end of its longest file"
        if self.after:
            return f"right after call {self.after}"
        return f"before step {self.step} of call {self.deed}" if self.step else f"before line {self.line}"


@attrs.frozen(kw_only=True)
class Extent:
    """How long the deeds of a process are; nothing if it was killed in them."""

    #: Lines of Python of all of them.
    lines: int = 0
    #: Steps of each, as in `Death`.
    steps: tuple[int, ...] = ()
    #: Those steps of each that move or remove a file, or make a folder.
    moves: tuple[tuple[int, ...], ...] = ()

    def told(self) -> str:
        """Return it as a line of text, without spaces at its ends."""
        deeds = (
            ":".join(map(str, (steps, *moves))) for steps, moves in zip(self.steps, self.moves, strict=True)
        )
        return " ".join((str(self.lines), *deeds))

    @classmethod
    def heard(cls, text: str) -> Self:
        """Read what `told` has returned."""
        lines, *deeds = text.split()
        numbers = [tuple(map(int, deed.split(":"))) for deed in deeds]
        return cls(
            lines=int(lines),
            steps=tuple(steps for steps, *_ in numbers),
            moves=tuple(tuple(moves) for _, *moves in numbers),
        )


class Steps:
    """Counts what this process does, deed by deed, and kills it where its death is.

    Attributes:
        lines: Lines of Python so far.
        each: The steps of each deed so far.
        moves: Those of each that move or remove a file, or make a folder.
    """

    def __init__(self, adapter: QueueAdapter, death: Death) -> None:
        self._death = death
        self._own = homes(adapter)
        #: Whether lines of others are of interest, which takes much longer.
        self._is_for_all = death.line > 0 or death == Death()
        self.lines = 0
        self.each: list[int] = []
        self.moves: list[list[int]] = []

    @property
    def extent(self) -> Extent:
        """How long it is so far."""
        return Extent(lines=self.lines, steps=tuple(self.each), moves=tuple(map(tuple, self.moves)))

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count one deed."""
        self.each.append(0)
        self.moves.append([])
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        try:
            yield
        finally:
            sys.settrace(None)
            sys.setprofile(None)

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        is_own = is_of(frame, self._own)
        if event == "line":
            self.lines += 1
            if self.lines == self._death.line:
                dies()
            if is_own:
                self._step()
        return self._trace if is_own or self._is_for_all else None

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and getattr(argument, "__name__", "") in EFFECTS:
            self._step()
            # Not those of a text or a list, which have the same names.
            is_of_system = getattr(argument, "__module__", None) == os.rename.__module__
            if is_of_system and argument.__name__ in MOVES:
                self.moves[-1].append(self.each[-1])

    def _step(self) -> None:
        self.each[-1] += 1
        if (len(self.each), self.each[-1]) == (self._death.deed, self._death.step):
            dies()


def dies() -> NoReturn:
    """Die as a process does that is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it is dead")


def longest_in(folder: Path) -> int:
    """Return the length of the longest file of a folder, in bytes; 0 if there is none."""
    return max((path.stat().st_size for path in folder.rglob("*") if path.is_file()), default=0)


@contextmanager
def dying_beyond(folder: Path, more: int) -> Iterator[None]:
    """Kill this process in the write that makes a file so many bytes longer than the longest of a folder.

    What fits is written, as by a process that dies in the middle of a write.

    Raises:
        ImportError: The system has no such limit.
    """
    import resource

    longest = longest_in(folder)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

"""A call that stands still before one of its steps, while another one is made (S7, S9)."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final

from kessel_conformance.effects import EFFECTS, homes, is_of
from kessel_conformance.faults import spread
from kessel_core.contract import QueueAdapter

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["Halt", "most_steps"]

#: Seconds within which a call comes to its step, or ends.
_ARRIVES: Final = 20.0
#: What the interpreter calls the beginning of a `with`, in one version or another.
_ENTERS: Final = frozenset({"BEFORE_WITH", "SETUP_WITH", "LOAD_SPECIAL"})
#: Functions in C before which something may happen: what others can see, and a lock that they may have.
_MOMENTS: Final = EFFECTS | {"acquire"}
#: Stands before what makes a place such a moment.
_MOMENT: Final = ", "


def most_steps(bench: Bench, *, is_cheap: bool = True) -> int:
    """Return how many steps of a call to try: half of them at a cost, or if a server does the work."""
    return bench.settings.amounts.places // (1 if is_cheap and not bench.harness.has_server else 2)


class Halt:
    """Where a call stands still: before a line of the adapter's own code, or an effect on the world.

    `walks` and `acts` are called by two threads.

    Args:
        adapter: Whose code it is.
        number: Before which step, from 1; 0: before none.
        longest: Seconds that it stands at most, for the other one may wait for a lock that is held here.
    """

    def __init__(self, adapter: QueueAdapter, number: int = 0, longest: float = 0.0) -> None:
        self._homes = homes(adapter)
        self._number = number
        self._longest = longest
        self._stands = threading.Event()
        self._goes_on = threading.Event()
        #: Each step so far: a file and a line, and what has an effect there.
        self.places: list[str] = []
        #: Whether it stood until it had to go on.
        self.keeps_out = False

    @property
    def where(self) -> str:
        """Where it stood, as the end of a sentence; empty: it never came there."""
        if not 0 < self._number <= len(self.places):
            return ""
        return f", before {self.places[self._number - 1]}"

    def some(self, most: int) -> Sequence[int]:
        """Return the numbers of so many steps at most, each the first one at its place.

        Those before an effect or a lock come first: what lies between two of them is seen before the second.
        """
        firsts = {place: number for number, place in reversed(list(enumerate(self.places, 1)))}
        moments, lines = (
            [firsts[one] for one in reversed(firsts) if (_MOMENT in one) is way] for way in (True, False)
        )
        chosen = [moments[number] for number in spread(len(moments), most)]
        return sorted(chosen + [lines[number] for number in spread(len(lines), most - len(chosen))])

    def walks(self, call: Callable[[], object]) -> None:
        """Make the call that stands still."""
        before = sys.gettrace(), sys.getprofile()
        sys.setprofile(self._profile)
        sys.settrace(self._trace)
        try:
            call()
        finally:
            sys.settrace(before[0])
            sys.setprofile(before[1])
            self._stands.set()

    def acts(self, call: Callable[[], object], arrives: float = _ARRIVES) -> None:
        """Make the other call when the first one stands still, has ended, or must be asleep by then."""
        self._stands.wait(arrives)
        try:
            call()
        finally:
            self._goes_on.set()

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not is_of(frame, self._homes):
            return None
        if event == "line":
            self._step(frame, f"{_MOMENT}with" if frame.f_lineno in _lines_with(frame.f_code) else "")
        return self._trace

    def _profile(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and getattr(argument, "__name__", "") in _MOMENTS:
            self._step(frame, f"{_MOMENT}{argument.__name__}")

    def _step(self, frame: FrameType, what: str) -> None:
        self.places.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}{what}")
        if len(self.places) == self._number:
            self._stands.set()
            self.keeps_out = not self._goes_on.wait(self._longest)


@cache
def _lines_with(code: CodeType) -> frozenset[int]:
    """Return the lines of a function that enter a `with`, most often of a lock."""
    lines = (
        None if one.positions is None else one.positions.lineno
        for one in dis.get_instructions(code)
        if one.opname in _ENTERS
    )
    return frozenset(line for line in lines if line is not None)

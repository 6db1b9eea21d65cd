"""Notices a case that hangs: a call that never returns would else hang the run, without a word."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType
from typing import ClassVar, Final

import attrs

from kessel_conformance.opencase import OpenCase
from kessel_core.testing import innermost_frames

__all__ = ["SILENCE", "Watch"]

#: Seconds in which a case does nothing at all, after which it hangs: longer than any case waits for anything.
SILENCE: Final = 120.0
#: So often its thread is looked at meanwhile. These are counted: a machine that slept is no case that hangs.
_LOOKS: Final = 24
#: Seconds for taking down what the harness brought up.
_STOPS_WITHIN: Final = 10.0
_DEBUGGERS: Final = frozenset(["bdb", "cmd", "pdb", "pydevd"])

#: Where a case is: how much of its history there is, its innermost frame, and the instruction that it is at.
_Place = tuple[int, int, int]


@attrs.define(eq=False)
class _UnderWay:
    """A case that a thread has begun."""

    name: str
    thread: int
    opened: OpenCase | None = None

    def place(self, frame: FrameType | None) -> _Place | None:
        """Return where the case is, by the frame that its thread is in; None if that does not count."""
        if frame is None:
            return None
        # Not the frames around it: those of a thread that runs may be gone while they are looked at.
        module = str(frame.f_globals.get("__name__")).partition(".")[0]
        if module in _DEBUGGERS:
            return None
        return 0 if self.opened is None else self.opened.history.length(), id(frame), frame.f_lasti

    def story(self) -> str:
        """Say that it hangs, and what it did before."""
        calls = "" if self.opened is None else self.opened.history.text()
        return (
            f"conformance: {self.name} hangs: for {SILENCE:g} s it has been in one and the same call.\n"
            f"Its calls so far, in seconds since the start:\n{calls or '  none'}\nWhere all threads are:\n"
        )


class Watch:
    """Ends the process if a case of a run hangs, and says which, and where. For one run.

    Args:
        stops: Takes down what the run has brought up.
        aloud: While it is open, what is written to standard error is seen by people.
    """

    _under_way: ClassVar[dict[int, _UnderWay]] = {}

    def __init__(
        self, stops: Callable[[], object], aloud: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._stops = stops
        self._aloud = aloud
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        threading.Thread(target=self._run, name="kessel-watch", daemon=True).start()

    def stop(self) -> None:
        """End it; it may never have been started."""
        self._over.set()

    @classmethod
    @contextmanager
    def case(cls, name: str) -> Iterator[Callable[[OpenCase], None]]:
        """Let the runs of this process watch a case of the calling thread; yields what takes its bench."""
        found = _UnderWay(name, threading.get_ident())

        def opens(opened: OpenCase) -> None:
            found.opened = opened

        cls._under_way[id(found)] = found
        try:
            yield opens
        finally:
            del cls._under_way[id(found)]

    def _run(self) -> None:
        # Its own: the cases of other runs are looked at by their watches, too.
        found: dict[_UnderWay, tuple[_Place | None, int]] = {}
        while not self._over.wait(SILENCE / _LOOKS):
            frames, before = innermost_frames(), found
            found = {}
            for one in list(self._under_way.values()):
                place = one.place(frames.get(one.thread))
                earlier, looks = before.get(one, (None, 0))
                found[one] = place, looks + 1 if place is not None and place == earlier else 0
                if found[one][1] >= _LOOKS:
                    self._ends(one)

    def _ends(self, hanging: _UnderWay) -> None:
        with self._aloud():
            os.write(2, hanging.story().encode(errors="backslashreplace"))
            faulthandler.dump_traceback(2, all_threads=True)
            stopping = threading.Thread(target=self._stop_what_is_up, daemon=True)
            stopping.start()
            stopping.join(_STOPS_WITHIN)
            os._exit(1)

    def _stop_what_is_up(self) -> None:
        with suppress(Exception):
            self._stops()

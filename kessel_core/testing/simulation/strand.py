"""One thread that takes part in a simulation, and how it ends."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NoReturn

from kessel_core.runtime.following import FollowUp
from kessel_core.testing.frames import innermost_frames

__all__ = ["TEST", "Died", "Strand", "Stuck"]

#: The process of the test itself.
TEST: Final = 0


class Died(BaseException):
    """The process of this strand is dead; nothing that it does counts any more."""


class Stuck(AssertionError):
    """A strand did not come back: it sleeps in real time, or waits for what another strand holds."""


class Strand:
    """One thread that takes part. Everything but `release` is for `Strands`, and for who has the turn."""

    def __init__(self, name: str, process: int) -> None:
        self.name = name
        #: Which process it belongs to; `TEST` is not simulated, and never dies.
        self.process = process
        self.thread: threading.Thread | None = None
        self.go = threading.Lock()
        self.go.acquire()
        self.is_waiting = False
        self.is_notified = False
        #: When its wait ends, as time passed since the start; None: when it is notified.
        self.end: timedelta | None = None
        self.is_dead = False
        #: Whether the end of the simulation did not wait for it.
        self.is_left = False
        #: What it is doing inside the queue or the store: these notice by themselves that it is dead.
        self.inside: str | None = None
        #: The queues that it waits for a job of, inside a reserve.
        self.awaits: tuple[str, ...] = ()
        #: Whether it has a job.
        self.holds = False
        #: Notified when it has ended.
        self.ended = threading.Condition()
        #: What that job has asked for; the list of its lease.
        self.asked: Sequence[FollowUp] = ()

    def die(self) -> NoReturn:
        """Do nothing more.

        Raises:
            Died: So that the thread ends; one that nobody waits for any more stays here.
        """
        if self.is_left:
            self.go.acquire()
        raise Died

    def release(self) -> None:
        """Be notified; called by `Condition.notify`."""
        self.is_notified = True

    def place(self, patience: float) -> str:
        """Return where it is and what to do about it; it has not come back for so many real seconds."""
        thread = self.thread
        frame = innermost_frames().get(thread.ident or 0) if thread is not None else None
        where = "".join(traceback.format_stack(frame)) if frame is not None else "it has ended\n"
        return (
            f"{self.name} did not come back within {patience:g} s: in a simulation a handler must not sleep "
            "in real time (use Simulation.spend), nor hold a lock while it spends time or calls the queue\n"
            f"{where}"
        )

    def can_go(self, passed: timedelta) -> bool:
        """Whether it would go on if it had the turn."""
        return not self.is_waiting or self.is_notified or (self.end is not None and self.end <= passed)

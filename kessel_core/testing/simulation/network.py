"""What lies between a simulated process and its queue or store: turns, deaths and faults."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NoReturn, TypeVar

from kessel_core.errors import AdapterError, AdapterUnavailable
from kessel_core.testing.simulation.ledger import Ledger
from kessel_core.testing.simulation.seeds import Chances, Fault, Mishap
from kessel_core.testing.simulation.strand import TEST, Strand
from kessel_core.testing.simulation.strands import Strands

__all__ = ["Network"]

R = TypeVar("R")


class Network:
    """Carries every call; the test's own go through unharmed.

    Args:
        strands: Who runs.
        ledger: The history.
        chances: Decides what goes wrong.
        gone: Called when a process is gone, so that another one may take its place.
    """

    def __init__(self, strands: Strands, ledger: Ledger, chances: Chances, gone: Callable[[], None]) -> None:
        self.strands = strands
        self.ledger = ledger
        self._chances = chances
        self._gone = gone

    def call(
        self,
        what: str,
        do: Callable[[], R],
        *,
        lost: Callable[[str], AdapterError] = AdapterUnavailable,
        job: str = "",
        awaits: tuple[str, ...] = (),
    ) -> R:
        """Make a call of the queue or the store.

        Args:
            what: Its name, for the history.
            do: Makes it.
            lost: The error if it was made and its answer is lost.
            job: The id of its job, for the history.
            awaits: The queues for whose jobs it may wait.

        Raises:
            AdapterError: What `do` raises, or a fault.
            Died: The process dies here.
        """
        me = self.strands.me
        if me is None:  # a thread of the application, for which the one that has the turn waits
            return do()
        self.place(f"before {what}", job)
        mishap = self._mishap(me, what, job)
        if mishap is not None and mishap.fault is Fault.REFUSED:
            raise AdapterUnavailable("simulated: nothing could be sent")
        if mishap is not None and mishap.fault is Fault.SLOW:
            self.pause(mishap.seconds)
        with self.strands.inside(what, awaits):
            answer = do()
        if mishap is not None and mishap.fault is Fault.LATE:
            self.pause(mishap.seconds)
        self.place(f"after {what}", job)
        if mishap is not None and mishap.fault is Fault.LOST:
            raise lost("simulated: the connection was lost after sending")
        return answer

    def place(self, where: str, job: str = "") -> None:
        """Let others take their turn; the process of the caller may die here.

        Raises:
            Died: It does.
        """
        self.strands.turn()
        me = self.strands.me
        if me is None or me.process == TEST:
            return
        number = self._chances.death()
        if number is None:
            return
        self.ledger.died(me.process, number, job, where)
        self.exit()

    def exit(self) -> NoReturn:
        """End the process of the caller, whatever its other threads do.

        Raises:
            Died: Always.
        """
        me = self.strands.me
        assert me is not None
        self.strands.kill(me.process)
        self._gone()
        self.strands.freeze(me)

    def pause(self, seconds: float) -> None:
        """Let virtual time pass for the caller."""
        never_notified = threading.Condition()
        with never_notified:
            self.strands.wait(never_notified, seconds)

    def _mishap(self, me: Strand, what: str, job: str) -> Mishap | None:
        mishap = None if me.process == TEST else self._chances.fault()
        if mishap is not None:
            takes = f" {mishap.seconds:.3f} s" if mishap.fault in (Fault.SLOW, Fault.LATE) else ""
            self.ledger.note(f"FAULT [{mishap.place}]", job, f"{what}: {mishap.fault}{takes}")
            self.ledger.counts["faults"] += 1
        return mishap

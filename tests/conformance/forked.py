"""Adapters that are wrong in a forked child, each in a way of its own; other processes import them."""

from __future__ import annotations

import os
import random
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import kessel_adapter_directory.plugin
from kessel_adapter_directory.adapter import DirectoryReservation
from kessel_adapter_directory.plugin import DirectoryOptions
from left_behind import HearsBesideTheDead

from kessel_core.contract import (
    AdapterContext,
    AdapterSpec,
    JobState,
    Message,
    ProtocolError,
    Reservation,
)

__all__ = ["HANGS", "HUNG", "RIGHT", "WRONG"]

#: The variable with the path at which a child that hangs says which process it is.
HUNG = "KESSEL_TESTS_HUNG"


class Hears(HearsBesideTheDead):
    """Knows whether it is in a child; right there, too."""

    def __init__(self, options: DirectoryOptions, context: AdapterContext) -> None:
        super().__init__(options, context)
        self._opened_by = os.getpid()

    @property
    def is_child(self) -> bool:
        return os.getpid() != self._opened_by


class ChildIsDeaf(Hears):
    """What listens is gone in the child."""

    def looks_again(self, queues: tuple[str, ...]) -> datetime | None:
        return self.next_change(queues) if self.is_child else super().looks_again(queues)


class ParentIsDeaf(Hears):
    """The child has taken what listened with it."""

    def looks_again(self, queues: tuple[str, ...]) -> datetime | None:
        has_forked = (self._folder / "forked").exists()
        return self.next_change(queues) if has_forked and not self.is_child else super().looks_again(queues)

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        if self.is_child:
            (self._folder / "forked").touch()
        return super().take(queues)


class ChildKeepsForItself(Hears):
    """What the child enqueues is in a memory of its own."""

    def put(self, message: Message) -> None:
        if not self.is_child:
            super().put(message)


class ChildSeesACopy(Hears):
    """The child takes nothing that came after the fork."""

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        return None if self.is_child else super().take(queues)


class ChildHangs(Hears):
    """A lock that a thread of the parent held is held in the child for ever."""

    def put(self, message: Message) -> None:
        if self.is_child:
            Path(os.environ[HUNG]).write_text(str(os.getpid()))
            threading.Event().wait()
        super().put(message)


class EndGivesBack(Hears):
    """The end of the child gives back what its parent holds, as of one connection."""

    def shut(self) -> None:
        if self.is_child:
            for home in self._homes():
                for entry in self._entries(home):
                    if entry.stored is JobState.RESERVED:
                        self._change(home, entry, stored=JobState.READY, tick=0)
        super().shut()


class SettlesTheOther(Hears):
    """Deliveries are told apart by a number that parent and child count alike."""

    def __init__(self, options: DirectoryOptions, context: AdapterContext) -> None:
        super().__init__(options, context)
        self._held: list[Reservation] = []

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        held = super().take(queues)
        if held is not None:
            assert isinstance(held, DirectoryReservation)
            self._held.append(held)
            self._taken(held).write_text(f"{self._home(held.queue)}/{held.entry.name}")
        return held

    def commit(self, reservation: Reservation) -> None:
        with self._locked():
            Path(self._taken(reservation).read_text()).unlink(missing_ok=True)

    def _taken(self, held: Reservation) -> Path:
        return self._folder / f"taken-{self._held.index(held)}"


class SharesAConnection(Hears):
    """Asks over a connection from before the fork: an answer goes to whoever reads first."""

    def __init__(self, options: DirectoryOptions, context: AdapterContext) -> None:
        super().__init__(options, context)
        self._reads, self._writes = os.pipe()

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        question = os.getpid().to_bytes(8, "big")
        os.write(self._writes, question)
        time.sleep(random.uniform(0.0, 0.004))  # so that answers overtake each other
        if os.read(self._reads, 8) != question:
            raise ProtocolError("the answer to another question")
        return super().take(queues)

    def shut(self) -> None:
        os.close(self._reads)
        os.close(self._writes)


def _spec(kind: Any) -> AdapterSpec:
    return attrs.evolve(kessel_adapter_directory.plugin.SPEC, open=kind)


HANGS: AdapterSpec = _spec(ChildHangs)
RIGHT: AdapterSpec = _spec(Hears)
_WORKS, _WAKES = "reach.works_after_a_fork", "reserve.wakes_across_a_fork"
#: The case that shows each, and the words by which, a regular expression.
WRONG: dict[str, tuple[AdapterSpec, str, str]] = {
    kind.__name__: (_spec(kind), case, words)
    for kind, case, words in (
        (ChildIsDeaf, _WAKES, "s after it became ready"),
        (ParentIsDeaf, _WAKES, "s after it became ready"),
        (ChildKeepsForItself, _WORKS, "the parent, of what its child put, reserved nothing"),
        (ChildSeesACopy, _WORKS, "the child, of what its parent put, reserved nothing"),
        (EndGivesBack, _WORKS, "in a process that has forked"),
        (SettlesTheOther, _WORKS, "jobs left, of which parent and child have settled one each"),
        (SharesAConnection, _WORKS, "work in .* the answer to another question"),
    )
}

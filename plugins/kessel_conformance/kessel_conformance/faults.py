"""The ways in which a connection breaks, and a thread to make calls in that may never return."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Self

import attrs

from kessel_conformance.history import History
from kessel_conformance.proxy import Cut, FaultProxy, Traffic

__all__ = [
    "ANSWER_WITHIN",
    "GARBLED",
    "HALF_OPEN",
    "LATE",
    "LATE_REQUEST",
    "LOST_WHEN_DONE",
    "NO_FAULT",
    "SERVER_GONE",
    "SLOW",
    "Answer",
    "Apart",
    "Fault",
    "faults_of",
    "spread",
]

#: Seconds within which every call ends, whatever its peer does (contract, rule 7).
ANSWER_WITHIN: Final = 30.0


@attrs.frozen
class Fault:
    """One way of breaking a connection."""

    #: As in "the answer is dropped"; follows "while".
    label: str
    begin: Callable[[FaultProxy], object]
    #: Whether it breaks every connection of the adapter, which may notice that at each of them.
    breaks_all: bool = False


def _nothing(proxy: FaultProxy) -> None:
    """Break nothing."""


def _half_open(proxy: FaultProxy) -> None:
    proxy.drop_up = proxy.drop_down = True


def _slow(proxy: FaultProxy) -> None:
    proxy.delay, proxy.dribble = 0.002, True


def _garbled(proxy: FaultProxy) -> None:
    proxy.garbles = True


def _gone(proxy: FaultProxy) -> None:
    proxy.refuses = True
    proxy.cut()


NO_FAULT: Final = Fault("nothing is broken", _nothing)
#: For a call that sets `FaultProxy.loses`.
LOST_WHEN_DONE: Final = Fault("its answer is lost when it is done", _nothing)
HALF_OPEN: Final = Fault("the peer does not answer", _half_open)
LATE: Final = Fault("the answers come too late", FaultProxy.hold_answers)
LATE_REQUEST: Final = Fault("the request arrives too late", FaultProxy.hold_requests)
GARBLED: Final = Fault("the answers are garbled", _garbled)
SLOW: Final = Fault("the peer is slow", _slow)
_IDLE_CUT: Final = Fault("the connection has been cut before", FaultProxy.cut, breaks_all=True)
SERVER_GONE: Final = Fault("the server is gone", _gone, breaks_all=True)


def faults_of(traffic: Traffic, points: int) -> list[Fault]:
    """Return the faults for a call that causes this traffic.

    Args:
        traffic: What the call sends and receives while nothing is broken.
        points: At how many places each direction is cut; at least 3.
    """
    found = []
    for up, size in ((True, traffic.up), (False, traffic.down)):
        what = "request" if up else "answer"
        for after in spread(size, points):
            label = f"the {what} is cut after {after} of {size} bytes" if after else f"the {what} is dropped"
            # Adapters meet a lost connection in two forms: an error of the socket, or the end of the stream.
            cut = Cut(up=up, after=after, reset=(after + up) % 2 == 1)
            found.append(Fault(label, partial(FaultProxy.cut_at, cut=cut)))
    return [*found, GARBLED, _IDLE_CUT, SERVER_GONE]


def spread(size: int, most: int) -> Sequence[int]:
    """Return at most so many of the numbers below `size`, the first and then the last among them."""
    if size <= most:
        return range(size)
    return sorted({(size - 1) * part // max(most - 1, 1) for part in range(most)})


@attrs.frozen
class Answer:
    """What a call returned or raised."""

    value: object = None
    error: Exception | None = None

    @classmethod
    def of(cls, call: Callable[[], object]) -> Self:
        """Make a call."""
        try:
            return cls(call())
        except Exception as exc:
            return cls(error=exc)

    def noted(self, history: History, what: str, text_of: Callable[[object], str]) -> None:
        """Note it, with what was called and how a value reads."""
        error = self.error
        text = f"{type(error).__name__}: {error}" if error is not None else text_of(self.value)
        history.add(f"{what} -> {text}")


class Apart:
    """A thread that makes calls one after the other; one that never returns stops nothing else."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], object], queue.SimpleQueue[Answer]] | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._run, daemon=True, name="kessel-trial").start()

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            call, answers = asked
            answers.put(Answer.of(call))

    def call(self, call: Callable[[], object], within: float | None = None) -> Answer | None:
        """Make a call; None if it did not end within so many seconds, or within `ANSWER_WITHIN`."""
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._asked.put((call, answers))
        try:
            return answers.get(timeout=ANSWER_WITHIN if within is None else within)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Let the thread end once its calls have."""
        self._asked.put(None)

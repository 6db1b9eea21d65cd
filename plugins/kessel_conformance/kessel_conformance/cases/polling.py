"""Who is woken does not look now and then: how late jobs are seen is compared with who need not wait (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import threading
import time
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.meanwhile import FALLS_ASLEEP
from kessel_conformance.requirements import BLOCKING_RESERVE
from kessel_core.contract import COMMIT, NO_PAUSE, Message
from kessel_core.testing import VirtualClock

#: How long a reserve waits.
_LONG: Final = timedelta(seconds=4)
#: How long one waits on a virtual clock, where a look each second is none too many.
_QUIET: Final = timedelta(seconds=30)
#: Jobs of a round, and seconds between two of them: they are spread over all moments between two looks, be
#: those 50 ms or 0.1 s apart.
_JOBS: Final = 12
_STEP: Final = 0.013
#: One round in time is enough. A poor one is repeated, for a machine may be busy.
_ROUNDS: Final = 3
_MOST_ROUNDS: Final = 4
#: Seconds after the first round that tells nothing; later ones are longer.
_PAUSE: Final = 0.5
#: Seconds after which a job is seen late, beyond what a reserve takes that does not wait; and in which a bare
#: event wakes a thread that makes such a reserve, and has its job, unless the machine is too busy to tell.
_LATE: Final = 0.025
_AT_ONCE: Final = 0.02
#: Of the jobs that can be judged: who looks each 0.1 s sees three of four of them late.
_MOST_LATE: Final = 0.4
_FEWEST: Final = 8


class _Round:
    """Consumers that wait, each for its own job, and another adapter that enqueues one after the other.

    With each it enqueues one more, for a thread that it tells: where that one is late, because of the machine
    or of the adapter's own locks, nothing is said of those who wait.
    """

    def __init__(self, real: Bench, other: Bench) -> None:
        self.real = real
        self.other = other
        self.messages = [real.message(queue=real.queue_named(f"each{number}")) for number in range(_JOBS)]
        self.consumers = [real.consumer(message.queue) for message in self.messages]
        self._events = [threading.Event() for _ in self.messages]
        self._told = real.consumer(real.queue_named("told"))
        self._sent = [0.0] * _JOBS
        self._came = [0.0] * _JOBS
        self._at_once = [0.0] * _JOBS

    def seen(self) -> list[float] | None:
        """Return how late jobs were seen, as far as that can be judged; None if too few can."""
        waits = [partial(self._waits, number) for number in range(_JOBS)]
        self.real.side_by_side([*waits, self._hears, self._sends])
        lateness = [
            came - max(sent, at_once)
            for sent, came, at_once in zip(self._sent, self._came, self._at_once, strict=True)
            if at_once - sent <= _AT_ONCE
        ]
        return lateness if len(lateness) >= _FEWEST else None

    def _waits(self, number: int) -> None:
        consumer, message = self.consumers[number], self.messages[number]
        held = self.real.reserve(consumer, _LONG)
        self._came[number] = time.monotonic()
        self.real.check(held is not None, f"a waiting reserve did not see {self._label(message)}")
        if held is not None:
            self.real.equal(self.real.label(held.body), self._label(message), "the job that came")
            self.real.settle(consumer, held)

    def _hears(self) -> None:
        for number, event in enumerate(self._events):
            event.wait(_LONG.total_seconds())
            held = self._told.reserve(NO_PAUSE)
            self._at_once[number] = time.monotonic()
            self.real.check(held is not None, "a ready job was not delivered")
            if held is not None:
                self._told.settle(held, COMMIT)

    def _sends(self) -> None:
        start = time.monotonic() + FALLS_ASLEEP
        for number, message in enumerate(self.messages):
            time.sleep(max(0.0, start + number * _STEP - time.monotonic()))
            self.other.put(queue=self.real.queue_named("told"))
            self.other.send(message)
            self._sent[number] = time.monotonic()
            self._events[number].set()

    def _label(self, message: Message) -> str:
        return self.real.label(message.body)


class _CountingClock(VirtualClock):
    """Counts how often somebody goes to sleep on it."""

    sleeps = 0

    def wait(self, condition: threading.Condition, timeout: float | None) -> bool:
        """As `VirtualClock.wait`."""
        self.sleeps += 1
        return super().wait(condition, timeout)


def _sleeps_once(bench: Bench) -> None:
    """Let a reserve wait for nothing on a virtual clock, where a machine that is busy changes nothing."""
    clock = _CountingClock(bench.now())
    with bench.on_clock(clock) as quiet:
        consumer = quiet.consumer()
        clock.sleeps = 0
        quiet.equal(quiet.reserve(consumer, _QUIET), None, "what came to a queue that is empty")
        most = _QUIET // timedelta(seconds=1)
        quiet.check(
            clock.sleeps <= most,
            f"a reserve of {_QUIET.total_seconds():g} s went to sleep {clock.sleeps} times: it polls",
        )


@case(
    "reserve.does_not_poll",
    "S9",
    needs=(BLOCKING_RESERVE,),
    quiet=True,
    real_time=True,
    why="It says that it is woken, and looks ten times a second: each job starts late, and a hundred workers"
    " with nothing to do keep a server busy.",
)
def does_not_poll(bench: Bench) -> None:
    if bench.harness.virtual:
        _sleeps_once(bench)
    with bench.in_real_time() as real, real.views() as views:
        shares: list[str] = []
        for number in range(_MOST_ROUNDS):
            lateness = _Round(real, views[-1]).seen()
            if lateness is None:  # the machine is too busy to tell
                time.sleep(_PAUSE * (number + 1))
                continue
            late = [one for one in lateness if one > _LATE]
            if len(late) <= _MOST_LATE * len(lateness):
                return
            shares.append(f"{len(late)} of {len(lateness)}")
            real.check(
                len(shares) < _ROUNDS,
                f"in {_ROUNDS} rounds, {', '.join(shares)} jobs were seen more than {_LATE * 1000:g} ms later"
                " than by a thread that a bare event woke: a waiting reserve polls",
            )

"""Two calls meet: one is made before each step of the other one, and each job goes one way only (S7, S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.halting import Halt, most_steps
from kessel_conformance.history import Violation
from kessel_conformance.meetings import KINDS, Kind, Meeting
from kessel_conformance.requirements import COUNTS

#: How long a call stands still at most, if the other one does not end meanwhile: so many times as long as
#: that one takes undisturbed, and so many seconds more.
_TIMES: Final = 4
_STANDS: Final = 0.01
_BRIEFLY: Final = 0.001
#: Queues of one who looks later.
_AT_ONCE: Final = 20


@case(
    "calls.meet_at_each_step",
    "S9",
    "S7",
    "S14",
    real_time=True,
    why="Between a look and a deed another one comes, once in a million: a job is done twice, or by nobody.",
)
def meet_at_each_step(bench: Bench) -> None:
    with bench.views() as others:
        _Meetings(bench, others).check()


@attrs.frozen
class _Met:
    """What is to be judged."""

    kind: Kind
    meeting: Meeting
    #: Before which step they met, as the end of a sentence.
    where: str


class _Meetings:
    """Meetings of all kinds, each with its own job: the calls meet before each step of the first one."""

    def __init__(self, bench: Bench, others: Sequence[Bench]) -> None:
        self.bench = bench
        self._others = others

    def check(self) -> None:
        """Let them meet, and look what has come of the jobs."""
        bench, kinds = self.bench, [kind for kind in KINDS if kind.applies(self.bench)]
        waiting = [(kind, list(lane)) for kind in kinds if kind.before(bench) for lane in self._lanes(kind)]
        met: list[_Met] = []
        for kind in kinds:
            for lane in self._lanes(kind) if not kind.before(bench) else ():
                met += self._meet(kind, lane)
        bench.let_pass(max(max(kind.before(bench), kind.after(bench)) for kind in kinds))
        for kind, meetings in waiting:
            met += self._meet(kind, iter(meetings))
        for start in range(0, len(met), _AT_ONCE):
            self._judge(met[start : start + _AT_ONCE])

    def _lanes(self, kind: Kind) -> Iterator[Iterator[Meeting]]:
        for number, other in enumerate(self._others[:1] if kind.is_of_one else self._others):
            yield self._lane(f"{KINDS.index(kind)}x{number}", kind, other)

    def _lane(self, queue: str, kind: Kind, other: Bench) -> Iterator[Meeting]:
        for number in range(self._most(kind) + 1):
            name = queue if kind.is_at_once(self.bench) else f"{queue}x{number}"
            meeting = Meeting((self.bench, other), self.bench.queue_named(name))
            kind.begins(meeting)
            yield meeting

    def _most(self, kind: Kind) -> int:
        """Return at how many places: at fewer if each job has a queue of its own."""
        return most_steps(self.bench, is_cheap=kind.is_at_once(self.bench))

    def _meet(self, kind: Kind, meetings: Iterator[Meeting]) -> Iterator[_Met]:
        """Let calls of one kind meet; yield those of which is to be seen later what comes of them."""
        undisturbed, halt = next(meetings), Halt(self.bench.adapter)
        self.bench.history.add(f"{kind.what}: one before each step of the other")
        halt.walks(lambda: kind.first(undisturbed))
        begun = time.monotonic()
        kind.second(undisturbed)
        takes = time.monotonic() - begun
        undisturbed.commits()
        yield from self._met(_Met(kind, undisturbed, ""))
        steps = halt.some(self._most(kind))
        patience = _STANDS + _TIMES * takes
        for number, meeting in enumerate(meetings):
            # What was prepared has to be done: beyond the last step one call is made after the other.
            halt = Halt(self.bench.adapter, steps[number] if number < len(steps) else 0, patience)
            first, second = partial(kind.first, meeting), partial(kind.second, meeting)
            try:
                self.bench.side_by_side([partial(halt.walks, first), partial(halt.acts, second)])
                meeting.commits()
            except Violation:
                raise
            except Exception as exc:
                self.bench.broken(f"{kind.what}{halt.where}: {exc!r}")
            yield from self._met(_Met(kind, meeting, halt.where))
            # Who was kept out here by a lock will be so at the next step, most likely.
            patience = takes + _BRIEFLY if halt.keeps_out else _STANDS + _TIMES * takes
            if number + 1 >= len(steps) and not kind.before(self.bench):
                break

    def _met(self, met: _Met) -> Iterator[_Met]:
        if met.kind.is_at_once(self.bench):
            self._judge([met])
        else:
            yield met

    def _judge(self, met: Sequence[_Met]) -> None:
        bench = self.bench
        looker = bench.adapter.consumer([one.meeting.message.queue for one in met])
        later = Counter(bench.drain(looker))
        looker.close()
        for one in met:
            meeting, what = one.meeting, one.kind.what + one.where
            meeting.close()
            if meeting.is_too_late:
                continue
            times = meeting.came + later[meeting.message.body]
            bench.equal(times, one.kind.comes(meeting), f"how often its job came, {what}")
            if one.kind.once:
                done = meeting.done[one.kind.once]
                bench.equal(done, 1, f"how often {one.kind.once} was told as done, {what}")
            if COUNTS.is_met(bench.harness):
                left = bench.adapter.stats(meeting.message.queue).total
                bench.equal(left, 0, f"jobs in a queue where all is done, {what}", "S9")

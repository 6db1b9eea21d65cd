"""A process that dies in the middle of a write: what others write behind it can be read (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.cases.files import in_a_place
from kessel_conformance.catalogue import case
from kessel_conformance.deeds import Deed
from kessel_conformance.dying import Death, longest_in
from kessel_conformance.elsewhere import Elsewhere
from kessel_conformance.harness_base import NotShown
from kessel_conformance.kills import let_die
from kessel_conformance.places import FILES
from kessel_conformance.requirements import LEASE
from kessel_conformance.told import Told
from kessel_core.contract import COMMIT, Browse, Buried, Bury, JobState, Rollback, Settlement

#: How much of a record is written: less than its length, its checksum, what says of whom it is; and more.
_EACH: Final = (1, 7, 8, 9, 50)
_SOME: Final = (1, 50)
#: Of a message of a burial; longer than any of these.
_STORY: Final = "it failed\n" * 40


@attrs.frozen
class _Way:
    """What the process does that dies."""

    what: str
    #: Its last call; it gets the case, and the length of the longest file.
    deed: Callable[[Bench, int], Deed]
    #: How many bytes are written.
    lengths: tuple[int, ...] = _SOME
    #: Whether it settles the job that it has reserved, and whether that may remove it.
    settles: bool = False
    removes: bool = False


def _enqueues(count: int, *, is_large: bool = False) -> Callable[[Bench, int], Deed]:
    def deed(bench: Bench, longest: int) -> Deed:
        messages = [bench.message() for _ in range(count)]
        limit = bench.capabilities.max_body_bytes or longest + 100
        if is_large and longest + 100 <= limit:
            body = messages[0].body.ljust(longest + 100)
            messages[0] = bench.message(body, job_id=messages[0].id)
        return Deed(enqueues=tuple(messages))

    return deed


def _settles(settlement: Settlement) -> Callable[[Bench, int], Deed]:
    return lambda bench, longest: Deed(settles=settlement)


_WAYS: Final = (
    _Way("enqueue", _enqueues(1), _EACH),
    _Way("enqueue of a large job", _enqueues(1, is_large=True)),
    _Way("enqueue_many", _enqueues(3)),
    _Way("commit", _settles(COMMIT), settles=True, removes=True),
    _Way("bury", _settles(Bury("error", _STORY)), settles=True),
    _Way("rollback", _settles(Rollback()), settles=True),
)


@case(
    "files.torn",
    "S9",
    "S14",
    "S8",
    needs=(FILES, LEASE),
    real_time=True,
    why="A process dies in the middle of a write, and what others write behind it is never read.",
)
def torn(bench: Bench) -> None:
    try:
        import resource  # noqa: F401  # a system without it has no such limit
    except ImportError as exc:
        raise NotShown(f"the size of files cannot be limited here: {exc}") from exc
    with Elsewhere(bench) as elsewhere, ExitStack() as stack:
        tries = []
        for way in _WAYS:
            for length in way.lengths:
                there, place = stack.enter_context(in_a_place(bench))
                tries.append(_Torn(there, place, way, length))
        for one in tries:
            one.tear(elsewhere)
        bench.let_pass(bench.lease + bench.slack)
        for one in tries:
            one.check()


class _Torn(Told):
    """A place of files in which a process dies, and two jobs are enqueued afterwards."""

    def __init__(self, bench: Bench, place: Path, way: _Way, length: int) -> None:
        super().__init__(bench)
        self.place = place
        self.way = way
        self.length = length

    def tear(self, elsewhere: Elsewhere) -> None:
        """Let the process die."""
        bench = self.bench
        first = bench.put()
        deeds = [Deed(reserves=bench.queue)] if self.way.settles else []
        if self.way.settles:
            self.perhaps.add(first.body)
        else:
            self.there.add(first.body)
        last = self.way.deed(bench, longest_in(self.place))
        death = Death(beyond=self.length)
        done, _ = let_die(bench, elsewhere, [*deeds, last], death, (str(self.place), bench.namespace))
        is_done = done == len(deeds) + 1
        how = f"did all of its {self.way.what}" if is_done else f"was killed {death}, in its {self.way.what}"
        bench.history.add(f"a process {how}")
        bodies = {message.body for message in last.enqueues}
        (self.there if is_done else self.perhaps).update(bodies)
        self.there |= {bench.put().body, bench.put().body}
        if bench.has(Browse):
            self.is_true([job.body for job in bench.peek(JobState.READY, 100)])

    def check(self) -> None:
        """Look at what is there, with an adapter that has been opened since."""
        bench = self.bench
        bench.reopen()
        if self.way.settles and not self.way.removes and bench.has(Buried):
            self.there |= self.perhaps
        self.is_true([*bench.drain(bench.consumer()), *self._buried()])

    def _buried(self) -> Iterator[bytes]:
        if self.bench.has(Buried):
            yield from (job.body for job in self.bench.buried())

"""A disk that is full: what was told as stored is there, and nothing else (S14, S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.cases.files import in_a_place
from kessel_conformance.catalogue import case
from kessel_conformance.harness_base import NotShown
from kessel_conformance.places import FILES
from kessel_conformance.told import Told
from kessel_core import AdapterUnavailable, LeaseLost
from kessel_core.contract import COMMIT, Browse, EnqueueRejected, JobState, Message, Store

#: Bytes of a large job; more than fits.
_LARGE: Final = 60_000


@case(
    "files.full",
    "S14",
    "S9",
    "S8",
    "S19",
    needs=(FILES,),
    alone=True,
    why="A disk is full: half of a job is written, or it is told as stored, or believed to be there.",
)
def full(bench: Bench) -> None:
    with in_a_place(bench) as (there, _):
        _Full(there).check()


class _Full(Told):
    """Calls while no file may become longer, and looks at what is there when they may again."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.size = min(bench.capabilities.max_body_bytes or _LARGE, _LARGE)

    def check(self) -> None:
        bench = self.bench
        self.there = {bench.put().body, bench.put().body}
        consumer = bench.consumer()
        held = bench.taken(consumer)
        if bench.has(Store):
            self.put("small", b"before")
        for longest in (self.size // 3, 1, 0):  # of a large job a part can be written, then nothing at all
            with _limited(longest):
                alone = self.enqueue(self._large())
                _, among, _ = self.enqueue_many([bench.message(), self._large(), bench.message()])
                bench.check(
                    not (isinstance(alone, EnqueueRejected) and isinstance(among, AdapterUnavailable)),
                    "a job that is rejected alone is told as unavailable in a batch, which is tried again",
                )
                if bench.has(Store):
                    self.put("small", b"with %d" % longest)
                    large = self.put("large", b"%d" % longest * self.size)
                    bench.check(
                        not (isinstance(alone, EnqueueRejected) and isinstance(large, AdapterUnavailable)),
                        "a full disk is told as a refusal of a job, and as unavailable of an entry",
                        "S19",
                    )
                self.asked("extend", lambda: consumer.extend(held))
                self.asked("extend_many", lambda: bench.adapter.extend_many([(consumer, held)]))
        with _limited(0):
            settled = self.asked("settle", lambda: consumer.settle(held, COMMIT), LeaseLost)
        self.there.add(bench.put().body)  # it goes on
        self.there.discard(held.body)
        if isinstance(settled.error, AdapterUnavailable):
            bench.settle(consumer, held)
        elif settled.error is not None:
            self.perhaps.add(held.body)
        if bench.has(Browse):  # what it believes, before it reads its files anew
            self.is_true([job.body for job in bench.peek(JobState.READY, 100)])
        bench.reopen()
        self.is_true(bench.drain(bench.consumer()))

    def _large(self) -> Message:
        message = self.bench.message()
        return self.bench.message(message.body.ljust(self.size - 8), job_id=message.id)


@contextmanager
def _limited(longest: int) -> Iterator[None]:
    """Let no file of this process be written beyond so many bytes, as if the disk were full."""
    try:
        import resource
    except ImportError as exc:
        raise NotShown(f"the size of files cannot be limited here: {exc}") from exc
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (longest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

"""What an operator does in a plan: kick, delete, pause, count, look. As `steps.py`."""

from __future__ import annotations

from datetime import timedelta

import attrs

from kessel_conformance.comparison import Comparison
from kessel_conformance.history import seconds, shown
from kessel_conformance.model import Span
from kessel_core import UnknownJob
from kessel_core.contract import Browse, Buried, Delete, JobState, Pause

__all__ = ["Count", "Kick", "PauseQueue", "Peek", "Remove"]


@attrs.frozen
class Kick:
    """Kick a buried job; its reason must have been kept."""

    which: int = 0

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        if (facet := both.adapter.facet(Buried)) is None:
            return
        listed, at = both.timed(lambda: facet.buried(both.queue))
        both.listed("list the buried", JobState.BURIED, listed, at)
        by_body = {stored.body: stored for stored in listed}
        expected = both.model.buried_jobs()
        for job in expected:
            stored = by_body[job.message.body]
            if stored.reason != job.reason or stored.message != f"{job.label} failed":
                both.broken("S8", f"buried() shows {stored.reason!r}, {stored.message!r} for {job.label}")
        if not expected:
            return
        job = expected[self.which % len(expected)]
        _, at = both.timed(lambda: facet.kick(both.queue, by_body[job.message.body].id))
        both.history.add(f"kick {job.label}")
        both.model.kicked(job, at)


@attrs.frozen
class Remove:
    """Delete a job by its id."""

    which: int = 0

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        facet = both.adapter.facet(Delete)
        if facet is None or not both.model.jobs:
            return
        job = both.model.jobs[self.which % len(both.model.jobs)]
        before = both.now()
        try:
            facet.delete(both.queue, job.message.id)
        except UnknownJob:
            both.history.add(f"delete {job.label} -> UnknownJob")
            at = Span(before, both.now())
            is_free = job.state is JobState.READY and job.holder is None and job.ready.hi <= at.lo
            if is_free or job.state is JobState.BURIED:
                both.broken("S9", f"delete of {job.label} was refused although nobody holds it")
            return
        at = Span(before, both.now())
        both.history.add(f"delete {job.label}")
        if job.state is None or (job.state is JobState.RESERVED and job.ready.lo > at.hi):
            both.broken("S9", f"delete of {job.label} was accepted, but it is {job.state or 'gone'}")
        both.model.removed(job)


@attrs.frozen
class PauseQueue:
    """Pause the queue; zero resumes."""

    #: Seconds.
    span: float = 0.0

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        if (facet := both.adapter.facet(Pause)) is None:
            return
        _, at = both.timed(lambda: facet.pause(both.queue, timedelta(seconds=self.span)))
        both.history.add(f"pause the queue for {seconds(self.span)}" if self.span else "resume the queue")
        both.model.pause_set(self.span, at)


@attrs.frozen
class Count:
    """Compare the counts."""

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        if both.declared.counts:
            seen, at = both.timed(lambda: both.adapter.stats(both.queue))
            both.history.add(f"stats -> {shown(seen)}")
            both.model.counted(seen, at)


@attrs.frozen
class Peek:
    """Compare what is shown of one state: a job is shown exactly while it is in it."""

    state: JobState

    def run(self, both: Comparison) -> None:
        """As `Step.run`."""
        if (facet := both.adapter.facet(Browse)) is not None:
            stored, at = both.timed(lambda: facet.peek(both.queue, self.state, 1000))
            both.listed(f"peek {self.state}", self.state, stored, at)

"""Watches the jobs of an application, and offers what it has counted as the page `/metrics`.

Nothing is counted before a worker asks for the page: nobody would read it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Final

from kessel_core import AdapterError, Clock, Job, JobContext, JobResult, hookimpl
from kessel_core.hooks import Page, PageContext
from kessel_prometheus.counting import Counts

__all__ = ["PATH", "TEXT", "Metrics"]

PATH: Final = "/metrics"
#: The format of Prometheus' text exposition that every version of it reads.
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What the section makes: watchers of jobs, and their page. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: None: nobody will read it.
        self._counts: Counts | None = None

    @hookimpl
    def kessel_pages(self, context: PageContext) -> Mapping[str, Page]:
        """Offer `/metrics`, and begin to count."""
        counts = self._counts = Counts(context.queues, context.types)

        def show() -> bytes:
            from kessel_prometheus.families import of_worker
            from kessel_prometheus.text import written

            return written(of_worker(counts, context, self._clock))

        return {PATH: Page(show=show, merge=_merged, content_type=TEXT)}

    @hookimpl(wrapper=True)
    def kessel_enqueue_jobs(
        self, jobs: Sequence[Job]
    ) -> Generator[None, Sequence[AdapterError | None], None]:
        """Count what is requested, by what became of it."""
        outcomes = yield
        if (counts := self._counts) is not None:
            counts.requested(jobs, outcomes)

    @hookimpl
    def kessel_job_started(self, job: JobContext) -> None:
        """Measure how long a job waited for its first start."""
        is_first = job.attempt == 1 and not job.snoozes and not job.kicks
        if (counts := self._counts) is not None and is_first:
            counts.started(job)

    @hookimpl
    def kessel_job_settled(self, result: JobResult) -> None:
        """Count an attempt and measure its handler."""
        if (counts := self._counts) is not None:
            counts.settled(result)


def _merged(running: Sequence[bytes], ended: Sequence[bytes]) -> bytes:
    from kessel_prometheus.merging import merged  # late, for the library that it needs

    return merged(running, ended)

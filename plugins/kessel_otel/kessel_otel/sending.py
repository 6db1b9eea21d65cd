"""The spans of one call that stores jobs: `send`, and `create` for each job where there are several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import attach, detach

from kessel_core import Job
from kessel_otel.attributes import BATCH, DESTINATION, fail, kind_of, of_job, of_operation
from kessel_otel.context import fields, headers_of, within
from kessel_otel.guard import guarded

__all__ = ["Sending"]


class Sending:
    """The spans of one call, from its begin to its end, in one thread.

    One job has one span, which is what the job comes from. Several have one each that they come from, and
    the call has a span that links to them, so that a trace does not grow with the batch.

    Args:
        tracer: Makes the spans.
        jobs: What is to be stored.
        follows: The header that names the job that brings them along; empty: they are requested.
    """

    def __init__(self, tracer: trace.Tracer, jobs: Sequence[Job], follows: Mapping[str, str]) -> None:
        operation = "send" if len(jobs) == 1 else "create"
        #: Where each job comes from.
        self._origins = [
            tracer.start_span(
                f"{operation} {job.queue}",
                kind=trace.SpanKind.PRODUCER,
                attributes=of_job(job, operation, job.queue),
            )
            for job in jobs
        ]
        self._send = self._origins[0] if len(jobs) == 1 else self._batch(tracer, jobs)
        #: What leads to its origin, for each job.
        self.headers = [_headers(span, job, follows) for span, job in zip(self._origins, jobs, strict=True)]
        # What an instrumented client of the queue does meanwhile belongs to the call.
        self._token = attach(within(self._send))

    def _batch(self, tracer: trace.Tracer, jobs: Sequence[Job]) -> trace.Span:
        queues = {job.queue for job in jobs}
        attributes = of_operation("send") | {BATCH: len(jobs)}
        name = "send"
        if len(queues) == 1:
            (queue,) = queues
            attributes[DESTINATION] = queue
            name = f"send {queue}"
        return tracer.start_span(
            name,
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            links=[trace.Link(span.get_span_context()) for span in self._origins],
        )

    def end(self, outcomes: Sequence[BaseException | None]) -> None:
        """Say what became of each job."""
        guarded(detach, self._token)
        failed = [exc for exc in outcomes if exc is not None]
        for span, exc in zip(self._origins, outcomes, strict=True):
            if exc is not None:
                guarded(fail, span, kind_of(exc), str(exc))
            guarded(span.end)
        if self._send is self._origins[0]:
            return
        if failed:
            kinds = {kind_of(exc) for exc in failed}
            kind = kinds.pop() if len(kinds) == 1 else "_OTHER"
            guarded(fail, self._send, kind, f"{len(failed)} of {len(outcomes)} jobs: {failed[0]}")
        guarded(self._send.end)


def _headers(span: trace.Span, job: Job, follows: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a job; where nothing is traced, not even whom it follows."""
    headers = headers_of(span)
    if headers:
        # What it had, as a callback job has those of its job, belongs to the trace of that.
        left = {key: "" for key in fields() if key in job.headers}
        headers = {**left, **headers}
    # A propagator that sends nothing is no reason to leave out what this span has to say.
    return {**headers, **follows} if headers or span.get_span_context().is_valid else headers

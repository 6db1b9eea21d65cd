"""The middleware `otel`: a span around each attempt, and spans around each call that stores jobs."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import attach

from kessel_core import AdapterError, Job, JobContext, JobResult, hookimpl
from kessel_core.hooks import add_log_fields
from kessel_otel.attributes import break_attempt, fail_attempt, of_attempt
from kessel_otel.context import FOLLOWS, origin_of, within
from kessel_otel.guard import guarded
from kessel_otel.options import OtelOptions
from kessel_otel.sending import Sending

__all__ = ["Otel"]


class Otel:
    """Traces the jobs of one application, with the provider that the application has set; thread-safe."""

    def __init__(self, options: OtelOptions) -> None:
        self._relation = options.relation
        self._tracer = trace.get_tracer("kessel", version("kessel-otel"))
        add_log_fields(_log_fields)

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job: JobContext) -> Generator[None, JobResult | None, JobResult | None]:
        """Put a span around an attempt."""
        span = guarded(self._begun, job)
        try:
            result = yield
        except BaseException as exc:
            if span is not None:
                guarded(_break, span, exc)
            raise
        if span is not None:
            guarded(_end, span, result)
        return result

    def _begun(self, job: JobContext) -> trace.Span:
        context, links = origin_of(job, self._relation)
        span = self._tracer.start_span(
            f"process {job.queue}",
            context=context,
            kind=trace.SpanKind.CONSUMER,
            attributes=of_attempt(job),
            links=links,
        )
        # Never detached: kessel runs each delivery in a context of its own, and what it logs, stores and
        # tells when the job is settled belongs to this span, too.
        attach(within(span, context))
        return span

    @hookimpl(wrapper=True)
    def kessel_enqueue_jobs(
        self, jobs: Sequence[Job], result: JobResult | None
    ) -> Generator[Sequence[Mapping[str, str]] | None, Sequence[AdapterError | None], None]:
        """Put spans around a call that stores jobs, and what leads to them into the headers."""
        follows = {FOLLOWS: result.id} if result is not None and result.id else {}
        sending = guarded(Sending, self._tracer, jobs, follows)
        if sending is None:
            yield None
            return
        try:
            outcomes: Sequence[BaseException | None] = yield sending.headers
        except BaseException as exc:
            guarded(sending.end, [exc] * len(jobs))
            raise
        guarded(sending.end, outcomes)


def _end(span: trace.Span, result: object) -> None:
    try:
        if isinstance(result, JobResult):  # a middleware inside may have made something else of it
            fail_attempt(span, result)
    finally:
        span.end()


def _break(span: trace.Span, exc: BaseException) -> None:
    try:
        break_attempt(span, exc)
    finally:
        span.end()


def _log_fields() -> Mapping[str, object]:
    """Return which span writes a log line."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(span.trace_id),
        "span_id": trace.format_span_id(span.span_id),
    }

"""The context of a trace in the headers of a job, by whatever propagator the application configured.

Headers come from the queue, so from whoever writes to it: what cannot be read begins a new trace.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current

from kessel_core import JobContext
from kessel_otel.guard import guarded

__all__ = ["FOLLOWS", "fields", "headers_of", "origin_of", "within"]

#: The header of a job that another one brought along: the id of that one.
FOLLOWS: Final = "kessel-follows"
#: Characters of a header at most, as the propagator of baggage reads them; a longer one is not sent.
_LONGEST: Final = 8192


def within(span: trace.Span, context: Context | None = None) -> Context:
    """Return the context (None: the current one) with a span as its current one.

    Without an SDK older APIs give a span that is nothing; then who traces before and after is passed on.
    """
    if span.get_span_context().is_valid:
        return trace.set_span_in_context(span, context)
    return get_current() if context is None else context


def fields() -> Collection[str]:
    """Return the headers that the application's propagator may write."""
    found: Collection[str] | None = guarded(lambda: propagate.get_global_textmap().fields)
    return found or ()


def headers_of(span: trace.Span) -> dict[str, str]:
    """Return the headers that lead to a span; what cannot be a header of a job is left out."""
    carrier: dict[str, str] = {}
    guarded(propagate.inject, carrier, within(span))
    return {key: value for key, value in carrier.items() if _is_text(key) and _is_text(value)}


def origin_of(
    job: JobContext, relation: Literal["auto", "link", "child"]
) -> tuple[Context, Sequence[trace.Link]]:
    """Return in which context the span of an attempt begins, and its link to the span of the request."""
    here = get_current()
    sent = guarded(propagate.extract, job.headers, here) or here
    origin = trace.get_current_span(sent).get_span_context()
    if not (origin.is_valid and origin.is_remote):
        return sent, ()
    if relation == "link" or (relation == "auto" and not _is_at_once(job)):
        # Baggage belongs to the work and not to the trace, so it comes along in each case.
        sent = trace.set_span_in_context(trace.get_current_span(here), sent)
    return sent, (trace.Link(origin),)


def _is_at_once(job: JobContext) -> bool:
    """Whether somebody may have requested it just now: it is neither late on purpose nor tried again."""
    return (
        job.attempt == 1
        and job.snoozes == 0
        and job.request.not_before is None
        and FOLLOWS not in job.headers
    )


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or len(value) > _LONGEST:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

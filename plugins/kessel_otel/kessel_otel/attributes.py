"""Names and attributes of spans: the messaging conventions of OpenTelemetry 1.44, and kessel's own.

Own ones are `kessel.job.*`: the conventions have no general attribute for a type, an attempt or a delay.
"""

from __future__ import annotations

import traceback
from typing import Final, TypeAlias

from opentelemetry.trace import Span, Status, StatusCode

from kessel_core import Fatal, Job, JobContext, JobResult, KesselError, Reason, Snooze, Transient
from kessel_core import Status as JobStatus
from kessel_core.contract import without_secrets
from kessel_otel.context import FOLLOWS

__all__ = [
    "BATCH",
    "DESTINATION",
    "Attributes",
    "break_attempt",
    "fail",
    "fail_attempt",
    "kind_of",
    "of_attempt",
    "of_job",
    "of_operation",
]

Attributes: TypeAlias = dict[str, str | int | float]

DESTINATION: Final = "messaging.destination.name"
BATCH: Final = "messaging.batch.message_count"
_ERROR: Final = "error.type"
#: Characters of a description, and of a stack trace, at most: receivers refuse what is too large, and with it
#: every span that is sent along.
_LONGEST: Final = 1000
_LONGEST_STACK: Final = 20_000
#: Characters in which secrets are looked for: far more than are sent, because what is hidden makes a text
#: shorter, and what is cut off at their end must not come into view.
_LOOKED_AT: Final = 100_000


def of_operation(name: str) -> Attributes:
    """Return what says which operation of which system it is; `name` is `create`, `send` or `process`."""
    return {
        "messaging.system": "kessel",
        "messaging.operation.name": name,
        "messaging.operation.type": name,
    }


def of_job(job: Job, operation: str, queue: str) -> Attributes:
    """Return the attributes of a span about one job."""
    found = of_operation(operation)
    found[DESTINATION] = queue
    found["kessel.job.type"] = job.type
    if job.id:
        found["messaging.message.id"] = job.id
    if job.ref is not None:
        found["messaging.message.conversation_id"] = job.ref
    if job.not_before is not None and job.requested_at is not None:
        found["kessel.job.delay_seconds"] = (job.not_before - job.requested_at).total_seconds()
    return found


def of_attempt(job: JobContext) -> Attributes:
    """Return the attributes of the span of an attempt, as far as they are known before it."""
    found = of_job(job.request, "process", job.queue)
    found["kessel.job.attempt"] = job.attempt
    if follows := job.headers.get(FOLLOWS):
        found["kessel.job.follows"] = follows
    return found


def kind_of(exc: BaseException) -> str:
    """Return the class of an error, as `error.type` has it; those of kessel by their public name."""
    kind = type(exc)
    if isinstance(exc, KesselError) or kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def fail(span: Span, kind: str, description: str) -> None:
    """Mark a span as failed."""
    span.set_attribute(_ERROR, kind)
    span.set_status(Status(StatusCode.ERROR, _told(description)))


def break_attempt(span: Span, exc: BaseException) -> None:
    """Say on the span of an attempt that a middleware inside ended it; what is asked for is no exception."""
    match exc:
        case Snooze():
            status = JobStatus.SNOOZED
        case Transient():
            status = JobStatus.TRANSIENT
        case Fatal():
            status = JobStatus.FAILED
        case _:  # the configuration and the middleware outside decide what becomes of it
            _record(span, exc)
            fail(span, kind_of(exc), _text_of(exc))
            return
    span.set_attribute("kessel.job.status", str(status))
    if status is not JobStatus.SNOOZED:
        fail(span, str(Reason.ERROR), _text_of(exc))


def fail_attempt(span: Span, result: JobResult) -> None:
    """Say on the span of an attempt how it ended; one that was put off has not failed."""
    span.set_attribute("kessel.job.status", str(result.status))
    if result.status in (JobStatus.SUCCESS, JobStatus.SNOOZED):
        return
    if result.raised is not None:
        _record(span, result.raised)
        fail(span, kind_of(result.raised), result.message)
    else:
        fail(span, str(result.reason) if result.reason is not None else "_OTHER", result.message)


def _record(span: Span, exc: BaseException) -> None:
    """Add what was raised as an event; that of the SDK is as long as the error, and fails with its text."""
    try:
        stack = "".join(traceback.format_exception(exc))
    except Exception:  # the text of a cause cannot be read
        stack = ""
    span.add_event(
        "exception",
        {
            "exception.type": kind_of(exc),
            "exception.message": _told(_text_of(exc)),
            "exception.stacktrace": _sendable(_ends(stack)),
        },
    )


def _ends(stack: str) -> str:
    """Return a stack trace without secrets, a long one without its middle."""
    if len(stack) <= _LONGEST_STACK:
        return without_secrets(stack)
    half = _LONGEST_STACK // 2
    # Secrets first, and of more than is sent: half of an address does not look like one any more.
    first, last = without_secrets(stack[:_LOOKED_AT]), without_secrets(stack[-_LOOKED_AT:])
    return f"{first[:half]}\n...\n{last[-half:]}"


def _text_of(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        return "(its text cannot be read)"


def _told(text: str) -> str:
    """Return a text without secrets of addresses, cut, and such that every exporter can write it."""
    return _sendable(without_secrets(text[:_LOOKED_AT])[:_LONGEST])


def _sendable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()

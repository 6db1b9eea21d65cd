"""Runs the handler of a job, and turns what it returns or raises into an outcome."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from datetime import datetime, timedelta
from types import CoroutineType
from typing import Any

import attrs

from kessel_core.config.options import JobsConfig
from kessel_core.errors import Fatal, Problem, Snooze, Transient
from kessel_core.handlers.context import JobContext
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.job import Job
from kessel_core.model.json import json_problems, storable
from kessel_core.model.policies import BadPayload, DefaultError
from kessel_core.model.result import SUCCESS, JobResult, Reason, Status
from kessel_core.runtime import forks, recursion
from kessel_core.runtime.async_loop import AsyncLoop, Stopped, TimedOut
from kessel_core.runtime.delivery import MESSAGE_LIMIT
from kessel_core.runtime.frames import frames_of
from kessel_core.values.payload_types import PayloadType
from kessel_core.values.raised import is_interrupt, raised
from kessel_core.values.unstructuring import unstructured

#: What came of the handler of this attempt; for a middleware that loses it. None: it did not run.
ANSWER: ContextVar[JobResult | None] = ContextVar("kessel_answer", default=None)


class HandlerRunner:
    """The core's own `kessel_execute_job`: the innermost; always returns a result. Thread-safe."""

    def __init__(
        self, loop: AsyncLoop, rules: JobsConfig, payload_types: tuple[PayloadType, ...] = ()
    ) -> None:
        self._loop = loop
        self._default_error = rules.default_error
        self._payload_types = payload_types
        #: A newer version of the handler, which accepts the payload, may be about to be rolled out (S21).
        self._bad_payload_status = Status.SNOOZED if rules.bad_payload is BadPayload.RETRY else Status.FAILED

    @hookimpl(trylast=True)
    def kessel_execute_job(self, job: JobContext) -> JobResult:
        """Run the handler; what it returns or raises becomes the outcome."""
        result = self._result(job)
        ANSWER.set(result)
        return result

    def _result(self, job: JobContext) -> JobResult:
        handler = job.handler
        assert handler is not None
        expiration = job.request.expires_at
        if expiration is not None and job.clock.now() >= expiration:
            # Checked here, because middleware may have taken some time (S5).
            return failed(job, Reason.EXPIRED, f"expired at {expiration}")
        before = forks.generation
        try:
            payload: Any = job.request.payload
            if handler.structure is not None:
                try:
                    payload = handler.structure(payload)
                except (Exception, SystemExit) as exc:
                    return failed(job, Reason.BAD_PAYLOAD, text_of(exc), self._bad_payload_status)
            value = handler.function(payload, job) if handler.wants_job else handler.function(payload)
            if handler.is_async or type(value) is CoroutineType:
                value = self._loop.run(value, handler.timeout, job.request.type)
        except BaseException as exc:
            if sys.getrecursionlimit() < recursion.LEAST:
                recursion.restore(f"the handler of {job.type}")
            if forks.generation != before:
                forks.leave(f"the handler of {job.type}", exc)
            return outcome_of_exception(job, exc, self._default_error)
        if sys.getrecursionlimit() < recursion.LEAST:
            recursion.restore(f"the handler of {job.type}")
        if forks.generation != before:
            forks.leave(f"the handler of {job.type}")
        if isinstance(value, JobResult):
            now = job.clock.now()
            result = attrs.evolve(value, request=job.request, started_at=job.started_at, finished_at=now)
            return own(result, job, "the handler returned", self._payload_types)
        result = JobResult(
            id=job.request.id,
            request=job.request,
            status=SUCCESS,
            value=value,
            attempt=job.attempt,
            started_at=job.started_at,
            finished_at=job.clock.now(),
        )
        return result if value is None else sound(result, "the handler returned", self._payload_types)


def sound(outcome: JobResult, who: str, types: tuple[PayloadType, ...] = ()) -> JobResult:
    """Return an outcome that somebody else made as it can be stored: its message is cut, its value JSON.

    One whose value is none, and cannot be written as one, is a failure.

    Args:
        outcome: The outcome.
        who: Who made it, for the message: "the handler returned".
        types: The classes that plugins offer.
    """
    value = outcome.value
    if problems := json_problems(value):
        try:
            value = unstructured(value, types)
        except RecursionError:
            pass  # it contains itself, which the checks have said with the path
        except (Exception, SystemExit) as exc:
            why = f"{type(value).__name__} cannot be written as JSON: {raised(exc)}"
            problems = [Problem(("$",), why)]
        else:
            problems = json_problems(value)
    if problems:
        shown = "; ".join(map(str, problems[:5]))
        message = storable(f"{who} what is not a JSON value: {shown}", MESSAGE_LIMIT)
        return attrs.evolve(
            outcome, status=Status.FAILED, reason=Reason.ERROR, value=None, message=message, after=None
        )
    message = storable(outcome.message, MESSAGE_LIMIT)
    if value is outcome.value and message == outcome.message:
        return outcome
    return attrs.evolve(outcome, value=value, message=message)


def own(outcome: JobResult, job: JobContext, who: str, types: tuple[PayloadType, ...] = ()) -> JobResult:
    """Return a `JobResult` that a handler or a middleware made as a sound outcome of this job.

    What was made for another job, such as a result that a middleware has kept, gets this job's identity: who
    waits is told by it, and the outcome is kept under it. A time that is none is that of this attempt.

    Args:
        outcome: What was made.
        job: The job.
        who: As for `sound`.
        types: As for `sound`.
    """
    try:
        status, reason = Status(outcome.status), None if outcome.reason is None else Reason(outcome.reason)
        if not isinstance(outcome.message, str):
            raise ValueError(f"a message that is no text, but {type(outcome.message).__name__}")
    except ValueError as exc:
        return failed(job, Reason.ERROR, f"{who} a JobResult that cannot be one: {exc}")
    answer, request = ANSWER.get(), outcome.request
    begun, ended = None, None
    if answer is not None and answer.id == job.id:
        begun, ended = answer.started_at, answer.finished_at
    is_own = isinstance(request, Job) and request.id == job.id
    has_begun, has_ended = (is_own and _is_aware(one) for one in (outcome.started_at, outcome.finished_at))
    outcome = attrs.evolve(
        outcome,
        id=job.id,
        request=request if is_own else job.request,
        status=status,
        reason=reason,
        attempt=job.attempt,
        started_at=outcome.started_at if has_begun else begun,
        finished_at=outcome.finished_at if has_ended else ended or job.clock.now(),
    )
    return sound(outcome, who, types)


def _is_aware(moment: object) -> bool:
    return isinstance(moment, datetime) and moment.utcoffset() is not None


def failed(
    job: JobContext,
    reason: Reason | None,
    message: str,
    status: Status = Status.FAILED,
    after: timedelta | None = None,
) -> JobResult:
    """Return the outcome of an attempt that did not succeed."""
    return JobResult(
        id=job.id,
        request=job.request,
        status=status,
        message=storable(message, MESSAGE_LIMIT),
        reason=reason,
        attempt=job.attempt,
        after=after,
        started_at=job.started_at,
        finished_at=job.clock.now(),
    )


def outcome_of_exception(job: JobContext, exc: BaseException, default_error: DefaultError) -> JobResult:
    """Turn what a handler or a middleware raised into an outcome, with where it was raised.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C; in the main thread only.
    """
    if is_interrupt(exc):
        raise exc
    if isinstance(exc, Transient):
        outcome = failed(job, Reason.ERROR, text_of(exc), Status.TRANSIENT, exc.after)
        return attrs.evolve(outcome, frames=frames_of(exc))
    if isinstance(exc, Snooze):
        return failed(job, None, text_of(exc), Status.SNOOZED, exc.after)
    if isinstance(exc, Fatal):
        return attrs.evolve(failed(job, Reason.ERROR, text_of(exc)), frames=frames_of(exc))
    if isinstance(exc, Stopped):  # its job has already been given back; a traceback would only confuse
        return failed(job, Reason.ERROR, text_of(exc), Status.TRANSIENT)
    transient: tuple[type[BaseException], ...] = job.handler.transient if job.handler is not None else ()
    if isinstance(exc, BaseExceptionGroup) and not isinstance(exc, transient):
        return _outcome_of_group(job, exc, default_error)
    is_transient = isinstance(exc, (ConnectionError, TimeoutError, *transient)) or (
        default_error is DefaultError.TRANSIENT and isinstance(exc, Exception)
    )
    reason = Reason.TIMED_OUT if isinstance(exc, TimedOut) else Reason.ERROR
    message = f"{type(exc).__name__}: {text_of(exc)}".removesuffix(": ")
    outcome = failed(job, reason, message, Status.TRANSIENT if is_transient else Status.FAILED)
    return attrs.evolve(outcome, frames=frames_of(exc), raised=exc)


def _outcome_of_group(
    job: JobContext, group: BaseExceptionGroup[BaseException], default_error: DefaultError
) -> JobResult:
    """Return the outcome of a group, as of `asyncio.TaskGroup`: a retry has to help with all of it."""
    parts = [outcome_of_exception(job, one, default_error) for one in group.exceptions]
    found = {part.status for part in parts}
    status = next(one for one in (Status.FAILED, Status.TRANSIENT, Status.SNOOZED) if one in found)
    message = f"{type(group).__name__}: {text_of(group)}: {'; '.join(part.message for part in parts)}"
    longest = max((part.after for part in parts if part.after is not None), default=None)
    outcome = failed(
        job,
        None if status is Status.SNOOZED else Reason.ERROR,
        message,
        status,
        None if status is Status.FAILED else longest,
    )
    return attrs.evolve(
        outcome,
        frames=next((part.frames for part in parts if part.frames), "") or frames_of(group),
        raised=group if any(part.raised is not None for part in parts) else None,
    )


def text_of(exc: BaseException) -> str:
    """Return the message of an exception as it can be stored; some raise even in `__str__`."""
    try:
        return storable(str(exc), MESSAGE_LIMIT)
    except Exception:
        return f"{type(exc).__name__} without a readable text"

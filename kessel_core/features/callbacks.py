"""Callbacks: functions are called in this process (S15); whatever is text becomes a job (S22).

Decides nothing: a function that fails is logged, and has no effect on the job that it was told of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from kessel_core.errors import HandlerSignal, InvalidRequest, Transient
from kessel_core.model.callbacks import RESERVED, parsed_callback
from kessel_core.model.job import Job, JobRequest
from kessel_core.model.json import JsonValue
from kessel_core.model.outcome import Outcome
from kessel_core.model.result import JobResult
from kessel_core.values.logs import get_logger
from kessel_core.wire.results import outcome_fields

__all__ = ["CallbackCall", "Callbacks", "callback_handlers", "callback_request", "function_of"]


log = get_logger("kessel.callbacks")

#: Longest message in an outcome whose value had to be left out already, in characters.
_SHORT: Final = 200


def function_of(callback: str | Callable[[Any], object] | None) -> Callable[[Any], object] | None:
    """Return what the process that requests has to call; None: nothing, or the callback is a job (S22)."""
    return None if isinstance(callback, str) else callback


class Callbacks:
    """The functions that wait for jobs of one application; thread-safe.

    They are kept by job id from the request until the job's last settlement, in this process only.
    """

    def __init__(self) -> None:
        #: Those that wait, by the ids of their jobs; only to be read.
        self.functions: dict[str, Callable[[JobResult], object]] = {}

    def expect(
        self, job_id: str, function: Callable[[JobResult], object] | None
    ) -> Callable[[JobResult], object] | None:
        """Remember the function of a job that is about to be stored; return the one that it replaces.

        None: the job has none.
        """
        before = self.functions.get(job_id)
        self.restore(job_id, function)
        return before

    def restore(self, job_id: str, before: Callable[[JobResult], object] | None) -> None:
        """Undo `expect` for a job that was not stored: another job with its id may be in the queue."""
        if before is None:
            self.forget(job_id)
        else:
            self.functions[job_id] = before

    def forget(self, job_id: str) -> None:
        """Forget the function of a job that is not stored, or not any more."""
        self.functions.pop(job_id, None)

    def is_awaited(self, result: JobResult) -> bool:
        """Whether a function waits for this result."""
        return result.id in self.functions

    def call(self, result: JobResult) -> None:
        """Call the function that waits for this job; exceptions are logged."""
        function = self.functions.pop(result.id, None)
        if function is None:
            return
        try:
            function(result)
        except BaseException as exc:  # sys.exit() in a callback must not end the slot
            if isinstance(exc, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
            log.exception("callback of job %s failed", result.id, extra={"job_id": result.id})


# --- callbacks that are jobs --------------------------------------------------------------------------


def callback_request(
    result: JobResult,
    job: Job,
    job_id: str,
    queue: str | None,
    made: Callable[[JobRequest], tuple[Job, Any]],
) -> tuple[Job, Any]:
    """Make the job that tells how another one ended; what is too large for the queue is left out.

    Args:
        result: How it ended.
        job: The job; it has a callback.
        job_id: The id of the new job.
        queue: Where callback jobs go unless the callback says otherwise; None: the job's own queue.
        made: Makes a job of a request, and what the adapter stores.

    Raises:
        InvalidRequest: The callback cannot be read, or the queue cannot hold even the shortest outcome.
        CapabilityMissing: The adapter does not declare what the callback asks for.
    """
    assert job.callback is not None
    try:
        wanted = parsed_callback(job.callback)
    except ValueError as exc:
        raise InvalidRequest([], f"callback {job.callback[:60]!r}: {exc}") from exc
    outcome = Outcome.of(result)
    smaller = attrs.evolve(outcome, value=None, value_omitted=True)
    tries = [outcome, smaller, attrs.evolve(smaller, message=outcome.message[:_SHORT])]
    while True:
        fields = outcome_fields(tries.pop(0))
        payload: JsonValue = fields
        if wanted.target is not None:
            payload = {"target": wanted.target, "outcome": fields}
        request = JobRequest(
            type=wanted.type,
            payload=payload,
            id=job_id,
            ref=job.ref,
            priority=wanted.priority,
            queue=wanted.queue or queue or job.queue,
            headers=job.headers,
        )
        try:
            return made(request)
        except InvalidRequest:
            if not tries:
                raise


@attrs.frozen
class CallbackCall:
    """The payload of a job of the type `kessel.SCHEME`."""

    #: What follows the scheme; of an `http` or `https` URL all of it.
    target: str
    #: How the job ended.
    outcome: Outcome


def callback_handlers(
    schemes: Mapping[str, Callable[[Outcome, str], object]],
) -> Iterator[tuple[str, Callable[[CallbackCall], None]]]:
    """Yield type and handler for each scheme that plugins offer."""
    for scheme, function in schemes.items():
        yield f"{RESERVED}{scheme}", _handler(function)


def _handler(function: Callable[[Outcome, str], object]) -> Callable[[CallbackCall], None]:
    def tell(call: CallbackCall) -> None:
        try:
            function(call.outcome, call.target)
        except HandlerSignal:
            raise
        except Exception as exc:
            # Whoever is told may be away; what can never work is buried after the last attempt.
            raise Transient(f"{type(exc).__name__}: {exc}") from exc

    return tell

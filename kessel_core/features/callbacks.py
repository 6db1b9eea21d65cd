"""Callbacks: functions are called in this process (S15); whatever is text becomes a job (S22).

Decides nothing: a function that fails is logged, and has no effect on the job that it was told of.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from types import CoroutineType, GeneratorType
from typing import Any, Final

import attrs

from kessel_core.contract.lostreserves import new_token
from kessel_core.errors import HandlerSignal, InvalidRequest, Problem, Transient
from kessel_core.handlers.registry import is_generator
from kessel_core.model.callbacks import RESERVED, function_callback, parsed_callback
from kessel_core.model.job import Job, JobRequest
from kessel_core.model.json import JsonValue
from kessel_core.model.outcome import Outcome, ever_shorter
from kessel_core.model.result import JobResult
from kessel_core.values.logs import get_logger
from kessel_core.values.raised import is_interrupt
from kessel_core.wire.results import outcome_fields

__all__ = ["CallbackCall", "Callbacks", "callback_handlers", "callback_request"]

log = get_logger("kessel.callbacks")

#: Why a function is no callback.
_NOT_RUN: Final = (
    "a function that has a `yield` is only called, and nobody runs what that makes; give a plain or an async "
    "function, a handler or 'job:TYPE'"
)


class Callbacks:
    """The functions that wait for jobs of one application; thread-safe.

    They are kept from the request until the job's last settlement, in this process only. The stored job
    says which of them is its own, and not its id: that may be requested twice, or be used again.
    """

    def __init__(self) -> None:
        #: Those that wait, by the callbacks of their stored jobs.
        self._functions: dict[str | None, Callable[[JobResult], object]] = {}

    def expect(self, job: Job, callback: str | Callable[[Any], object] | None) -> Job:
        """Remember the callback of a job that is about to be stored, if it is a function; return the job.

        Raises:
            InvalidRequest: A call of the function would not run it.
        """
        if callback is None or isinstance(callback, str):
            return job
        if is_generator(callback):
            raise InvalidRequest([Problem(("$", "callback"), _NOT_RUN)])
        stored = function_callback(f"{new_token():x}")
        self._functions[stored] = callback
        return attrs.evolve(job, callback=stored)

    def forget(self, job: Job) -> None:
        """Forget the function of a job that was not stored."""
        self._functions.pop(job.callback, None)

    def is_awaited(self, result: JobResult) -> bool:
        """Whether a function waits for this result."""
        job = result.request
        return job is not None and job.callback in self._functions

    def call(self, result: JobResult, finish: Callable[[Coroutine[Any, Any, Any]], object]) -> None:
        """Call the function that waits for this job; exceptions are logged.

        Args:
            result: How it ended.
            finish: Runs to its end what an async function returns.
        """
        job = result.request
        function = None if job is None else self._functions.pop(job.callback, None)
        if function is None:
            return
        try:
            told = function(result)
            if type(told) is CoroutineType:
                finish(told)
            elif isinstance(told, GeneratorType):
                told.close()
                raise TypeError(_NOT_RUN)
        except BaseException as exc:  # sys.exit() in a callback must not end the slot
            if is_interrupt(exc):
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
    beside: dict[str, Any] = {"ref": job.ref, "headers": job.headers}
    tries = [(outcome, beside) for outcome in ever_shorter(Outcome.of(result))]
    tries.append((tries[-1][0], {}))  # the reference is in the outcome as well
    while True:
        told, more = tries.pop(0)
        fields = outcome_fields(told)
        payload: JsonValue = fields
        if wanted.target is not None:
            payload = {"target": wanted.target, "outcome": fields}
        request = JobRequest(
            type=wanted.type,
            payload=payload,
            id=job_id,
            priority=wanted.priority,
            queue=wanted.queue or queue or job.queue,
            **more,
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
) -> Iterator[tuple[str, Callable[[CallbackCall], object]]]:
    """Yield type and handler for each scheme that plugins offer."""
    for scheme, function in schemes.items():
        yield f"{RESERVED}{scheme}", _handler(function)


def _handler(function: Callable[[Outcome, str], object]) -> Callable[[CallbackCall], object]:
    def tell(call: CallbackCall) -> object:
        with _tried_again():
            told = function(call.outcome, call.target)
        return _finished(told) if type(told) is CoroutineType else None

    return tell


async def _finished(told: Coroutine[Any, Any, Any]) -> None:
    """Await what an async function returned, as a handler of that kind."""
    with _tried_again():
        await told


@contextmanager
def _tried_again() -> Iterator[None]:
    """Let a job be tried again: who is told may be away; what never works is buried in the end."""
    try:
        yield
    except HandlerSignal:
        raise
    except (Exception, SystemExit) as exc:
        raise Transient(f"{type(exc).__name__}: {exc}") from exc

"""From a request to a job: every rule that can be checked without a queue (S1, S2, S3, S5).

`make_job` is the one place where a request becomes a job. Everything that is wrong is reported in one error
that names every mistake and its path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import attrs

from kessel_core.clock import plain_moment, plain_span
from kessel_core.errors import InvalidRequest, Problem
from kessel_core.model.callbacks import callback_problem
from kessel_core.model.ids import new_id
from kessel_core.model.job import DEFAULT_PRIORITY, DEFAULT_QUEUE, LOWEST_PRIORITY, Job, JobRequest
from kessel_core.model.json import JsonInput, JsonValue, json_problems, shown, text_problem
from kessel_core.model.names import queue_name_problem
from kessel_core.model.readonly import EMPTY
from kessel_core.model.routes import NO_ROUTE, Route

__all__ = ["clamped", "job_from", "job_problems", "make_job"]

T = TypeVar("T")

_NO_TIME: Final = timedelta(0)
#: Longest id that all supported backends can index, in characters.
_LONGEST_ID: Final = 200


def job_from(request: JobRequest, now: datetime, route: Route = NO_ROUTE) -> Job:
    """Return the job that a request asks for.

    Raises:
        InvalidRequest: With every mistake at once (S1, S2, S5).
    """
    return make_job(
        now,
        type=request.type,
        payload=request.payload,
        id=request.id or new_id(now),
        ref=request.ref,
        priority=_first(request.priority, route.priority, DEFAULT_PRIORITY),
        delay=request.delay,
        expiration=request.expiration,
        callback=request.callback,
        queue=_first(request.queue, route.queue, DEFAULT_QUEUE),
        headers=request.headers,
        extra=request.extra,
    )


def _first(asked: T | None, declared: T | None, default: T) -> T:
    if asked is not None:
        return asked
    return default if declared is None else declared


def make_job(
    now: datetime,
    *,
    id: str,  # noqa: A002  # the words of the model, here and below
    type: str,  # noqa: A002
    payload: JsonInput,
    ref: str | None,
    priority: int,
    delay: datetime | timedelta | None,
    expiration: datetime | timedelta | None,
    callback: object,
    queue: str,
    headers: Mapping[str, str],
    extra: Mapping[str, JsonValue] = EMPTY,
) -> Job:
    """Return the job that these fields of a request ask for: checked, with id and absolute times.

    The type is trimmed (S1), the priority clamped to its range (S3), spans are counted from `now`. A
    callback that is a function is left out: it stays in its process.

    The fields are those of `JobRequest`, passed one by one to save building one; `now` is the moment of
    the request, aware, UTC.

    Raises:
        InvalidRequest: With every mistake at once (S1, S2, S5).
    """
    found: list[Problem] = []
    not_before = expires_at = None
    if delay is not None:
        not_before = _moment(delay, now, "delay", found)
    if expiration is not None:
        expires_at = _moment(expiration, now, "expiration", found)
        if expires_at is not None:
            _check_order(not_before, expires_at, now, found)
    job = Job(
        type=type.strip() if isinstance(type, str) else type,
        payload=payload,  # type: ignore[arg-type]  # checked below: what passes is a JsonValue
        id=id,
        ref=ref,
        priority=_in_range(priority),
        not_before=not_before,
        expires_at=expires_at,
        callback=None if callable(callback) else callback,  # type: ignore[arg-type]  # checked below
        queue=queue,
        headers=headers,
        requested_at=now,
        extra=extra,
    )
    found += job_problems(job)
    if job.callback is not None and not any(problem.where == ("$", "callback") for problem in found):
        # Only here: what other software stored is run, even if nobody can be told.
        _note(found, "callback", callback_problem(job.callback, job.type))
    if found:
        raise InvalidRequest(found)
    return job


def job_problems(job: Job) -> list[Problem]:
    """Return every mistake in the values of a job, with its path; times are not checked (S1, S2)."""
    found: list[Problem] = []
    # Each check starts with the cheapest test that an ordinary job passes.
    if type(job.type) is not str or not job.type or not job.type.isascii():
        _note(found, "type", text_problem(job.type))
        if isinstance(job.type, str) and not job.type.strip():
            _note(found, "type", "must not be blank")
    found += json_problems(job.payload, ("$", "payload"))
    if type(job.priority) is not int:
        _note(found, "priority", f"expected a whole number, got {shown(job.priority)}")
    if job.queue != DEFAULT_QUEUE:
        _note(found, "queue", queue_name_problem(job.queue))
    if job.ref is not None:
        _note(found, "ref", text_problem(job.ref))
    if type(job.id) is not str or not job.id.isascii() or len(job.id) > _LONGEST_ID:
        _note(found, "id", _id_problem(job.id))
    if job.callback is not None:
        _note(found, "callback", _callback_problem(job.callback))
    if job.headers is not EMPTY:
        found.extend(_header_problems(job.headers))
    if job.extra is not EMPTY:
        found.extend(_extra_problems(job.extra))
    return found


def clamped(priority: int) -> int:
    """Clamp a priority to its range, 0 to 4294967295 (S3)."""
    if 0 <= priority <= LOWEST_PRIORITY:
        return priority
    return 0 if priority < 0 else LOWEST_PRIORITY


def _in_range(priority: int) -> int:
    """Clamp an integer and make it a plain int; anything else is left for the checks."""
    if type(priority) is int:
        return clamped(priority)
    return (
        clamped(int(priority)) if isinstance(priority, int) and not isinstance(priority, bool) else priority
    )


# --- times -------------------------------------------------------------------------------------


def _moment(value: object, now: datetime, key: str, found: list[Problem]) -> datetime | None:
    """Return a time, or a span from now, as a moment in UTC; mistakes are added to `found`."""
    try:
        if isinstance(value, timedelta):
            value = plain_span(value)
            if value < _NO_TIME:
                _note(found, key, "must not be negative")
                return None
            return now + value
        if isinstance(value, datetime):
            if value.utcoffset() is None:
                _note(found, key, "is a naive datetime: give it a time zone, for example datetime.now(UTC)")
                return None
            return plain_moment(value)
    except OverflowError:
        _note(found, key, "lies beyond the years 1 to 9999 in UTC")
        return None
    _note(found, key, f"expected an aware datetime or a timedelta, got {type(value).__name__}")
    return None


def _check_order(
    not_before: datetime | None, expires_at: datetime, now: datetime, found: list[Problem]
) -> None:
    """Refuse a job that could never run (S5)."""
    if expires_at <= now:
        _note(found, "expiration", "is already past")
    elif not_before is not None and expires_at <= not_before:
        _note(found, "expiration", "must be after the delay")


# --- single values -----------------------------------------------------------------------------


def _note(found: list[Problem], key: str, message: str | None) -> None:
    if message is not None:
        found.append(Problem(("$", key), message))


def _id_problem(value: object) -> str | None:
    problem = text_problem(value)
    if problem is None and len(str(value)) > _LONGEST_ID:
        return f"must be at most {_LONGEST_ID} characters"
    return problem


def _callback_problem(value: object) -> str | None:
    problem = text_problem(value)
    if problem is None and not str(value).partition(":")[0].strip():
        return "expected `scheme:target`, or a function"
    return problem


def _header_problems(headers: object) -> Iterator[Problem]:
    if not isinstance(headers, Mapping):
        yield Problem(("$", "headers"), f"expected a mapping of texts, got {type(headers).__name__}")
        return
    for key, value in headers.items():
        if (problem := text_problem(key)) is not None:
            yield Problem(("$", "headers"), f"key: {problem}")
        if (problem := text_problem(value)) is not None:
            yield Problem(
                ("$", "headers", str(key) if text_problem(key) is None else "?"), f"value: {problem}"
            )


def _extra_problems(extra: Any) -> Iterator[Problem]:
    if not isinstance(extra, Mapping):
        yield Problem(("$", "extra"), f"expected a mapping, got {type(extra).__name__}")
        return
    yield from json_problems(dict(extra))
    yield from (
        Problem(("$", key), "is a key of the model, it cannot be extra") for key in extra if key in _KEYS
    )


#: The keys of a body, which `wire` writes and reads.
_KEYS: Final = frozenset(
    {*(field.name for field in attrs.fields(Job)), "v", "delay", "expiration"}
    - {"extra", "not_before", "expires_at"}
)

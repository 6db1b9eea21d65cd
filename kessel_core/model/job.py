"""The nouns: `JobRequest`, `JobResult`, `Status`, `Reason`, and the rules that a request must keep.

Everything here is a frozen value, safe for any thread. Nothing here talks to a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import attrs

from kessel_core.clock import Clock
from kessel_core.errors import InvalidRequest, Problem
from kessel_core.model.ids import new_id
from kessel_core.model.json import JsonInput, JsonValue, _is_plain, _shown, _text_problem, _walk
from kessel_core.model.names import queue_name_problem

__all__ = [
    "DEFAULT_PRIORITY",
    "DEFAULT_QUEUE",
    "JobRequest",
    "JobResult",
    "LOWEST_PRIORITY",
    "Reason",
    "Status",
    "prepared",
    "request_problems",
]


DEFAULT_QUEUE: Final = "default"


#: The priority of a request that gives none (S3).
DEFAULT_PRIORITY: Final = 65536


#: The largest, least urgent priority number; beanstalkd's 2**32 - 1 (S3).
LOWEST_PRIORITY: Final = 4294967295


NO_HEADERS: Final[Mapping[str, str]] = {}


class Status(StrEnum):
    """How an attempt ended."""

    #: The handler returned.
    SUCCESS = "success"
    #: Failed for good; the job is buried, or gone if it expired.
    FAILED = "failed"
    #: Failed, and will be tried again.
    TRANSIENT = "failed-transient"


class Reason(StrEnum):
    """Why a job did not succeed, for machines."""

    #: Its expiration came before its handler could be started (S5, S11).
    EXPIRED = "expired"
    #: No handler is mapped to its type (S12).
    NO_HANDLER = "no-handler"
    #: The payload does not fit the type that the handler's parameter is annotated with.
    BAD_PAYLOAD = "bad-payload"
    #: The stored bytes are not a request (S13).
    UNDECODABLE = "undecodable"
    #: It failed transiently, as often as it may (S10).
    RETRIES_EXHAUSTED = "retries-exhausted"
    #: Its deliveries are used up, and the last one never reported: it may kill its worker (S10).
    WORKER_LOST = "worker-lost"
    #: An async handler ran longer than its `timeout`.
    TIMED_OUT = "timed-out"
    #: The handler or a middleware failed, or a handler returned what is not a JSON value.
    ERROR = "error"


@attrs.frozen(kw_only=True)
class JobRequest:
    """A wish that the handler of `type` be run with `payload`.

    A request as a caller writes it may leave out everything but `type`, and give times as spans
    from now; `JobManager.request` returns the request as it was stored: with id, absolute times
    and `requested_at`.
    """

    #: Key of the handler; blanks around it do not count (S1).
    type: str
    #: Any JSON value (S2).
    payload: JsonInput = None
    #: UUIDv7 text, given by the manager; "" before that.
    id: str = ""
    #: The caller's own reference; kessel only carries it.
    ref: str | None = None
    #: 0 (most urgent) to 4294967295; values outside are brought to the nearest (S3).
    priority: int = DEFAULT_PRIORITY
    #: Not started before (S4): an aware datetime, or a span from the moment of the request.
    delay: datetime | timedelta | None = None
    #: Not started at or after (S5): an aware datetime, or a span from the moment of the request.
    expiration: datetime | timedelta | None = None
    #: Whom to tell the result: `scheme:target` for a registered callback, or, where the job runs
    #: in this process, a function of the result (S15).
    callback: str | Callable[[JobResult], object] | None = None
    #: Name of the queue.
    queue: str = DEFAULT_QUEUE
    #: Texts for middleware, such as trace ids.
    headers: Mapping[str, str] = NO_HEADERS
    #: When the manager took the request; aware.
    requested_at: datetime | None = None
    #: Top-level keys of a stored body that kessel does not know, kept as they are.
    extra: Mapping[str, JsonValue] = attrs.field(factory=dict)

    @property
    def not_before(self) -> datetime | None:
        """`delay` of a prepared request, which is always absolute."""
        return self.delay if isinstance(self.delay, datetime) else None

    @property
    def not_after(self) -> datetime | None:
        """`expiration` of a prepared request, which is always absolute."""
        return self.expiration if isinstance(self.expiration, datetime) else None


@attrs.frozen(kw_only=True)
class JobResult:
    """How an attempt at a job ended."""

    #: The job's id; "" if its body could not be read.
    id: str
    #: The request; None if its body could not be read.
    request: JobRequest | None
    #: How the attempt ended.
    status: Status
    #: What the handler returned; a JSON value.
    value: JsonValue = None
    #: For people: what went wrong.
    message: str = ""
    #: For machines: why it did not succeed; None for a success.
    reason: Reason | None = None
    #: Which delivery this was, from 1 (S10).
    attempt: int = 1
    #: When the handler was started; aware; None if it never was.
    started_at: datetime | None = None
    #: When the handler ended, or else when the job's end was decided; aware.
    finished_at: datetime | None = None

    @property
    def ok(self) -> bool:
        """Whether the job succeeded."""
        return self.status is Status.SUCCESS


def _time_problem(value: object) -> str | None:
    if value is None or isinstance(value, timedelta):
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None or value.utcoffset() is None:
            return "is a naive datetime: give it a time zone, for example datetime.now(UTC)"
        return None
    return f"expected an aware datetime or a timedelta, got {type(value).__name__}"


def request_problems(request: JobRequest) -> list[Problem]:
    """Return every mistake in a request that can be seen without a clock (S1-S3), with its path."""
    found: list[Problem] = []

    def note(path: str, message: str | None) -> None:
        if message is not None:
            found.append(Problem(path, message))

    # Each check first asks the cheapest question that an ordinary request answers with "fine".
    if type(request.type) is not str or not request.type.isascii():
        note("$.type", _text_problem(request.type))
    if isinstance(request.type, str) and not request.type.strip():
        note("$.type", "must not be blank")
    if not _is_plain(request.payload, 0):
        found.extend(_walk(request.payload, "$.payload", 0, set()))
    if type(request.priority) is not int:
        note("$.priority", _priority_problem(request.priority))
    if request.queue != DEFAULT_QUEUE:
        note("$.queue", queue_name_problem(request.queue))
    if request.ref is not None:
        note("$.ref", _text_problem(request.ref))
    if request.id != "":
        note("$.id", _id_problem(request.id))
    if request.delay is not None:
        note("$.delay", _time_problem(request.delay))
    if request.expiration is not None:
        note("$.expiration", _time_problem(request.expiration))
    if request.requested_at is not None:
        note("$.requested_at", _time_problem(request.requested_at))
    if request.callback is not None and not callable(request.callback):
        note("$.callback", _callback_problem(request.callback))
    if request.headers is not NO_HEADERS:
        found.extend(_header_problems(request.headers))
    if request.extra:
        found.extend(_walk(dict(request.extra), "$", 0, set()))
        found.extend(
            Problem(f"$.{key}", "is a key of the model, it cannot be extra")
            for key in request.extra
            if key in _KEYS
        )
    return found


def _priority_problem(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return f"expected a whole number, got {_shown(value)}"
    return None


def _id_problem(value: object) -> str | None:
    problem = _text_problem(value)
    if problem is None and len(str(value)) > 200:
        return "must be at most 200 characters"
    return problem


def _callback_problem(value: object) -> str | None:
    problem = _text_problem(value)
    if problem is None and not str(value).partition(":")[0].strip():
        return "expected `scheme:target`, or a function"
    return problem


def _header_problems(headers: object) -> Iterator[Problem]:
    if not isinstance(headers, Mapping):
        yield Problem("$.headers", f"expected a mapping of texts, got {type(headers).__name__}")
        return
    for key, value in headers.items():
        for what, text in (("key", key), ("value", value)):
            problem = _text_problem(text)
            if problem is not None:
                yield Problem("$.headers" if what == "key" else f"$.headers.{key}", f"{what}: {problem}")


def clamped(priority: int) -> int:
    """Bring a priority number into its range (S3)."""
    if 0 <= priority <= LOWEST_PRIORITY:
        return priority
    return 0 if priority < 0 else LOWEST_PRIORITY


def prepared(request: JobRequest, clock: Clock) -> JobRequest:
    """Return the request as it will be stored: checked, with id and absolute times.

    The type is trimmed (S1), the priority brought into range (S3), spans counted from now. A request
    that is all that already comes back itself.

    Raises:
        InvalidRequest: With every mistake at once (S1, S2, S5).
    """
    found = request_problems(request)
    now = clock.now()
    delay, expiration = request.delay, request.expiration
    if delay is not None or expiration is not None:
        delay = _absolute(delay, now, "$.delay", found)
        expiration = _absolute(expiration, now, "$.expiration", found)
        if expiration is not None and not any(p.path in ("$.delay", "$.expiration") for p in found):
            if expiration <= now:
                found.append(Problem("$.expiration", "is already past"))
            elif delay is not None and expiration <= delay:
                found.append(Problem("$.expiration", "must be after the delay"))
    if found:
        raise InvalidRequest(found)
    kind, priority = request.type.strip(), clamped(request.priority)
    if (
        kind == request.type
        and priority == request.priority
        and request.id
        and request.requested_at is not None
        and delay is request.delay
        and expiration is request.expiration
    ):
        return request
    return JobRequest(
        type=kind,
        payload=request.payload,
        id=request.id or new_id(now),
        ref=request.ref,
        priority=priority,
        delay=delay,
        expiration=expiration,
        callback=request.callback,
        queue=request.queue,
        headers=request.headers,
        requested_at=request.requested_at or now,
        extra=request.extra,
    )


def _absolute(value: Any, now: datetime, path: str, found: list[Problem]) -> datetime | None:
    if _time_problem(value) is not None:
        return None  # already reported
    if isinstance(value, timedelta):
        if value < timedelta(0):
            found.append(Problem(path, "must not be negative"))
            return None
        try:
            return now + value
        except OverflowError:
            found.append(Problem(path, "lies beyond the year 9999"))
            return None
    if value is None:
        return None
    try:
        return value.astimezone(UTC)  # type: ignore[no-any-return]  # a datetime, see _time_problem
    except OverflowError:
        found.append(Problem(path, "lies beyond what UTC can express"))
        return None


_KEYS: Final = frozenset(field.name for field in attrs.fields(JobRequest)) - {"extra"} | {"v"}

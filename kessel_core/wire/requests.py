"""The wire: a request as one flat JSON object in UTF-8, and back.

The one place that knows the keys. A body without `v` and with any key absent but `type` is valid:
that is what other languages write. Unknown keys are kept. Nothing is ever imported or
constructed by a name found in a body.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kessel_core.errors import DecodeError, InvalidRequest, Problem
from kessel_core.model.job import (
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    NO_HEADERS,
    JobRequest,
    clamped,
    request_problems,
)
from kessel_core.values.strict_json import read_json

__all__ = ["WIRE_VERSION", "decode", "encode"]


WIRE_VERSION: Final = 1


_dump = json.JSONEncoder(
    ensure_ascii=False,
    allow_nan=False,
    separators=(",", ":"),
    check_circular=False,  # `request_problems` has looked
).encode


def encode(request: JobRequest) -> bytes:
    """Write a prepared request (see `jobs.prepared`) as its body.

    `priority` comes before `payload`, so that a reader who only looks for it finds the right one.
    A callback that is a function stays in its process and is not written.

    Raises:
        InvalidRequest: A time is still a span, or the request was never checked and does not fit.
    """
    try:
        return _written(request).encode()
    except (ValueError, TypeError, RecursionError) as exc:
        raise InvalidRequest(request_problems(request) or [Problem("$", str(exc))]) from exc


def _written(request: JobRequest) -> str:
    # Key by key, as the encoder of the standard library is slow to start and quick only for
    # single texts: most of a small body's time would be its start.
    text = (
        f'{{"v":{WIRE_VERSION},"id":{_dump(request.id)},"type":{_dump(request.type)},'
        f'"priority":{request.priority:d}'
    )
    if request.delay is not None:
        text += f',"delay":"{_iso(request.delay, "delay")}"'
    if request.expiration is not None:
        text += f',"expiration":"{_iso(request.expiration, "expiration")}"'
    if request.requested_at is not None:
        text += f',"requested_at":"{_iso(request.requested_at, "requested_at")}"'
    if request.ref is not None:
        text += f',"ref":{_dump(request.ref)}'
    if isinstance(request.callback, str):
        text += f',"callback":{_dump(request.callback)}'
    if request.queue != DEFAULT_QUEUE:
        text += f',"queue":{_dump(request.queue)}'
    if request.headers:
        text += f',"headers":{_dump(dict(request.headers))}'
    text += ',"payload":null' if request.payload is None else f',"payload":{_dump(request.payload)}'
    if request.extra:
        text += f",{_dump(dict(request.extra))[1:-1]}"
    return text + "}"


def _iso(time: datetime | timedelta, key: str) -> str:
    if isinstance(time, timedelta):
        raise InvalidRequest([Problem(f"$.{key}", "is a span; prepare the request first")])
    text = time.isoformat() if time.tzinfo is UTC else time.astimezone(UTC).isoformat()
    return text[:-6] + "Z"  # isoformat in UTC always ends in +00:00


# An escaped half of a surrogate pair; only then must the texts be looked at one by one.
_MAYBE_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def decode(body: bytes) -> JobRequest:
    """Read a body; the inverse of `encode`.

    Raises:
        DecodeError: The body is not a request; it holds the bytes and every problem with its path.
    """
    try:
        text = body.decode()
        fields = read_json(text)
    except UnicodeDecodeError as exc:
        raise DecodeError(body, [Problem("$", f"not UTF-8 at byte {exc.start}")]) from exc
    except RecursionError as exc:
        raise DecodeError(body, [Problem("$", "nested too deeply")]) from exc
    except ValueError as exc:
        raise DecodeError(body, [Problem("$", f"not JSON: {exc}" if body else "empty body")]) from exc
    if type(fields) is not dict:
        raise DecodeError(body, [Problem("$", f"expected an object, got {type(fields).__name__}")])
    return _request(body, text, fields)


def _request(body: bytes, text: str, fields: dict[str, Any]) -> JobRequest:
    problems: list[Problem] = []
    take = fields.pop
    version = take("v", WIRE_VERSION)
    if version is not WIRE_VERSION and (type(version) is not int or version != WIRE_VERSION):
        problems.append(
            Problem(
                "$.v", f"expected {WIRE_VERSION}, got {version!r:.40}; a newer kessel may have written it"
            )
        )
    kind = take("type", None)
    if type(kind) is not str or not kind.strip():
        problems.append(
            Problem("$.type", "is missing" if kind is None else "expected text that is not blank")
        )
        kind = "?"
    priority = take("priority", DEFAULT_PRIORITY)
    if priority is None:
        priority = DEFAULT_PRIORITY
    elif type(priority) is not int:
        problems.append(Problem("$.priority", f"expected a whole number, got {priority!r:.40}"))
        priority = DEFAULT_PRIORITY
    # Each is looked at only where it is there: most bodies have few of them.
    if (delay := take("delay", None)) is not None:
        delay = _time(delay, "delay", problems)
    if (expiration := take("expiration", None)) is not None:
        expiration = _time(expiration, "expiration", problems)
    if (requested_at := take("requested_at", None)) is not None:
        requested_at = _time(requested_at, "requested_at", problems)
    if type(job_id := take("id", None)) is not str:
        job_id = _text(job_id, "id", problems) or ""
    if (ref := take("ref", None)) is not None:
        ref = _text(ref, "ref", problems)
    if (callback := take("callback", None)) is not None:
        callback = _text(callback, "callback", problems)
    if (queue := take("queue", None)) is not None:
        queue = _text(queue, "queue", problems)
    headers = take("headers", None)
    payload = take("payload", None)
    request = JobRequest(
        type=kind.strip(),
        payload=payload,
        id=job_id,
        ref=ref,
        priority=clamped(priority),
        delay=delay,
        expiration=expiration,
        callback=callback,
        queue=queue or DEFAULT_QUEUE,
        headers=headers if headers is not None else NO_HEADERS,
        requested_at=requested_at,
        extra=fields,
    )
    # The reader has already refused what is not JSON; only what it lets through is looked at.
    if (
        headers is not None
        or fields
        or queue
        or callback is not None
        or len(job_id) > 200
        or _MAYBE_SURROGATE.search(text) is not None
        or text.count("[") + text.count("{") > 50
    ):
        problems.extend(p for p in request_problems(request) if p.path not in {q.path for q in problems})
    if problems:
        raise DecodeError(body, problems)
    return request


def _time(value: object, key: str, problems: list[Problem]) -> datetime | None:
    try:
        if not isinstance(value, str):
            raise ValueError
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            raise ValueError
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        problems.append(Problem(f"$.{key}", f"expected an ISO-8601 time with a zone, got {value!r:.60}"))
        return None


def _text(value: object, key: str, problems: list[Problem]) -> str | None:
    if value is None or type(value) is str:
        return value
    problems.append(Problem(f"$.{key}", f"expected text, got {value!r:.40}"))
    return None

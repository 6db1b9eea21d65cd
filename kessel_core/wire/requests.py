"""The wire: a job as one flat JSON object in UTF-8, and back.

The one place that knows the keys. Only `type` is required, so that other languages can write a body
easily. Unknown keys are kept. Nothing is ever imported or constructed by a name found in a body.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from json.encoder import c_make_encoder, encode_basestring  # type: ignore[attr-defined]  # not in the stubs
from typing import Any, Final

from kessel_core.errors import DecodeError, InvalidRequest, Problem
from kessel_core.model.checks import clamped, job_problems
from kessel_core.model.job import DEFAULT_QUEUE, LOWEST_PRIORITY, Job
from kessel_core.model.json import MAX_DEPTH
from kessel_core.values.strict_json import read_json

__all__ = ["WIRE_VERSION", "decode", "dump", "encode", "iso"]

WIRE_VERSION: Final = 1

_encoder: Final = json.JSONEncoder(
    ensure_ascii=False,
    allow_nan=False,
    separators=(",", ":"),
    check_circular=False,  # the checks of the model have done that
)


def _dumper() -> Callable[[Any], str]:
    """Return a function that does what `_encoder.encode` does, which builds its C encoder anew each time."""
    if c_make_encoder is None:  # not CPython
        return _encoder.encode
    write = c_make_encoder(None, _encoder.default, encode_basestring, None, ":", ",", False, False, False)
    return lambda value: "".join(write(value, 0))


#: Encodes a JSON value as text.
dump: Final = _dumper()


def encode(job: Job) -> bytes:
    """Encode a job (see `model.checks.make_job`) as its body.

    Raises:
        InvalidRequest: The job was built by hand without checks, and is not valid.
    """
    try:
        return _written(job).encode()
    except (ValueError, TypeError, RecursionError) as exc:
        raise InvalidRequest(job_problems(job) or [Problem(("$",), str(exc))]) from exc


def _written(job: Job) -> str:
    # Key by key, because the encoder of the standard library is slow to start: for a small body that
    # would be most of the time.
    quoted = encode_basestring
    text = f'{{"v":{WIRE_VERSION},"id":{quoted(job.id)},"type":{quoted(job.type)},"priority":{job.priority:d}'
    if job.not_before is not None:
        text += f',"delay":"{iso(job.not_before)}"'
    if job.expires_at is not None:
        text += f',"expiration":"{iso(job.expires_at)}"'
    if job.requested_at is not None:
        text += f',"requested_at":"{iso(job.requested_at)}"'
    if job.ref is not None:
        text += f',"ref":{quoted(job.ref)}'
    if job.callback is not None:
        text += f',"callback":{quoted(job.callback)}'
    if job.queue != DEFAULT_QUEUE:
        text += f',"queue":{quoted(job.queue)}'
    if job.headers:
        text += f',"headers":{dump(job.headers)}'
    text += ',"payload":null' if job.payload is None else f',"payload":{dump(job.payload)}'
    if job.extra:
        text += f",{dump(job.extra)[1:-1]}"
    return text + "}"


#: What `iso` puts together, because formatting numbers is most of what `datetime.isoformat` does.
_TWO_DIGITS: Final = tuple(f"{number:02}" for number in range(100))
_THREE_DIGITS: Final = tuple(f"{number:03}" for number in range(1000))


def iso(time: datetime) -> str:
    """Format an aware time as ISO 8601 in UTC, with a Z: what `isoformat` returns, in a third of its time."""
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    two, year, part = _TWO_DIGITS, time.year, time.microsecond
    fraction = f".{_THREE_DIGITS[part // 1000]}{_THREE_DIGITS[part % 1000]}" if part else ""
    return (
        f"{two[year // 100]}{two[year % 100]}-{two[time.month]}-{two[time.day]}"
        f"T{two[time.hour]}:{two[time.minute]}:{two[time.second]}{fraction}Z"
    )


# --- reading -----------------------------------------------------------------------------------

# An escaped surrogate; only then do the strings have to be checked one by one.
_MAYBE_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")
#: A text of so many characters cannot nest too deeply: each level takes two brackets.
_SHORT: Final = 2 * MAX_DEPTH
#: An id up to this length needs no check.
_LONGEST_PLAIN_ID: Final = 200


def decode(body: bytes) -> Job:
    """Decode a body; the inverse of `encode`.

    Raises:
        DecodeError: The body is not a request; the error holds the bytes and every problem with its path.
    """
    try:
        text = body.decode()
        fields = read_json(text)
    except UnicodeDecodeError as exc:
        raise DecodeError(body, [Problem(("$",), f"not UTF-8 at byte {exc.start}")]) from exc
    except RecursionError as exc:
        raise DecodeError(body, [Problem(("$",), "nested too deeply")]) from exc
    except ValueError as exc:
        raise DecodeError(body, [Problem(("$",), f"not JSON: {exc}" if body else "empty body")]) from exc
    if type(fields) is not dict:
        raise DecodeError(body, [Problem(("$",), f"expected an object, got {type(fields).__name__}")])
    return _job(body, text, fields)


class _WrongValue(Exception):
    """A value that its key cannot have; the message says what was expected."""


def _type(value: object) -> str:
    if type(value) is not str or not (trimmed := value.strip()):
        raise _WrongValue("expected text that is not blank")
    return trimmed


def _text(value: object) -> str:
    if type(value) is not str:
        raise _WrongValue(f"expected text, got {value!r:.40}")
    return value


def _queue(value: object) -> str:
    return _text(value) or DEFAULT_QUEUE


def _priority(value: object) -> int:
    if type(value) is not int:
        raise _WrongValue(f"expected a whole number, got {value!r:.40}")
    return value if 0 <= value <= LOWEST_PRIORITY else clamped(value)


def _time(value: object) -> datetime:
    try:
        time = datetime.fromisoformat(value)  # type: ignore[arg-type]  # the TypeError is handled below
        if time.tzinfo is UTC:
            return time
        if time.tzinfo is None:
            raise ValueError
        return time.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise _WrongValue(f"expected an ISO-8601 time with a zone, got {value!r:.60}") from None


#: Key -> field of `Job`, a type whose values are taken as they are, and the function that reads others; None:
#: any value, or left to the checks of the model. A null counts as an absent key.
_KEYS: Final[dict[str, tuple[str, type | None, Callable[[Any], Any] | None]]] = {
    "id": ("id", str, _text),
    "type": ("type", None, _type),
    "priority": ("priority", None, _priority),
    "delay": ("not_before", None, _time),
    "expiration": ("expires_at", None, _time),
    "requested_at": ("requested_at", None, _time),
    "ref": ("ref", str, _text),
    "callback": ("callback", str, _text),
    "queue": ("queue", None, _queue),
    "headers": ("headers", None, None),
    "payload": ("payload", None, None),
}


def _job(body: bytes, text: str, fields: dict[str, Any]) -> Job:
    values: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    problems: list[Problem] = []
    version = fields.pop("v", WIRE_VERSION)
    if version != WIRE_VERSION or type(version) is not int:
        message = f"expected {WIRE_VERSION}, got {version!r:.40}; a newer kessel may have written it"
        problems.append(Problem(("$", "v"), message))
    for key, value in fields.items():
        known = _KEYS.get(key)
        if known is None:
            extra[key] = value
        elif value is not None:
            name, plain, read = known
            try:
                values[name] = value if read is None or type(value) is plain else read(value)
            except _WrongValue as exc:
                problems.append(Problem(("$", key), str(exc)))
    if "type" not in values:
        if fields.get("type") is None:
            problems.append(Problem(("$", "type"), "is missing"))
        values["type"] = "?"
    if extra:
        values["extra"] = extra
    job = Job(**values)
    if problems or extra or _needs_checks(job, values, text):
        problems += job_problems(job)  # of other places: what its key cannot have is not in the job
        if problems:
            raise DecodeError(body, problems)
    return job


def _needs_checks(job: Job, values: dict[str, Any], text: str) -> bool:
    """Whether the checks of the model must run; that it is valid JSON is already known."""
    return (
        "headers" in values
        or "queue" in values
        or "callback" in values
        or len(job.id) > _LONGEST_PLAIN_ID
        or (len(text) > _SHORT and text.count("[") + text.count("{") > MAX_DEPTH)
        # One character is found six times as fast as two.
        or ("\\" in text and _MAYBE_SURROGATE.search(text) is not None)
    )

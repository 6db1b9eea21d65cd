"""What a callback that is text stands for: a job of another type, which is told the outcome (S22).

`job:TYPE` is answered by a job of that type; `SCHEME:target` by one of the type `kessel.SCHEME`, whose
handler comes from the plugin that offers the scheme; an `http` or `https` URL is a target of `kessel.http`.
"""

from __future__ import annotations

from typing import Final

import attrs

from kessel_core.model.names import queue_name_problem

__all__ = [
    "RESERVED",
    "CallbackTarget",
    "callback_problem",
    "function_callback",
    "is_function",
    "parsed_callback",
]

#: Types that begin so belong to kessel: jobs of them are callbacks, and have none themselves.
RESERVED: Final = "kessel."
_JOB: Final = "job"
#: What a function is in its stored job: nothing that another process could call (S15).
_FUNCTION: Final = "function:"
_URLS: Final = ("http://", "https://")
_KEYS: Final = ("queue", "priority")


@attrs.frozen
class CallbackTarget:
    """The job that a callback stands for."""

    #: Its type.
    type: str
    #: What its handler gets beside the outcome; None: the payload is the outcome alone.
    target: str | None = None
    #: Its queue; None: as configured.
    queue: str | None = None
    #: Its priority; None: as declared for its type.
    priority: int | None = None


def parsed_callback(text: str) -> CallbackTarget:
    """Read a callback.

    Raises:
        ValueError: It is not one; says what is wrong with it.
    """
    if is_function(text):
        raise ValueError("`function:` stands for a function that was given; give the function itself")
    if text.lower().startswith(_URLS):
        return CallbackTarget(f"{RESERVED}http", text)
    if text.lower().startswith("https:"):
        raise ValueError("a URL begins with https://")
    scheme, colon, target = text.partition(":")
    if not colon or scheme.split() != [scheme]:  # also where a blank is in it
        raise ValueError("expected `scheme:target`, or a function")
    if scheme != _JOB:
        return CallbackTarget(f"{RESERVED}{scheme}", target)
    kind, asks, settings = target.partition("?")
    if not kind.strip():
        raise ValueError("expected `job:TYPE`")
    if kind.strip().startswith(RESERVED):
        raise ValueError(f"types that begin with {RESERVED!r} are kept for kessel")
    values = {"queue": None, "priority": None} | (_read(settings) if asks else {})
    return CallbackTarget(kind.strip(), None, **values)  # type: ignore[arg-type]  # `_read` checks them


def _read(settings: str) -> dict[str, str | int]:
    values: dict[str, str | int] = {}
    for pair in settings.split("&"):
        key, _, value = pair.partition("=")
        if key not in _KEYS:
            raise ValueError(f"unknown key {key[:40]!r}; known: {', '.join(_KEYS)}")
        if key in values:
            raise ValueError(f"{key} is given twice")
        if key == "queue" and (problem := queue_name_problem(value)) is not None:
            raise ValueError(f"queue: {problem}")
        if key == "priority" and not (value.isascii() and value.isdigit()):
            raise ValueError(f"priority: expected a whole number, got {value[:40]!r}")
        values[key] = int(value) if key == "priority" else value
    return values


def callback_problem(text: str, job_type: object) -> str | None:
    """Return what is wrong with the callback of a job of that type, or None."""
    if isinstance(job_type, str) and job_type.startswith(RESERVED):
        return f"a job of a type that begins with {RESERVED!r} is a callback itself, and can have none"
    try:
        parsed_callback(text)
    except ValueError as exc:
        return str(exc)
    return None


def function_callback(token: str) -> str:
    """Return the callback of a stored job for which a function waits under this token."""
    return _FUNCTION + token


def is_function(callback: str) -> bool:
    """Whether a function waits for the job, in the process that requested it."""
    return callback.startswith(_FUNCTION)

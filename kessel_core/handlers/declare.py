"""`@handler`: how a handler says what it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from kessel_core.errors import InvalidConfig, Problem

__all__ = ["Marks", "handler"]


_MARK: Final = "__kessel_handler__"


_T = TypeVar("_T")


# Classes below have a field `type`, behind which the builtin cannot be seen.
_Errors: TypeAlias = tuple[type[BaseException], ...]


@attrs.frozen
class Marks:
    """What `@handler` wrote on a function, a class or an object."""

    type: str
    transient: _Errors = ()
    max_attempts: int | None = None
    timeout: timedelta | None = None


def handler(
    type: str,  # noqa: A002  # the word of the model, and of every example
    *,
    transient: tuple[type[BaseException], ...] | type[BaseException] = (),
    max_attempts: int | None = None,
    timeout: timedelta | None = None,
) -> Callable[[_T], _T]:
    """Mark a function, or a class with a method `handle`, as the handler of a job type.

    Args:
        type: The job type; blanks around it do not count (S1).
        transient: Exceptions that a retry can help; beside `Transient`, `ConnectionError`
            and `TimeoutError`, which always are.
        max_attempts: Most deliveries of one job, at least 1 (S10); None: as configured.
        timeout: Longest run. An async handler is cancelled then (`timed-out`, a transient
            failure). A plain function cannot be stopped: its lease is not extended any longer, so that
            another worker gets the job.

    Returns:
        A decorator that gives back what it decorates.

    Raises:
        InvalidConfig: With every mistake in the arguments.

    Example:
        >>> @handler("greeting")
        ... def greet(payload: str) -> str:
        ...     return f"Hello {payload}"
    """
    errors: tuple[Any, ...] = transient if isinstance(transient, tuple) else (transient,)
    problems = []
    if not isinstance(type, str) or not type.strip():
        problems.append(Problem(("type",), "must be text that is not blank"))
    for error in errors:
        if not (inspect.isclass(error) and issubclass(error, BaseException)):
            problems.append(Problem(("transient",), f"expected exception classes, got {error!r}"))
    if max_attempts is not None and (
        isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1
    ):
        problems.append(
            Problem(("max_attempts",), f"expected a whole number of at least 1, got {max_attempts!r}")
        )
    if timeout is not None and (not isinstance(timeout, timedelta) or timeout <= timedelta(0)):
        problems.append(Problem(("timeout",), f"expected a timedelta of more than zero, got {timeout!r}"))
    if problems:
        raise InvalidConfig(problems, "invalid @handler")
    marks = Marks(type.strip(), errors, max_attempts, timeout)

    def mark(target: _T) -> _T:
        setattr(target, _MARK, marks)
        return target

    return mark


def marks_of(target: object) -> Marks | None:
    """Return what `@handler` wrote on a function, an object or its class, or None."""
    found = getattr(target, _MARK, None)
    return found if isinstance(found, Marks) else None

"""`@handler`: declares a function or a class as the handler of a job type."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from kessel_core.clock import plain_span
from kessel_core.errors import InvalidConfig, Problem
from kessel_core.model.names import queue_name_problem
from kessel_core.model.routes import NO_ROUTE, Route

__all__ = ["HandlerOptions", "handler", "options_of"]

_ATTRIBUTE: Final = "__kessel_handler__"


_T = TypeVar("_T")


# Named here, because the field `type` of the class below hides the builtin.
_Errors: TypeAlias = tuple[type[BaseException], ...]


@attrs.frozen
class HandlerOptions:
    """The arguments of `@handler`, as it stores them on its target."""

    #: The job type, stripped.
    type: str
    #: Exceptions that count as transient failures.
    transient: _Errors = ()
    #: Most deliveries of one job, at least 1; None: as configured.
    max_attempts: int | None = None
    #: Longest run, more than zero; None: no limit.
    timeout: timedelta | None = None
    #: Where its jobs go unless their request says otherwise.
    route: Route = NO_ROUTE
    #: How long the outcomes of its jobs are kept, more than zero; None: as configured.
    keep: timedelta | None = None


def handler(
    type: str,  # noqa: A002  # the word of the model, and of every example
    *,
    transient: tuple[type[BaseException], ...] | type[BaseException] = (),
    max_attempts: int | None = None,
    timeout: timedelta | None = None,
    queue: str | None = None,
    priority: int | None = None,
    keep: timedelta | None = None,
) -> Callable[[_T], _T]:
    """Mark a function, or a class with a method `handle`, as the handler of a job type.

    Args:
        type: The job type; surrounding whitespace is stripped (S1).
        transient: Exceptions that a retry may cure, in addition to `Transient`, `ConnectionError`
            and `TimeoutError`, which always count as transient.
        max_attempts: Most deliveries of one job, at least 1 (S10); None: as configured.
        timeout: Longest run, more than zero. An async handler is then cancelled (`timed-out`, a transient
            failure). A plain function cannot be stopped, nor can an async one that blocks or swallows its
            cancellation; its lease is no longer extended, so that another worker gets the job.
        queue: Queue of its jobs where their request names none; None: as in `[kessel.routes]`, else
            `default`. A worker has to serve it.
        priority: Priority of its jobs where their request gives none, clamped (S3); None: as in
            `[kessel.routes]`, else 65536.
        keep: How long the outcomes of its jobs are kept in the store, more than zero (S25); None: as in
            `[kessel.results]`.

    Returns:
        A decorator that returns its target.

    Raises:
        InvalidConfig: With every mistake in the arguments; from the decorator, that its target can have no
            mark or has that of another type already.

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
    if keep is not None and (not isinstance(keep, timedelta) or keep <= timedelta(0)):
        problems.append(Problem(("keep",), f"expected a timedelta of more than zero, got {keep!r}"))
    if queue is not None and (text := queue_name_problem(queue)) is not None:
        problems.append(Problem(("queue",), text))
    if priority is not None and (isinstance(priority, bool) or not isinstance(priority, int)):
        problems.append(Problem(("priority",), f"expected a whole number, got {priority!r}"))
    if problems:
        raise InvalidConfig(problems, "invalid @handler")
    span = None if timeout is None else plain_span(timeout)
    route = Route(queue=queue, priority=priority)
    kept = None if keep is None else plain_span(keep)
    options = HandlerOptions(type.strip(), errors, max_attempts, span, route, kept)

    def decorate(target: _T) -> _T:
        _mark(target, options)
        return target

    return decorate


def _mark(target: object, options: HandlerOptions) -> None:
    """Store options on a target of `@handler`."""
    if isinstance(target, (staticmethod, classmethod)):
        target = target.__func__  # which is what its class shows
    # Its own: a class may derive from another handler.
    found = getattr(target, "__dict__", {}).get(_ATTRIBUTE)
    is_copied = found is options_of(getattr(target, "__wrapped__", None))  # by `functools.wraps`
    if found is not None and not is_copied and found.type != options.type:
        raise _unmarked(options, f"{target!r:.60} is the handler of {found.type!r} already")
    try:
        setattr(target, _ATTRIBUTE, options)
    except (AttributeError, TypeError):
        raise _unmarked(options, f"{target!r:.60} cannot be marked") from None


def _unmarked(options: HandlerOptions, why: str) -> InvalidConfig:
    text = f"{options.type!r}: {why}; map the type instead, as handlers={{{options.type!r}: ...}}"
    return InvalidConfig([Problem(("type",), text)], "invalid @handler")


def options_of(target: object) -> HandlerOptions | None:
    """Return the options that `@handler` stored on a function, an object or its class, or None."""
    try:
        found = getattr(target, _ATTRIBUTE, None)
    except Exception:  # a proxy of what is not there now, such as `flask.current_app`, is none of ours
        return None
    return found if isinstance(found, HandlerOptions) else None

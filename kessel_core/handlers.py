"""Handlers: what runs a job, how one is declared, and the registry that finds it by type.

A type is a key of the registry and nothing else: no import path ever comes from a queue.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from kessel_core.clock import Clock
from kessel_core.errors import InvalidConfig, Problem
from kessel_core.jobs import JobRequest, JsonValue

__all__ = ["Handler", "HandlerRegistry", "JobContext", "Marks", "handler"]

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
        problems.append(Problem("type", "must be text that is not blank"))
    for error in errors:
        if not (inspect.isclass(error) and issubclass(error, BaseException)):
            problems.append(Problem("transient", f"expected exception classes, got {error!r}"))
    if max_attempts is not None and (
        isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1
    ):
        problems.append(
            Problem("max_attempts", f"expected a whole number of at least 1, got {max_attempts!r}")
        )
    if timeout is not None and (not isinstance(timeout, timedelta) or timeout <= timedelta(0)):
        problems.append(Problem("timeout", f"expected a timedelta of more than zero, got {timeout!r}"))
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


class _JobLogger(logging.LoggerAdapter[logging.Logger]):
    """Binds id, type and attempt to every record, beside the caller's own `extra`."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class JobContext:
    """The running job, as handlers and middleware see it. Belongs to one attempt and one thread."""

    __slots__ = (
        "_extend",
        "_logger",
        "attempt",
        "clock",
        "handler",
        "queue",
        "request",
        "retry_after",
        "started_at",
    )

    def __init__(
        self,
        request: JobRequest,
        attempt: int,
        clock: Clock,
        extend: Callable[[], None] | None = None,
        handler: Handler | None = None,
        queue: str | None = None,
    ) -> None:
        #: The request as it was stored.
        self.request = request
        #: Which delivery this is, from 1.
        self.attempt = attempt
        #: The application's clock.
        self.clock = clock
        #: What will run the job.
        self.handler = handler
        #: The queue it came from.
        self.queue = queue or request.queue
        #: When the handler was started; None before.
        self.started_at: datetime | None = None
        #: The pause that `Transient(after=...)` asked for; overrides the retry policy (S11).
        self.retry_after: timedelta | None = None
        self._extend = extend
        self._logger: _JobLogger | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.request.id

    @property
    def type(self) -> str:
        """The job's type."""
        return self.request.type

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers."""
        return self.request.headers

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger (`kessel.handlers.TYPE`) that adds id, type and attempt to every record."""
        if self._logger is None:
            self._logger = _JobLogger(
                logging.getLogger(f"kessel.handlers.{self.type}"),
                {"job_id": self.id, "job_type": self.type, "attempt": self.attempt},
            )
        return self._logger

    def extend(self) -> None:
        """Renew the lease now. The worker does so by itself; long steps in C may want it.

        Raises:
            LeaseLost: The job is not ours any longer; stop working on it.
            AdapterUnavailable: The queue cannot be asked now.
        """
        if self._extend is not None:
            self._extend()


@attrs.frozen(eq=False)
class Handler:
    """A handler as the registry keeps it, ready to be called."""

    type: str
    #: Called with the payload, and with the context if `wants_job`.
    function: Callable[..., Any]
    is_async: bool
    wants_job: bool
    #: Turns the JSON payload into the annotated type; None: as it is. May raise `StructureProblems`.
    structure: Callable[[JsonValue], Any] | None
    transient: _Errors
    max_attempts: int | None
    timeout: timedelta | None
    #: Where it comes from, for errors and listings.
    source: str


class HandlerRegistry:
    """Maps job types to handlers. Filled at start by one thread; reading is safe for all."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def __len__(self) -> int:
        return len(self._handlers)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def get(self, type: str) -> Handler | None:  # noqa: A002  # the word of the model
        """Return the handler of a type, or None."""
        return self._handlers.get(type)

    def types(self) -> tuple[str, ...]:
        """Return the known types, sorted."""
        return tuple(sorted(self._handlers))

    def add(self, type: str | None, target: object, source: str) -> Handler:  # noqa: A002  # the word of the model
        """Register a handler.

        Args:
            type: The job type; None: as `@handler` on the target says.
            target: A function, an object with `handle`, a class with `handle` (called without
                arguments to make one), or the text `"module:attribute"` of one of these.
            source: Where the mapping comes from, named in errors.

        Raises:
            InvalidConfig: The type is blank or mapped already (both sources are named), or the
                target is no handler.
        """
        found = _build(type, target, source)
        known = self._handlers.get(found.type)
        if known is not None:
            raise InvalidConfig(
                [Problem(f"type {found.type!r}", f"is mapped by {known.source} and again by {source}")],
                "doubly mapped job type",
            )
        self._handlers[found.type] = found
        return found

    def add_all(self, items: object, source: str) -> None:
        """Register a mapping type -> target, or an iterable of decorated targets; all problems at once."""
        problems: list[Problem] = []
        pairs: Iterable[tuple[str | None, object]]
        if isinstance(items, Mapping):
            pairs = items.items()
        elif isinstance(items, Iterable) and not isinstance(items, str):
            pairs = [(None, item) for item in items]
        else:
            pairs = [(None, items)]
        for kind, target in pairs:
            try:
                self.add(kind, target, source)
            except InvalidConfig as exc:
                problems.extend(exc.problems)
        if problems:
            raise InvalidConfig(problems, "invalid handlers")


def _build(kind: str | None, target: object, source: str) -> Handler:
    def refused(why: str) -> InvalidConfig:
        return InvalidConfig(
            [Problem(f"handler for {kind!r}" if kind else "handler", f"{why} (from {source})")],
            "invalid handler",
        )

    if isinstance(target, str):
        target = _imported(target, refused)
    marks = marks_of(target)
    if kind is None:
        if marks is None:
            raise refused(f"{target!r:.80} has no type: decorate it with @handler(type), or map a type to it")
        kind = marks.type
    if not isinstance(kind, str) or not kind.strip():
        raise refused("the type must be text that is not blank")
    if inspect.isclass(target):
        made: type[Any] = target
        try:
            target = made()
        except Exception as exc:
            raise refused(f"{made.__name__}() cannot be made: {exc}") from exc
    function = target if inspect.isroutine(target) else getattr(target, "handle", target)
    if not callable(function):
        raise refused(f"{target!r:.80} is neither a function nor an object with a method `handle`")
    call = getattr(function, "__call__", None)  # noqa: B004  # a callable object may be async
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    wants_job, annotation = _signature(function, refused)
    return Handler(
        type=kind.strip(),
        function=function,
        is_async=is_async,
        wants_job=wants_job,
        structure=_structure(annotation, refused),
        transient=marks.transient if marks else (),
        max_attempts=marks.max_attempts if marks else None,
        timeout=marks.timeout if marks else None,
        source=source,
    )


def _imported(path: str, refused: Callable[[str], InvalidConfig]) -> object:
    import importlib  # needed only by configurations that name handlers by text

    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise refused(f"expected 'module:attribute', got {path!r}")
    try:
        found: object = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # SystemExit, too: a script named by mistake must not end the program
        raise refused(f"{path!r} cannot be imported: {type(exc).__name__}: {exc}") from exc
    return found


def _signature(function: Callable[..., Any], refused: Callable[[str], InvalidConfig]) -> tuple[bool, Any]:
    """Return whether the function wants the context, and the annotation of its payload."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False, Any  # a builtin without a signature takes the payload
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    spread = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = [p for p in positional if p.default is p.empty]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if len(needed) > 2 or keywords or not (positional or spread):
        raise refused(f"{getattr(function, '__qualname__', function)} must take (payload) or (payload, job)")
    wants_job = len(needed) >= 2 or (len(positional) >= 2 and positional[1].name == "job")
    if not positional or positional[0].annotation is inspect.Parameter.empty:
        return wants_job, Any
    annotation = positional[0].annotation
    if isinstance(annotation, str):
        annotation = _resolved(function, positional[0].name, refused)
    return wants_job, annotation


def _resolved(function: Callable[..., Any], name: str, refused: Callable[[str], InvalidConfig]) -> Any:
    import typing

    bare = inspect.unwrap(getattr(function, "__func__", function))
    if not inspect.isroutine(bare):
        bare = type(bare).__call__  # a callable object
    try:
        return typing.get_type_hints(bare, include_extras=True)[name]
    except Exception as exc:
        raise refused(f"the annotation of {name!r} cannot be resolved: {exc}") from exc


def _structure(annotation: Any, refused: Callable[[str], InvalidConfig]) -> Callable[[JsonValue], Any] | None:
    if annotation in (Any, object, inspect.Parameter.empty) or annotation is JsonValue:
        return None
    from kessel_core.structuring import structurer  # cattrs loads only where payloads are structured

    try:
        return structurer(annotation)
    except Exception as exc:
        raise refused(f"payloads cannot be structured into {annotation!r}: {exc}") from exc

"""Handlers as they are called, and the registry that finds them by job type.

A type is a key of the registry and nothing else: no import path ever comes from a queue.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from types import MethodType, SimpleNamespace
from typing import Any, Final

import attrs

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.handlers.declare import _Errors, options_of
from kessel_core.model.callbacks import RESERVED
from kessel_core.model.json import JsonValue
from kessel_core.model.routes import NO_ROUTE, Route
from kessel_core.values.annotations import has_reference
from kessel_core.values.logs import get_logger
from kessel_core.values.payload_types import PayloadType
from kessel_core.values.raised import raised

__all__ = ["Handler", "HandlerRegistry", "is_generator"]

log = get_logger("kessel.handlers")

#: By its name, because its module knows this one.
_CONTEXT: Final = "kessel_core.handlers.context.JobContext"


@attrs.frozen(eq=False)
class Handler:
    """A handler as the registry keeps it, ready to be called."""

    #: The job type.
    type: str
    #: Called with the payload, and with the context if `wants_job`.
    function: Callable[..., Any]
    #: Whether calling it gives a coroutine.
    is_async: bool
    #: Whether it takes the context as its second argument.
    wants_job: bool
    #: Converts the JSON payload to the annotated type; None: no conversion. May raise `StructureProblems`.
    structure: Callable[[JsonValue], Any] | None
    #: Exceptions that count as transient failures.
    transient: _Errors
    #: Most deliveries of one job, at least 1; None: as configured.
    max_attempts: int | None
    #: Longest run, more than zero; None: no limit.
    timeout: timedelta | None
    #: Where it was registered from, for errors and listings.
    source: str
    #: Where its jobs go unless their request says otherwise.
    route: Route = NO_ROUTE
    #: How long the outcomes of its jobs are kept; None: as configured.
    keep: timedelta | None = None
    #: What was registered: the function, the object or the class itself.
    target: object = attrs.field(default=None, repr=False)


class HandlerRegistry:
    """Maps job types to handlers. One thread fills it at start; reading is thread-safe."""

    def __init__(self, payload_types: tuple[PayloadType, ...] = ()) -> None:
        self._handlers: dict[str, Handler] = {}
        #: What plugins offer to read payloads with.
        self._payload_types = payload_types

    def __len__(self) -> int:
        return len(self._handlers)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def get(self, type: str) -> Handler | None:  # noqa: A002  # the word of the model
        """Return the handler of a type, or None."""
        return self._handlers.get(type)

    def type_of(self, target: object) -> str | None:
        """Return the type that a function, object or class was registered for; None: it was not."""
        return next((one.type for one in self if _is_same(one.target, target)), None)

    def types(self) -> tuple[str, ...]:
        """Return the known types, sorted."""
        return tuple(sorted(self._handlers))

    def own_types(self) -> tuple[str, ...]:
        """Return the known types that producers request, sorted: none that only answers callbacks."""
        return tuple(one for one in self.types() if not one.startswith(RESERVED))

    def add(self, type: str | None, target: object, source: str) -> Handler:  # noqa: A002  # the word of the model
        """Register a handler.

        Args:
            type: The job type; None: the type in the `@handler` of the target.
            target: A function, an object with `handle`, a class with `handle` (called without
                arguments to make one), or the text `"module:attribute"` of one of these.
            source: Where the mapping comes from, named in errors.

        Raises:
            InvalidConfig: The type is blank or already mapped to something else (both sources are named),
                or the target is not a handler.
        """
        found = _build(type, target, source, self._payload_types)
        known = self._handlers.get(found.type)
        if known is not None and _is_same(known.target, found.target):
            return known
        if known is not None:
            text = f"is mapped by {known.source} and again by {source}"
            if known.source == source:
                text += f": {_name_of(known.target)} and {_name_of(found.target)}"
            raise InvalidConfig([Problem(("handlers", found.type), text)], "doubly mapped job type")
        self._handlers[found.type] = found
        return found

    def add_all(self, items: object, source: str) -> None:
        """Register a mapping type -> target, or an iterable of decorated targets.

        Raises:
            InvalidConfig: With the problems of all of them.
        """
        problems: list[Problem] = []
        pairs: Iterable[tuple[str | None, object]]
        if isinstance(items, Mapping):
            pairs = items.items()
        elif isinstance(items, Iterable) and not isinstance(items, str):
            pairs = [(None, item) for item in items]
        else:
            pairs = [(None, items)]
        for job_type, target in pairs:
            try:
                self.add(job_type, target, source)
            except InvalidConfig as exc:
                problems.extend(exc.problems)
        if problems:
            raise InvalidConfig(problems, "invalid handlers")


def _is_same(one: object, other: object) -> bool:
    """Whether both are the same object; bound methods are compared, as each access creates a new one."""
    return one is other or (isinstance(one, MethodType) and isinstance(other, MethodType) and one == other)


def _build(
    job_type: str | None, target: object, source: str, payload_types: tuple[PayloadType, ...]
) -> Handler:
    def refused(why: str) -> InvalidConfig:
        where = ("handlers", job_type) if isinstance(job_type, str) else ("handlers",)
        return InvalidConfig([Problem(where, why, source)], "invalid handler")

    if isinstance(target, str):
        target = _imported(target, refused)
    options = options_of(target)
    if job_type is None:
        if options is None:
            raise refused(f"{target!r:.80} has no type: decorate it with @handler(type), or map a type to it")
        job_type = options.type
    if not isinstance(job_type, str) or not job_type.strip():
        raise refused("the type must be text that is not blank")
    registered = target
    if inspect.isclass(target):
        handler_class: type[Any] = target
        try:
            target = handler_class()
        except (Exception, SystemExit) as exc:
            raise refused(f"{handler_class.__name__}() cannot be made: {raised(exc)}") from exc
    # Whatever is callable is called, because a mock would invent an attribute `handle`.
    function = target if callable(target) else getattr(target, "handle", None)
    if not callable(function):
        raise refused(f"{registered!r:.80} is neither a function nor an object with a method `handle`")
    call = getattr(function, "__call__", None)  # noqa: B004  # a callable object may be async
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
    if is_generator(function):
        raise refused(f"{_name_of(function)} has a `yield`; a handler must return its value")
    wants_job, annotation = _signature(function, refused)
    return Handler(
        type=job_type.strip(),
        function=function,
        is_async=is_async,
        wants_job=wants_job,
        structure=_structure(annotation, payload_types, refused),
        transient=options.transient if options else (),
        max_attempts=options.max_attempts if options else None,
        timeout=options.timeout if options else None,
        route=options.route if options else NO_ROUTE,
        keep=options.keep if options else None,
        source=source,
        target=registered,
    )


def _imported(path: str, refused: Callable[[str], InvalidConfig]) -> object:
    import importlib  # needed only where a configuration names handlers by path

    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute:
        raise refused(f"expected 'module:attribute', got {path!r}")
    try:
        found: object = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as exc:  # a script named by mistake must not end the program
        log.debug("%r cannot be imported", path, exc_info=exc)
        raise refused(f"{path!r} cannot be imported: {raised(exc)}") from exc
    return found


def _signature(function: Callable[..., Any], refused: Callable[[str], InvalidConfig]) -> tuple[bool, Any]:
    """Return whether the function wants the context, and the annotation of its payload."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False, Any  # a builtin without a signature gets the payload alone
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    spread = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = [p for p in positional if p.default is p.empty]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    second = positional[1] if len(positional) >= 2 else None
    wants_job = second is not None and _is_context(second)
    got = f"{_name_of(function)}{_signature_text(parameters)}"
    wrong = f"{got} must take (payload) or (payload, job); the second is named `job`"
    if len(needed) > (2 if wants_job else 1) or keywords or not (positional or spread):
        raise refused(wrong)
    if not positional or positional[0].annotation is inspect.Parameter.empty:
        return wants_job, Any
    annotation = positional[0].annotation
    if has_reference(annotation):
        annotation = _resolved(function, positional[0], refused)
    if f"{getattr(annotation, '__module__', '')}.{getattr(annotation, '__qualname__', '')}" == _CONTEXT:
        raise refused(wrong)
    return wants_job, annotation


def is_generator(function: Callable[..., object]) -> bool:
    """Whether a call of a function, or of an object like one, only makes what somebody else has to run."""
    call = getattr(function, "__call__", None)  # noqa: B004  # of an object it may be the one with a `yield`
    kinds = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_kind(one) for one in (function, call) for is_kind in kinds)


def _is_context(parameter: inspect.Parameter) -> bool:
    """Whether the second parameter is the context: it is named `job`, or its annotation names `JobContext`.

    As itself, as text, or as one that may be None.
    """
    annotation = parameter.annotation
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return parameter.name.lstrip("_") == "job" or re.search(r"\bJobContext\b", text) is not None


def _signature_text(parameters: list[inspect.Parameter]) -> str:
    return f"({', '.join(parameter.name for parameter in parameters)})"


def _name_of(function: object) -> str:
    """Return the name of a function with its module, for messages; many handlers are called `handle`."""
    name = getattr(function, "__qualname__", None)
    module = getattr(function, "__module__", None)
    return repr(function)[:80] if not name else f"{module}.{name}" if module else str(name)


def _resolved(
    function: Callable[..., Any], parameter: inspect.Parameter, refused: Callable[[str], InvalidConfig]
) -> Any:
    import typing

    name, written = parameter.name, _written(function)
    # Only this annotation, because the others may be importable for type checkers only.
    alone = SimpleNamespace(__annotations__={name: parameter.annotation})
    generics = {generic.__name__: generic for generic in getattr(written, "__type_params__", ())}
    try:
        names = getattr(written, "__globals__", {})
        return typing.get_type_hints(alone, names, generics, include_extras=True)[name]
    except NameError as exc:
        why = "import it at run time, not only under TYPE_CHECKING"
        raise refused(f"the annotation of {name!r} cannot be resolved: {exc}; {why}") from exc
    except Exception as exc:
        raise refused(f"the annotation of {name!r} cannot be resolved: {exc}") from exc


def _written(function: Any) -> Any:
    """Return the function as somebody wrote it, where the names of its annotations are known.

    Around it may be methods, `functools.partial`, decorators that say what they wrap, and callable objects.
    """
    if isinstance(function, partial):
        return _written(function.func)
    for inner in ("__func__", "__wrapped__"):
        if (found := getattr(function, inner, None)) is not None:
            return _written(found)
    return function if inspect.isroutine(function) else _written(type(function).__call__)


def _structure(
    annotation: Any, types: tuple[PayloadType, ...], refused: Callable[[str], InvalidConfig]
) -> Callable[[JsonValue], Any] | None:
    if annotation in (Any, object, inspect.Parameter.empty) or annotation is JsonValue:
        return None
    from kessel_core.values.converter import structurer  # cattrs loads only where payloads are structured

    try:
        return structurer(annotation, types)
    except Exception as exc:
        raise refused(f"payloads cannot be structured into {annotation!r}: {exc}") from exc

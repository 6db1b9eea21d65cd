"""What can be configured, with its defaults: frozen classes, validated whole.

`Config()` is a usable configuration. Reading files, environment and arguments is
`kessel_core.configfile`'s matter, so that applications which build a `Config` by hand import
neither click nor typed-settings. Each field carries its own check, and the loader uses the same
ones; a check returns what is wrong, or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

import attrs

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.model.names import queue_name_problem
from kessel_core.model.policies import DefaultError, OnExpired, UnknownType

__all__ = [
    "Config",
    "DEFAULT_ADAPTER",
    "JobsConfig",
    "LOG_LEVELS",
    "LoggingConfig",
    "PluginsConfig",
    "WorkerConfig",
    "problems_of",
]


#: Durable, in one file, and needs no server: what `kessel` uses until told otherwise.
DEFAULT_ADAPTER: Final = "sqlite:///kessel.db"


LOG_LEVELS: Final = ("trace", "debug", "info", "warning", "error")


Check = Callable[[object], str | None]


def _whole(lowest: int, highest: int) -> Check:
    def check(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"expected a whole number, got {value!r:.60}"
        if not lowest <= value <= highest:
            return f"expected a number from {lowest} to {highest}, got {value}"
        return None

    return check


def _duration(lowest: timedelta) -> Check:
    bound = "zero or more" if not lowest else f"{lowest.total_seconds():g} s or more"

    def check(value: object) -> str | None:
        if not isinstance(value, timedelta):
            return f"expected a duration, got {value!r:.60}"
        return None if value >= lowest else f"expected {bound}, got {value.total_seconds():g} s"

    return check


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _text(value: object) -> str | None:
    if not isinstance(value, str):
        return f"expected text, got {type(value).__name__}"
    return None if value.strip() else "must not be blank"


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else f"expected true or false, got {value!r:.60}"


def _one_of(*choices: str) -> Check:
    def check(value: object) -> str | None:
        return None if value in choices else f"expected one of {', '.join(choices)}; got {value!r:.60}"

    return check


def _names(check_one: Check = _text, *, at_least_one: bool = False) -> Check:
    def check(value: object) -> str | None:
        if not isinstance(value, tuple):
            return f"expected a list of names, got {value!r:.60}"
        if at_least_one and not value:
            return "expected at least one name"
        for name in value:
            if (problem := check_one(name)) is not None:
                return problem
        doubles = sorted({name for name in value if value.count(name) > 1})
        return f"{', '.join(map(repr, doubles))} given more than once" if doubles else None

    return check


def _table(value: object) -> str | None:
    if not isinstance(value, Mapping):
        return f"expected a table, got {type(value).__name__}"
    return None if all(isinstance(key, str) for key in value) else "expected names as keys"


def _table_of_tables(value: object) -> str | None:
    if (problem := _table(value)) is not None:
        return problem
    assert isinstance(value, Mapping)
    for key, inner in value.items():
        if (problem := _table(inner)) is not None:
            return f"{key}: {problem}"
    return None


def _handler_table(value: object) -> str | None:
    if (problem := _table(value)) is not None:
        return problem
    assert isinstance(value, Mapping)
    seen: dict[str, str] = {}
    for key, target in value.items():
        if not key.strip():
            return "a job type must not be blank"
        if key.strip() in seen:
            return f"{seen[key.strip()]!r} and {key!r} are the same type, blanks around it do not count"
        seen[key.strip()] = key
        if not isinstance(target, str) or not target.strip():
            return f"{key}: expected 'module:attribute' or the name of a plugin's handler"
    return None


def _by(check: Check) -> dict[str, Check]:
    return {"check": check}


def _copied(given: Any) -> Any:
    # A configuration must not change with the caller's own dict.
    return dict(given) if isinstance(given, Mapping) else given


# Text is taken for the member, so that `is` and `match` work; the check judges the rest.
def _member(choices: type[StrEnum], given: str) -> Any:
    return next((member for member in choices if member == given), given)


def _default_error(given: str) -> Any:
    return _member(DefaultError, given)


def _on_expired(given: str) -> Any:
    return _member(OnExpired, given)


def _unknown_type(given: str) -> Any:
    return _member(UnknownType, given)


@attrs.frozen(kw_only=True)
class WorkerConfig:
    """How jobs are worked on: `[kessel.worker]`."""

    #: Jobs that one process runs at the same time.
    slots: int = attrs.field(default=1, metadata=_by(_whole(1, 10_000)))
    #: Worker processes; more than one run under a supervisor that replaces a dead one.
    processes: int = attrs.field(default=1, metadata=_by(_whole(1, 1_000)))
    #: How long a stopping worker waits for its running jobs before it rolls them back.
    grace: timedelta = attrs.field(default=timedelta(seconds=30), metadata=_by(_duration(timedelta(0))))
    #: How often the lease of a running job is extended; unset: every third of the lease.
    heartbeat: timedelta | None = attrs.field(
        default=None, metadata=_by(_optional(_duration(timedelta(milliseconds=10))))
    )
    #: How long `drain` goes on trying while the queue cannot be used; `worker` never gives up.
    patience: timedelta = attrs.field(default=timedelta(seconds=30), metadata=_by(_duration(timedelta(0))))


@attrs.frozen(kw_only=True)
class JobsConfig:
    """How the fate of a job is decided: `[kessel.jobs]`."""

    #: Deliveries after which a job that still fails is buried; crashes count too.
    max_attempts: int = attrs.field(default=10, metadata=_by(_whole(1, 1_000_000)))
    #: Longest pause before the first retry; it doubles with every further one.
    retry_base: timedelta = attrs.field(
        default=timedelta(seconds=2), metadata=_by(_duration(timedelta(milliseconds=1)))
    )
    #: Longest pause before any retry.
    retry_cap: timedelta = attrs.field(
        default=timedelta(minutes=15), metadata=_by(_duration(timedelta(milliseconds=1)))
    )
    #: What an undeclared exception means: `fatal` (bury) or `transient` (try again).
    default_error: DefaultError = attrs.field(
        converter=_default_error,
        default=DefaultError.FATAL,
        metadata=_by(_one_of(*DefaultError)),
    )
    #: What happens to a job that expired before it started: `commit` or `bury`.
    on_expired: OnExpired = attrs.field(
        converter=_on_expired,
        default=OnExpired.COMMIT,
        metadata=_by(_one_of(*OnExpired)),
    )
    #: What happens to a job that has no handler: `bury`, or `retry` while a new version rolls out.
    unknown_type: UnknownType = attrs.field(
        converter=_unknown_type,
        default=UnknownType.BURY,
        metadata=_by(_one_of(*UnknownType)),
    )


@attrs.frozen(kw_only=True)
class PluginsConfig:
    """Which plugins take part: `[kessel.plugins]`."""

    #: Plugins that are installed but must not be imported.
    disabled: tuple[str, ...] = attrs.field(default=(), metadata=_by(_names()))
    #: Plugins without which the application must not start (exit code 3).
    required: tuple[str, ...] = attrs.field(default=(), metadata=_by(_names()))


@attrs.frozen(kw_only=True)
class LoggingConfig:
    """What the command logs: `[kessel.logging]`."""

    #: Least level that is printed: `trace`, `debug`, `info`, `warning` or `error`.
    level: str = attrs.field(default="info", metadata=_by(_one_of(*LOG_LEVELS)))
    #: One JSON object a line instead of text for people.
    json: bool = attrs.field(default=False, metadata=_by(_boolean))


@attrs.frozen(kw_only=True)
class Config:
    """The whole configuration: `[kessel]`.

    Raises:
        InvalidConfig: Values are wrong; every one is listed.
    """

    #: Where jobs are kept: a URL, or the name of an adapter that needs no URL.
    adapter: str = attrs.field(default=DEFAULT_ADAPTER, metadata=_by(_text))
    #: Further options of the adapter, beside those in its URL.
    adapter_options: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied, metadata=_by(_table))
    #: Queues that a worker serves, and that commands look at.
    queues: tuple[str, ...] = attrs.field(
        default=("default",), metadata=_by(_names(queue_name_problem, at_least_one=True))
    )
    #: Middleware around every job, outermost first.
    middleware: tuple[str, ...] = attrs.field(default=("logging",), metadata=_by(_names()))
    #: Options of single middlewares: one table each, by the middleware's name.
    middleware_options: Mapping[str, Mapping[str, Any]] = attrs.field(
        factory=dict, converter=_copied, metadata=_by(_table_of_tables)
    )
    #: Job type -> `module:attribute`, or the name of a handler that a plugin offers.
    handlers: Mapping[str, str] = attrs.field(factory=dict, converter=_copied, metadata=_by(_handler_table))
    #: How jobs are worked on.
    worker: WorkerConfig = attrs.field(factory=WorkerConfig)
    #: How the fate of a job is decided.
    jobs: JobsConfig = attrs.field(factory=JobsConfig)
    #: Which plugins take part.
    plugins: PluginsConfig = attrs.field(factory=PluginsConfig)
    #: What the command logs.
    logging: LoggingConfig = attrs.field(factory=LoggingConfig)

    def __attrs_post_init__(self) -> None:
        if problems := list(problems_of(self)):
            raise InvalidConfig(problems)


def problems_of(section: attrs.AttrsInstance, above: tuple[str, ...] = ()) -> Iterator[Problem]:
    """Yield everything that is wrong with a section and the sections inside it."""
    for field in attrs.fields(type(section)):
        value = getattr(section, field.name)
        where = (*above, field.name)
        check: Check | None = field.metadata.get("check")
        if check is None:
            yield from problems_of(value, where)
        elif (problem := check(value)) is not None:
            yield Problem(where, problem)
    yield from relations_broken(section, above)


def relations_broken(section: object, above: tuple[str, ...] = ()) -> Iterator[Problem]:
    """Yield what is wrong between options that are each right alone."""
    if isinstance(section, JobsConfig):
        base, cap = section.retry_base, section.retry_cap
        if isinstance(base, timedelta) and isinstance(cap, timedelta) and cap < base:
            yield Problem(
                (*above, "retry_cap"),
                f"must not be below retry_base ({base.total_seconds():g} s), got {cap.total_seconds():g} s",
            )
    elif isinstance(section, PluginsConfig):
        for name in sorted({*section.disabled} & {*section.required}):
            yield Problem((*above, "required"), f"{name!r} is also in plugins.disabled")

"""What can be configured, with its defaults: frozen classes, validated whole.

`Config()` is a usable configuration. Reading files, environment and arguments is the matter of `layers`, so
applications that build a `Config` by hand import nothing for it. What holds for one option is its annotation
and a rule of `rules` in its metadata; what must hold between two stands in `_BETWEEN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any, Final

import attrs

from kessel_core.config.rules import (
    Option,
    handlers_rule,
    names_rule,
    not_blank_rule,
    options_of,
    queues_rule,
    rule,
    tables_rule,
    within,
)
from kessel_core.errors import InvalidConfig, Problem
from kessel_core.model.policies import BadPayload, DefaultError, OnExpired, UnknownType
from kessel_core.values.durations import duration_text

__all__ = [
    "Config",
    "DEFAULT_ADAPTER",
    "JobsConfig",
    "LogLevel",
    "LoggingConfig",
    "PluginsConfig",
    "WorkerConfig",
    "contradictions",
    "options",
]


#: Durable, in one file, and needs no server: what `kessel` uses until told otherwise.
DEFAULT_ADAPTER: Final = "sqlite:///kessel.db"


class LogLevel(StrEnum):
    """Least level of the records that are printed."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _copied(given: Any) -> Any:
    # A configuration must not change with the caller's own dict.
    return dict(given) if isinstance(given, Mapping) else given


def _as_member(choices: type[StrEnum], given: str) -> Any:
    # Text is taken for the member, so that `is` and `match` work; the kind is checked with the rest.
    return next((member for member in choices if member == given), given)


def _default_error(given: str) -> Any:
    return _as_member(DefaultError, given)


def _on_expired(given: str) -> Any:
    return _as_member(OnExpired, given)


def _unknown_type(given: str) -> Any:
    return _as_member(UnknownType, given)


def _bad_payload(given: str) -> Any:
    return _as_member(BadPayload, given)


def _log_level(given: str) -> Any:
    return _as_member(LogLevel, given)


@attrs.frozen(kw_only=True)
class WorkerConfig:
    """How jobs are worked on: `[kessel.worker]`."""

    #: Jobs that one process runs at the same time.
    slots: int = attrs.field(default=1, metadata=within(1, 10_000))
    #: Worker processes; more than one run under a supervisor that replaces a dead one.
    processes: int = attrs.field(default=1, metadata=within(1, 1_000))
    #: How long a stopping worker waits for its running jobs before it rolls them back.
    grace: timedelta = attrs.field(default=timedelta(seconds=30), metadata=within(timedelta(0)))
    #: How often the lease of a running job is extended; unset: every third of the lease.
    heartbeat: timedelta | None = attrs.field(default=None, metadata=within(timedelta(milliseconds=10)))
    #: How long `drain` goes on trying while the queue cannot be used; `worker` never gives up.
    patience: timedelta = attrs.field(default=timedelta(seconds=30), metadata=within(timedelta(0)))


@attrs.frozen(kw_only=True)
class JobsConfig:
    """How the fate of a job is decided: `[kessel.jobs]`."""

    #: Deliveries after which a job that still fails is buried; crashes count too.
    max_attempts: int = attrs.field(default=10, metadata=within(1, 1_000_000))
    #: Longest pause before the first retry; it doubles with every further one.
    retry_base: timedelta = attrs.field(
        default=timedelta(seconds=2), metadata=within(timedelta(milliseconds=1))
    )
    #: Longest pause before any retry.
    retry_cap: timedelta = attrs.field(
        default=timedelta(minutes=15), metadata=within(timedelta(milliseconds=1))
    )
    #: What an undeclared exception means: `fatal` (bury) or `transient` (try again).
    default_error: DefaultError = attrs.field(default=DefaultError.FATAL, converter=_default_error)
    #: What happens to a job that expired before it started: `commit` or `bury`.
    on_expired: OnExpired = attrs.field(default=OnExpired.COMMIT, converter=_on_expired)
    #: What happens to a job that has no handler: `bury`, or `retry` while a new version rolls out.
    unknown_type: UnknownType = attrs.field(default=UnknownType.BURY, converter=_unknown_type)
    #: What happens to a job whose payload does not match its handler: `bury`, or `retry` during a rollout.
    bad_payload: BadPayload = attrs.field(default=BadPayload.BURY, converter=_bad_payload)


@attrs.frozen(kw_only=True)
class PluginsConfig:
    """Which plugins take part: `[kessel.plugins]`."""

    #: Plugins that are installed but must not be imported.
    disabled: tuple[str, ...] = attrs.field(default=(), metadata=rule(names_rule))
    #: Plugins without which the application must not start (exit code 3).
    required: tuple[str, ...] = attrs.field(default=(), metadata=rule(names_rule))


@attrs.frozen(kw_only=True)
class LoggingConfig:
    """What the command logs: `[kessel.logging]`."""

    #: Least level that is printed: `trace`, `debug`, `info`, `warning` or `error`.
    level: LogLevel = attrs.field(default=LogLevel.INFO, converter=_log_level)
    #: One JSON object a line instead of text for people.
    json: bool = False


@attrs.frozen(kw_only=True)
class Config:
    """The whole configuration: `[kessel]`.

    Raises:
        InvalidConfig: Values are wrong; every one is listed.
    """

    #: Where jobs are kept: a URL, or the name of an adapter that needs no URL.
    adapter: str = attrs.field(default=DEFAULT_ADAPTER, metadata=rule(not_blank_rule))
    #: Further options of the adapter, beside those in its URL.
    adapter_options: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied)
    #: Queues that a worker serves, and that commands look at.
    queues: tuple[str, ...] = attrs.field(default=("default",), metadata=rule(queues_rule))
    #: Middleware around every job, outermost first; `plugin/name` where two plugins offer the name.
    middleware: tuple[str, ...] = attrs.field(default=("logging",), metadata=rule(names_rule))
    #: Options of single middlewares: one table each, by the name that `middleware` uses.
    middleware_options: Mapping[str, Mapping[str, Any]] = attrs.field(
        factory=dict, converter=_copied, metadata=rule(tables_rule)
    )
    #: Job type -> `module:attribute`, or what a plugin offers: its type, or `plugin/type`.
    handlers: Mapping[str, str] = attrs.field(factory=dict, converter=_copied, metadata=rule(handlers_rule))
    #: How jobs are worked on.
    worker: WorkerConfig = attrs.field(factory=WorkerConfig)
    #: How the fate of a job is decided.
    jobs: JobsConfig = attrs.field(factory=JobsConfig)
    #: Which plugins take part.
    plugins: PluginsConfig = attrs.field(factory=PluginsConfig)
    #: What the command logs.
    logging: LoggingConfig = attrs.field(factory=LoggingConfig)

    def __attrs_post_init__(self) -> None:
        right: dict[str, object] = {}
        problems: list[Problem] = []
        for path, option in options().items():
            value = option.of(self)
            if wrong := list(option.problems(value)):
                problems += wrong
            else:
                right[path] = value
        problems += contradictions(right)
        if problems:
            raise InvalidConfig(problems)


# --- every option, by its path -------------------------------------------------------------------


@cache
def options() -> Mapping[str, Option]:
    """Return every option by its path, in the order of the classes."""
    return {option.path: option for option in options_of(Config)}


# --- what must hold between options ----------------------------------------------------------------


def _cap_below_base(cap: timedelta, base: timedelta) -> Iterator[str]:
    if cap < base:
        yield f"must not be below retry_base ({duration_text(base)}), got {duration_text(cap)}"


def _required_and_disabled(required: tuple[str, ...], disabled: tuple[str, ...]) -> Iterator[str]:
    for name in sorted({*required} & {*disabled}):
        yield f"{name!r} is also in plugins.disabled"


#: The option that is at fault, the other one, and what says whether they contradict each other.
_BETWEEN: Final[tuple[tuple[str, str, Callable[..., Iterator[str]]], ...]] = (
    ("jobs.retry_cap", "jobs.retry_base", _cap_below_base),
    ("plugins.required", "plugins.disabled", _required_and_disabled),
)


def contradictions(right: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong between options that are each right alone.

    Args:
        right: Path -> value of the options that are; of the others nothing can be said.
    """
    for at, other, broken in _BETWEEN:
        if at in right and other in right:
            for text in broken(right[at], right[other]):
                yield Problem(options()[at].where, text)

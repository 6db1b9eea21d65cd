"""The options and their defaults: frozen classes, validated as a whole.

`Config()` is a usable configuration. Files, environment and arguments are read by `layers`, so applications
that create a `Config` in code do not import that. What is valid for one option follows from its annotation
and a rule from `rules` in its metadata; what must hold between two options is in `_BETWEEN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any, Final

import attrs

from kessel_core.clock import plain_span
from kessel_core.config.rules import (
    Option,
    address_rule,
    handlers_rule,
    names_rule,
    not_blank_rule,
    options_of,
    queue_rule,
    queues_rule,
    routes_rule,
    rule,
    tables_rule,
    within,
)
from kessel_core.errors import InvalidConfig, Problem
from kessel_core.model.policies import BadPayload, DefaultError, OnExpired, UnknownType
from kessel_core.values.durations import duration_text

__all__ = [
    "ADAPTER_STORE",
    "CallbacksConfig",
    "Config",
    "DEFAULT_ADAPTER",
    "HistoryConfig",
    "JobsConfig",
    "LogLevel",
    "LoggingConfig",
    "PluginsConfig",
    "ResultsConfig",
    "WorkerConfig",
    "contradictions",
    "options",
]


#: The default: durable, in one file, without a server.
DEFAULT_ADAPTER: Final = "sqlite:///kessel.db"
#: The value of `store` that means the adapter's own.
ADAPTER_STORE: Final = "adapter"


class LogLevel(StrEnum):
    """The lowest level of log records that are printed."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _copied(given: Any) -> Any:
    # Copied, because a configuration must not change with the dict of the caller.
    return dict(given) if isinstance(given, Mapping) else given


def _plain(given: timedelta) -> timedelta:
    # What adapters compute with; anything that is no span is left to the checks.
    return plain_span(given) if isinstance(given, timedelta) else given


def _as_member(choices: type[StrEnum], given: str) -> Any:
    # Text becomes the member, so that `is` and `match` work; anything else is left to the checks.
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
    """How workers run: `[kessel.worker]`."""

    #: Number of jobs that one process runs at the same time.
    slots: int = attrs.field(default=1, metadata=within(1, 10_000))
    #: Number of worker processes; if more than one, a supervisor replaces dead ones.
    processes: int = attrs.field(default=1, metadata=within(1, 1_000))
    #: How long a stopping worker waits for its running jobs before it gives them back.
    grace: timedelta = attrs.field(
        default=timedelta(seconds=30), converter=_plain, metadata=within(timedelta(0))
    )
    #: How often the lease of a running job is extended; unset: every third of the lease.
    heartbeat: timedelta | None = attrs.field(
        default=None, converter=attrs.converters.optional(_plain), metadata=within(timedelta(milliseconds=10))
    )
    #: Whether workers write an entry about themselves into the store, if there is one, for `kessel workers`.
    listed: bool = True
    #: Where `/livez` and `/readyz` of all processes together are served, as `127.0.0.1:8086`; unset:
    #: nowhere.
    health_address: str | None = attrs.field(default=None, metadata=rule(address_rule))
    #: A file that is renewed every few seconds while the worker is alive, for probes without a port.
    health_file: str | None = attrs.field(default=None, metadata=rule(not_blank_rule))
    #: How long jobs may wait beside an idle slot, and none be taken, until the worker counts as not alive.
    deaf_after: timedelta = attrs.field(
        default=timedelta(seconds=60), converter=_plain, metadata=within(timedelta(seconds=5))
    )
    #: How long `drain` keeps trying while the queue is not usable; `worker` never gives up.
    patience: timedelta = attrs.field(
        default=timedelta(seconds=30), converter=_plain, metadata=within(timedelta(0))
    )


@attrs.frozen(kw_only=True)
class JobsConfig:
    """How decisions about jobs are made: `[kessel.jobs]`."""

    #: Number of attempts after which a job that still fails is buried; crashes count, too.
    max_attempts: int = attrs.field(default=10, metadata=within(1, 1_000_000))
    #: Longest pause before the first retry; it doubles with each further retry.
    retry_base: timedelta = attrs.field(
        default=timedelta(seconds=2), converter=_plain, metadata=within(timedelta(milliseconds=1))
    )
    #: Longest pause before any retry.
    retry_cap: timedelta = attrs.field(
        default=timedelta(minutes=15), converter=_plain, metadata=within(timedelta(milliseconds=1))
    )
    #: How to treat an undeclared exception: `fatal` (bury the job) or `transient` (retry it).
    default_error: DefaultError = attrs.field(default=DefaultError.FATAL, converter=_default_error)
    #: How a job that expired before it started is settled: `commit` or `bury`.
    on_expired: OnExpired = attrs.field(default=OnExpired.COMMIT, converter=_on_expired)
    #: What happens to a job whose type has no handler: `bury`, or `retry` while a new version is rolled out.
    unknown_type: UnknownType = attrs.field(default=UnknownType.BURY, converter=_unknown_type)
    #: What happens to a job whose payload does not match its handler: `bury`, or `retry` during a rollout.
    bad_payload: BadPayload = attrs.field(default=BadPayload.BURY, converter=_bad_payload)


@attrs.frozen(kw_only=True)
class CallbacksConfig:
    """How those are told who asked for it in text: `[kessel.callbacks]`."""

    #: Queue of the jobs that tell others how a job ended; unset: the queue of that job.
    queue: str | None = attrs.field(default=None, metadata=rule(queue_rule))


@attrs.frozen(kw_only=True)
class ResultsConfig:
    """Which results are kept: `[kessel.results]`."""

    #: How long the outcome of every job is kept after its end, in the store; unset: only those of types whose
    #: handler says so.
    keep: timedelta | None = attrs.field(
        default=None, converter=attrs.converters.optional(_plain), metadata=within(timedelta(milliseconds=1))
    )


@attrs.frozen(kw_only=True)
class HistoryConfig:
    """What is written down of jobs: `[kessel.history]`."""

    #: How long each event of a job is kept in the store, for `kessel history`; unset: none is written.
    keep: timedelta | None = attrs.field(
        default=None, converter=attrs.converters.optional(_plain), metadata=within(timedelta(seconds=1))
    )


@attrs.frozen(kw_only=True)
class PluginsConfig:
    """Which plugins are used: `[kessel.plugins]`."""

    #: Installed plugins that are not imported.
    disabled: tuple[str, ...] = attrs.field(default=(), metadata=rule(names_rule))
    #: Plugins without which the application must not start (exit code 3).
    required: tuple[str, ...] = attrs.field(default=(), metadata=rule(names_rule))


@attrs.frozen(kw_only=True)
class LoggingConfig:
    """What the command logs: `[kessel.logging]`."""

    #: Lowest level that is printed: `trace`, `debug`, `info`, `warning` or `error`.
    level: LogLevel = attrs.field(default=LogLevel.INFO, converter=_log_level)
    #: Log one JSON object per line instead of text.
    json: bool = False


@attrs.frozen(kw_only=True)
class Config:
    """The whole configuration: `[kessel]`.

    Raises:
        InvalidConfig: With every mistake in the values.
    """

    #: Where jobs are kept: a URL, or the name of an adapter that needs no URL.
    adapter: str = attrs.field(default=DEFAULT_ADAPTER, metadata=rule(not_blank_rule))
    #: Options of the adapter, in addition to those in its URL.
    adapter_options: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied)
    #: Where small facts beside the jobs are kept: a URL, or `adapter`, the adapter's own store if it has one.
    store: str = attrs.field(default=ADAPTER_STORE, metadata=rule(not_blank_rule))
    #: Queues that workers serve, and that commands show.
    queues: tuple[str, ...] = attrs.field(default=("default",), metadata=rule(queues_rule))
    #: Middleware around every job, outermost first; `plugin/name` if two plugins offer the name.
    middleware: tuple[str, ...] = attrs.field(default=("logging",), metadata=rule(names_rule))
    #: Options of middleware: a table for each, under its name in `middleware`.
    middleware_options: Mapping[str, Mapping[str, Any]] = attrs.field(
        factory=dict, converter=_copied, metadata=rule(tables_rule)
    )
    #: Job type -> `module:attribute`, or the handler of a plugin: its type, or `plugin/type`.
    handlers: Mapping[str, str] = attrs.field(factory=dict, converter=_copied, metadata=rule(handlers_rule))
    #: Job type -> table with the `queue` and the `priority` of its requests that give none.
    routes: Mapping[str, Mapping[str, Any]] = attrs.field(
        factory=dict, converter=_copied, metadata=rule(routes_rule)
    )
    #: Sections of plugins: a table for each; in a file `[kessel.NAME]`.
    sections: Mapping[str, Mapping[str, Any]] = attrs.field(
        factory=dict, converter=_copied, metadata=rule(tables_rule)
    )
    #: How workers run.
    worker: WorkerConfig = attrs.field(factory=WorkerConfig)
    #: How decisions about jobs are made.
    jobs: JobsConfig = attrs.field(factory=JobsConfig)
    #: How others are told how a job ended.
    callbacks: CallbacksConfig = attrs.field(factory=CallbacksConfig)
    #: Which results are kept.
    results: ResultsConfig = attrs.field(factory=ResultsConfig)
    #: What is written down of jobs.
    history: HistoryConfig = attrs.field(factory=HistoryConfig)
    #: Which plugins are used.
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
        problems += (problem for problem, _ in contradictions(right))
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


#: The option to blame, the other one, and the check for a contradiction.
_BETWEEN: Final[tuple[tuple[str, str, Callable[..., Iterator[str]]], ...]] = (
    ("jobs.retry_cap", "jobs.retry_base", _cap_below_base),
    ("plugins.required", "plugins.disabled", _required_and_disabled),
)


def contradictions(right: Mapping[str, Any]) -> Iterator[tuple[Problem, str]]:
    """Yield contradictions between options that are each valid, each with the path of the other option.

    Args:
        right: Path -> value of the valid options; the others cannot be compared.
    """
    for at, other, broken in _BETWEEN:
        if at in right and other in right:
            for text in broken(right[at], right[other]):
                yield Problem(options()[at].where, text), other

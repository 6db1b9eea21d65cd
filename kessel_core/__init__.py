"""kessel: distributed, delayed job processing with a contract.

What applications use is here; plugin authors also use `kessel_core.adapter` and
`kessel_core.hookspecs`, tests use `kessel_core.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kessel_core.clock import Clock, SystemClock
from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    ConfigError,
    DecodeError,
    EnqueueError,
    EnqueueIncomplete,
    EnqueueRejected,
    EnqueueUnknown,
    Fatal,
    HandlerSignal,
    InvalidConfig,
    InvalidRequest,
    KesselError,
    LeaseLost,
    PluginError,
    Problem,
    ProtocolError,
    RequestError,
    Transient,
    UnknownJob,
)
from kessel_core.handlers import HandlerRegistry, JobContext, handler
from kessel_core.hookspecs import hookimpl
from kessel_core.jobs import JobRequest, JobResult, JsonInput, JsonValue, Reason, Status
from kessel_core.retry import RetryPolicy

if TYPE_CHECKING:
    from kessel_core.config import Config, JobsConfig, LoggingConfig, PluginsConfig, WorkerConfig
    from kessel_core.manager import JobManager
    from kessel_core.worker import Health, Worker

__all__ = [
    # requesting and working
    "JobManager",
    "JobRequest",
    "JobResult",
    "JsonValue",
    "JsonInput",
    "Status",
    "Reason",
    "Worker",
    "Health",
    # handlers
    "handler",
    "HandlerRegistry",
    "JobContext",
    "Transient",
    "Fatal",
    "HandlerSignal",
    "RetryPolicy",
    # plugins
    "hookimpl",
    # configuration and time
    "Config",
    "WorkerConfig",
    "JobsConfig",
    "PluginsConfig",
    "LoggingConfig",
    "Clock",
    "SystemClock",
    # errors
    "KesselError",
    "RequestError",
    "InvalidRequest",
    "ConfigError",
    "InvalidConfig",
    "PluginError",
    "CapabilityMissing",
    "AdapterError",
    "AdapterUnavailable",
    "ProtocolError",
    "EnqueueError",
    "EnqueueRejected",
    "EnqueueUnknown",
    "EnqueueIncomplete",
    "LeaseLost",
    "UnknownJob",
    "DecodeError",
    "Problem",
]

# What only an application needs is loaded at its first use: modules that define handlers or
# plugins import this package too, and should stay cheap (D5).
_LATE: Final = {
    "Config": "config",
    "Health": "worker",
    "JobManager": "manager",
    "JobsConfig": "config",
    "LoggingConfig": "config",
    "PluginsConfig": "config",
    "Worker": "worker",
    "WorkerConfig": "config",
}


def __getattr__(name: str) -> Any:
    module = _LATE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

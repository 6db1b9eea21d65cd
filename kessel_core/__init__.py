"""kessel: distributed, delayed job processing with a contract.

What applications use is here; plugin authors also use `kessel_core.adapter` and
`kessel_core.hookspecs`, tests use `kessel_core.testing`.
"""

from __future__ import annotations

from kessel_core.clock import Clock, SystemClock
from kessel_core.config import Config, JobsConfig, LoggingConfig, PluginsConfig, WorkerConfig
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
from kessel_core.jobs import JobRequest, JobResult, JsonValue, Reason, Status
from kessel_core.manager import JobManager
from kessel_core.retry import RetryPolicy
from kessel_core.worker import Health, Worker

__all__ = [
    # requesting and working
    "JobManager",
    "JobRequest",
    "JobResult",
    "JsonValue",
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

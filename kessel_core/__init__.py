"""kessel: distributed, delayed job processing with a contract.

This package is the public interface for applications; plugin authors also use `kessel_core.contract`
and `kessel_core.hooks`, tests use `kessel_core.testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kessel_core.clock import Clock, SystemClock
from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    ConfigError,
    DecodeError,
    DescriptorsLost,
    EnqueueError,
    EnqueueIncomplete,
    EnqueueRejected,
    EnqueueUnknown,
    Fatal,
    HandlerSignal,
    IdHeld,
    InvalidConfig,
    InvalidRequest,
    JobFailed,
    KesselError,
    LeaseLost,
    PluginError,
    Problem,
    ProtocolError,
    RequestError,
    ResultPending,
    ResultTimeout,
    ResultUnknown,
    Snooze,
    StoreConflict,
    StoreError,
    StoreRejected,
    StoreUnknown,
    Transient,
    UnknownJob,
)
from kessel_core.handlers.context import JobContext
from kessel_core.handlers.declare import handler
from kessel_core.handlers.registry import HandlerRegistry
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.job import Job, JobRequest
from kessel_core.model.json import JsonInput, JsonValue
from kessel_core.model.result import JobResult, Reason, Status
from kessel_core.model.retry import RetryPolicy
from kessel_core.values.late import late

if TYPE_CHECKING:
    from kessel_core.cli.commands import with_adapter_options, with_section
    from kessel_core.cli.logs import JsonFormatter
    from kessel_core.cli.serving import QueueCounts, serve_pages, with_queue
    from kessel_core.client.manager import JobManager
    from kessel_core.config.layers import load_config
    from kessel_core.config.options import (
        CallbacksConfig,
        Config,
        HistoryConfig,
        JobsConfig,
        LoggingConfig,
        PluginsConfig,
        ResultsConfig,
        WorkerConfig,
    )
    from kessel_core.config.origin import LoadedConfig
    from kessel_core.features.facts import Cause, CauseName, Explanation, Facts, Unseen
    from kessel_core.model.history import Event, EventKind, JobHistory
    from kessel_core.model.outcome import Outcome
    from kessel_core.model.progress import Progress
    from kessel_core.model.worker import BusyJob, Health, WorkerEntry, WorkerState
    from kessel_core.plugins.loading import build_plugins
    from kessel_core.runtime.worker import Worker

__all__ = [
    # requesting and working
    "JobManager",
    "JobRequest",
    "Job",
    "JobResult",
    "Outcome",
    "Progress",
    "JsonValue",
    "JsonInput",
    "Status",
    "Reason",
    "Worker",
    "Health",
    "WorkerEntry",
    "WorkerState",
    "BusyJob",
    # why a job does not run
    "Explanation",
    "Cause",
    "CauseName",
    "Facts",
    "Unseen",
    "JobHistory",
    "Event",
    "EventKind",
    # handlers
    "handler",
    "HandlerRegistry",
    "JobContext",
    "Transient",
    "Snooze",
    "Fatal",
    "HandlerSignal",
    "RetryPolicy",
    # plugins
    "hookimpl",
    "build_plugins",
    "with_section",
    "with_adapter_options",
    "with_queue",
    "QueueCounts",
    "serve_pages",
    # configuration and time
    "Config",
    "WorkerConfig",
    "JobsConfig",
    "PluginsConfig",
    "LoggingConfig",
    "CallbacksConfig",
    "ResultsConfig",
    "HistoryConfig",
    "load_config",
    "LoadedConfig",
    "Clock",
    "SystemClock",
    # logging
    "JsonFormatter",
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
    "IdHeld",
    "EnqueueIncomplete",
    "LeaseLost",
    "UnknownJob",
    "StoreError",
    "StoreConflict",
    "StoreRejected",
    "StoreUnknown",
    "JobFailed",
    "ResultPending",
    "ResultTimeout",
    "ResultUnknown",
    "DecodeError",
    "DescriptorsLost",
    "Problem",
]

# What only an application needs is loaded on first use: modules that define handlers or plugins import
# this package too, and should stay cheap to import (D5).
_LATE: Final = {
    "CallbacksConfig": "config.options",
    "ResultsConfig": "config.options",
    "BusyJob": "model.worker",
    "Cause": "features.facts",
    "CauseName": "features.facts",
    "Config": "config.options",
    "Explanation": "features.facts",
    "Facts": "features.facts",
    "Event": "model.history",
    "EventKind": "model.history",
    "Health": "model.worker",
    "HistoryConfig": "config.options",
    "JobHistory": "model.history",
    "JobManager": "client.manager",
    "JobsConfig": "config.options",
    "JsonFormatter": "cli.logs",
    "LoadedConfig": "config.origin",
    "LoggingConfig": "config.options",
    "Outcome": "model.outcome",
    "PluginsConfig": "config.options",
    "Progress": "model.progress",
    "Unseen": "features.facts",
    "Worker": "runtime.worker",
    "WorkerConfig": "config.options",
    "WorkerEntry": "model.worker",
    "WorkerState": "model.worker",
    "build_plugins": "plugins.loading",
    "load_config": "config.layers",
    "with_section": "cli.commands",
    "with_adapter_options": "cli.commands",
    "with_queue": "cli.serving",
    "QueueCounts": "cli.serving",
    "serve_pages": "cli.serving",
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, _LATE)

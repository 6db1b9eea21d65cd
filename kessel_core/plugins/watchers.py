"""Hooks that are called for each job: those that change a request, and those that only watch (D3).

Each watcher is isolated: an exception is logged with the name of its plugin, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from kessel_core.errors import PluginError
from kessel_core.hooks import specs
from kessel_core.model.job import JobRequest
from kessel_core.plugins.registry import Implementation, Plugins
from kessel_core.values.logs import get_logger
from kessel_core.values.raised import is_interrupt

__all__ = ["Watchers", "preparers_of", "watchers_of"]

log = get_logger("kessel.plugins")

#: The watchers of one hook, in order; each takes the arguments of the hook by name and raises nothing
#: but the user's `KeyboardInterrupt`. An empty tuple adds no cost to a job.
Calls: TypeAlias = tuple[Callable[..., None], ...]


@attrs.frozen(kw_only=True, eq=False)
class Watchers:
    """The watchers of the jobs and workers of an application; thread-safe."""

    #: A request was stored: `watch(request=...)`.
    enqueued: Calls = ()
    #: A job is about to run: `watch(job=...)`.
    started: Calls = ()
    #: An attempt was settled: `watch(result=..., settlement=...)`.
    settled: Calls = ()
    #: A job has ended: `watch(result=...)`.
    finished: Calls = ()
    #: A worker is about to start its slots: `watch(worker=...)`, a `WorkerInfo`.
    worker_started: Calls = ()
    #: A worker is stopping: `watch(worker=...)`, a `WorkerInfo`.
    worker_stopping: Calls = ()


def watchers_of(plugins: Plugins) -> Watchers:
    """Return the watchers among the plugins."""

    def calls(hook: Callable[..., object]) -> Calls:
        return tuple(_isolated(impl) for impl in plugins.implementations(hook))

    return Watchers(
        enqueued=calls(specs.kessel_job_enqueued),
        started=calls(specs.kessel_job_started),
        settled=calls(specs.kessel_job_settled),
        finished=calls(specs.kessel_job_finished),
        worker_started=calls(specs.kessel_worker_started),
        worker_stopping=calls(specs.kessel_worker_stopping),
    )


def preparers_of(plugins: Plugins) -> tuple[Callable[..., JobRequest | None], ...]:
    """Return the implementations of `kessel_prepare_request`, in order: `prepare(request=...)`.

    They may raise; one that returns something else than a request raises `PluginError`.
    """
    return tuple(_checked(impl) for impl in plugins.implementations(specs.kessel_prepare_request))


def _checked(implementation: Implementation) -> Callable[..., JobRequest | None]:
    owner = implementation.owner

    def prepare(*, request: JobRequest) -> JobRequest | None:
        prepared = implementation(request=request)
        if prepared is None or isinstance(prepared, JobRequest):
            return prepared
        why = f"its kessel_prepare_request returned {type(prepared).__name__}, not a JobRequest"
        raise PluginError(owner.name, why, owner.distribution)

    return prepare


def _isolated(implementation: Implementation) -> Callable[..., None]:
    # Looked up once: this is called several times for each job.
    function, wanted = implementation.function, implementation.wanted

    def watch(**arguments: Any) -> None:
        try:
            function(*[arguments[name] for name in wanted])
        except BaseException as exc:  # SystemExit would silently end the slot's thread
            if is_interrupt(exc):
                raise
            log.exception(
                "plugin %s: %s failed; the job goes on",
                implementation.owner.owner,
                implementation.hook,
                extra={"plugin": implementation.owner.name},
            )

    return watch

"""Hooks that are called while jobs pass: those that change a request, and those that only watch (D3).

A watcher is called alone: what it raises is logged with its plugin's name, and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from kessel_core.hooks import specs
from kessel_core.plugins.registry import Implementation, Plugins

__all__ = ["Watchers", "preparers_of", "watchers_of"]

log = logging.getLogger("kessel.plugins")

#: The watchers of one moment, in order; each takes the arguments of the hook by name and raises nothing
#: but `KeyboardInterrupt`. Empty costs nothing a job.
Calls: TypeAlias = tuple[Callable[..., None], ...]


@attrs.frozen(kw_only=True, eq=False)
class Watchers:
    """Who watches the jobs and workers of an application; safe for any thread."""

    #: A request was stored: `watch(request=...)`.
    enqueued: Calls = ()
    #: A job is about to be run: `watch(job=...)`.
    started: Calls = ()
    #: An attempt was settled: `watch(result=..., settlement=...)`.
    settled: Calls = ()
    #: A job came to its end: `watch(result=...)`.
    finished: Calls = ()
    #: A worker starts its slots: `watch(worker=...)`, a `WorkerInfo`.
    worker_started: Calls = ()
    #: A worker is stopping: `watch(worker=...)`, a `WorkerInfo`.
    worker_stopping: Calls = ()


def watchers_of(plugins: Plugins) -> Watchers:
    """Return who watches."""

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


def preparers_of(plugins: Plugins) -> tuple[Callable[..., Any], ...]:
    """Return the implementations of `kessel_prepare_request`, in order; they may raise."""
    return plugins.implementations(specs.kessel_prepare_request)


def _isolated(implementation: Implementation) -> Callable[..., None]:
    def watch(**arguments: Any) -> None:
        try:
            implementation(**arguments)
        except KeyboardInterrupt:
            raise
        except BaseException:  # SystemExit would end the slot's thread in silence
            log.exception(
                "plugin %s: %s failed; the job goes on",
                implementation.owner.owner,
                implementation.hook,
                extra={"plugin": implementation.owner.name},
            )

    return watch

"""The hooks of kessel: what a plugin can offer, go around, and watch (D1).

A plugin is a module named by an entry point of the group `kessel.v1`; each function in it that is
marked with `hookimpl` and named like one of the functions below takes part. An implementation may
leave out arguments that it does not want; it must not give them defaults, and must not be `async`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    import click

    from kessel_core.contract.spec import AdapterSpec
    from kessel_core.handlers.context import JobContext
    from kessel_core.hooks.middleware import Middleware
    from kessel_core.model.job import Job, JobRequest
    from kessel_core.model.result import JobResult
    from kessel_core.model.settlement import Settlement
    from kessel_core.model.worker import WorkerInfo

__all__ = ["GROUP", "HOOKS", "WRAPPABLE", "hookimpl", "hookspec"]


#: Entry-point group; the major version of this API is in its name.
GROUP: Final = "kessel.v1"


hookspec = pluggy.HookspecMarker("kessel")


#: Marks a function of a plugin as an implementation of the hook of its name.
hookimpl = pluggy.HookimplMarker("kessel")


@hookspec
def kessel_adapters() -> Iterable[AdapterSpec]:
    """Offer queue adapters.

    Return cheap specs; client libraries load when one is opened (D5).

    Asked in the thread that connects; may be asked again, so it must not open anything.

    ```python
    import attrs

    from kessel_core import JobResult, Status, hookimpl
    from kessel_core.contract import AdapterSpec


    @attrs.frozen
    class Options:
        host: str = "localhost"


    def open_moon(options, context):
        from kessel_adapter_moon.adapter import MoonAdapter  # loads when an adapter opens

        return MoonAdapter(options, context)


    @hookimpl
    def kessel_adapters():
        return [AdapterSpec(name="moon", schemes=("moon",), options=Options, open=open_moon)]
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_handlers() -> Mapping[str, object] | Iterable[object]:
    """Offer handlers: a mapping type -> handler, or an iterable of handlers decorated with `@handler`.

    A type that two plugins offer is an error that names both, until `[kessel.handlers]` says which is
    meant: `type = "plugin/type"`. What the application maps itself goes before what plugins offer.

    ```python
    @hookimpl
    def kessel_handlers():
        return {"greet": lambda payload: f"hello {payload}"}
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_middleware() -> Iterable[Middleware]:
    """Offer middleware.

    What is used, and in which order, is for the configuration (`middleware`). An options class is
    structured from the table `middleware_options.NAME`; every mistake in it is reported before anything runs.

    ```python
    import attrs

    from kessel_core.hooks import Middleware


    @attrs.frozen
    class QuietOptions:
        #: Job types whose messages are not wanted.
        types: tuple[str, ...] = ()


    class Quiet:
        def __init__(self, options):
            self.options = options

        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job):
            result = yield
            return attrs.evolve(result, message="") if job.type in self.options.types else result


    @hookimpl
    def kessel_middleware():
        return [Middleware(name="quiet", factory=Quiet, options=QuietOptions)]
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_callbacks() -> Mapping[str, Callable[[JobResult, str], object]]:
    """Offer callbacks: scheme -> function of the result and the target.

    A request with `callback="scheme:target"` is answered by a call of the function in the
    worker, once, after the job's last settlement (S15). What it raises is logged.

    ```python
    def tell(result, target):
        print(target, result.id, result.status)


    @hookimpl
    def kessel_callbacks():
        return {"print": tell}
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_cli(group: click.Group) -> None:
    """Add commands to `kessel`: `group.add_command(...)`.

    Each plugin is asked alone; one that raises adds nothing and is warned about.

    ```python
    import click


    @hookimpl
    def kessel_cli(group):
        @group.command("moon")
        def moon():
            "Say where the moon is."
            click.echo("above")
    ```
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def kessel_execute_job(job: JobContext) -> JobResult | None:
    """Run a job: the hook that middleware goes around (D2). Called in the slot's thread.

    With `@hookimpl(wrapper=True)` go around it: `result = yield`, then return a result. A plain
    implementation that returns a `JobResult` stops the job there; outer wrappers still see the
    result. Return None to let it go on. What a middleware raises counts as raised by the handler.

    ```python
    class SwitchedOff:
        @hookimpl
        def kessel_execute_job(self, job):
            if job.type != "off":
                return None
            return JobResult(id=job.id, request=job.request, status=Status.FAILED, message="off")
    ```
    """


@hookspec(firstresult=True)
def kessel_retry_pause(job: JobContext, result: JobResult) -> timedelta | None:
    """Say how long to wait before the next attempt at a job that failed for now (S11).

    `job.attempt` is the attempt that failed, from 1. Return None to leave it to the next policy; the
    built-in one answers last.

    Called in the slot's thread; a pause is zero or more.

    ```python
    from datetime import timedelta


    @hookimpl
    def kessel_retry_pause(job, result):
        return timedelta(minutes=10) if job.type == "report" else None
    ```
    """


@hookspec
def kessel_prepare_request(request: JobRequest) -> JobRequest | None:
    """Change a request before it is stored, in the producer's thread; None leaves it as it is.

    Implementations are called one after the other, each with what the former returned. What it
    raises goes to the caller, and nothing is stored.

    A request is frozen; change it with `attrs.evolve`.

    ```python
    @hookimpl
    def kessel_prepare_request(request):
        return attrs.evolve(request, headers={**request.headers, "tenant": "north"})
    ```
    """


@hookspec
def kessel_job_enqueued(request: Job) -> None:
    """A request was stored. Called in the producer's thread.

    ```python
    @hookimpl
    def kessel_job_enqueued(request):
        print("stored", request.id, request.type)
    ```
    """


@hookspec
def kessel_job_started(job: JobContext) -> None:
    """A job is about to be run. Called in the slot's thread, before any middleware.

    ```python
    @hookimpl
    def kessel_job_started(job):
        print("started", job.id, job.attempt)
    ```
    """


@hookspec
def kessel_job_finished(result: JobResult) -> None:
    """A job came to its end: it succeeded, or failed for good. Once per job, after its last settlement.

    Called in the slot's thread.

    ```python
    @hookimpl
    def kessel_job_finished(result):
        print("finished", result.id, result.status, result.reason)
    ```
    """


@hookspec
def kessel_job_settled(result: JobResult, settlement: Settlement) -> None:
    """An attempt was settled; also those that will be tried again. Called in the slot's thread.

    `settlement` is a `Commit`, `Rollback` or `Bury` of `kessel_core.contract`.

    ```python
    @hookimpl
    def kessel_job_settled(result, settlement):
        print("settled", result.id, type(settlement).__name__)
    ```
    """


@hookspec
def kessel_worker_started(worker: WorkerInfo) -> None:
    """A worker starts its slots.

    Called in the thread that starts the worker, before any slot reserves. `worker` says who it is, and
    `worker.health()` at any time how it is.

    ```python
    @hookimpl
    def kessel_worker_started(worker):
        print(worker.host, worker.pid, "works on", worker.queues, "with", worker.slots, "slots")
    ```
    """


@hookspec
def kessel_worker_stopping(worker: WorkerInfo) -> None:
    """A worker is stopping; its running jobs still have the grace period.

    Called once, in the thread that asked for the stop; it must not wait. `worker.grace` is what the
    running jobs get.

    ```python
    @hookimpl
    def kessel_worker_stopping(worker):
        print("stopping, grace", worker.grace)
    ```
    """


#: Names of all hooks.
HOOKS: Final = frozenset(name for name in globals() if name.startswith("kessel_"))

#: Those that have an inside, so that a wrapper can go around.
WRAPPABLE: Final = frozenset({kessel_execute_job.__name__, kessel_retry_pause.__name__})

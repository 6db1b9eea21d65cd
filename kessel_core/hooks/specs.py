"""The hooks of kessel: what a plugin can offer, wrap, and watch (D1).

A plugin is a module named by an entry point of the group `kessel.v1`; each function in it that is
marked with `hookimpl` and named like one of the functions below implements that hook. An implementation
may leave out arguments that it does not need; it must not give them defaults, and must not be `async`.
Longer than 350 lines, because authors of plugins should see all hooks, each with its example, on one page.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pluggy

if TYPE_CHECKING:
    import click

    from kessel_core.contract.doctor import DoctorContext, Finding
    from kessel_core.contract.spec import AdapterSpec
    from kessel_core.contract.store import StoreSpec
    from kessel_core.errors import AdapterError
    from kessel_core.handlers.context import JobContext
    from kessel_core.hooks.middleware import Middleware
    from kessel_core.hooks.page import Page, PageContext
    from kessel_core.hooks.section import Section
    from kessel_core.model.job import Job, JobRequest
    from kessel_core.model.outcome import Outcome
    from kessel_core.model.result import JobResult
    from kessel_core.model.settlement import Settlement
    from kessel_core.model.worker import WorkerInfo
    from kessel_core.values.payload_types import PayloadType

__all__ = ["GROUP", "HOOKS", "WRAPPABLE", "WRAPPED", "hookimpl", "hookspec"]


#: Entry-point group; the major version of this API is in its name.
GROUP: Final = "kessel.v1"


hookspec = pluggy.HookspecMarker("kessel")


#: Marks a function of a plugin as an implementation of the hook of the same name.
hookimpl = pluggy.HookimplMarker("kessel")


@hookspec
def kessel_adapters() -> Iterable[AdapterSpec]:
    """Offer queue adapters.

    Return specs that are cheap to create; client libraries are loaded when an adapter is opened (D5).

    Called in the thread that connects, possibly more than once, so it must not open anything.

    ```python
    import attrs

    from kessel_core import JobResult, Status, hookimpl
    from kessel_core.contract import AdapterSpec


    @attrs.frozen
    class Options:
        host: str = "localhost"


    def open_moon(options, context):
        from kessel_adapter_moon.adapter import MoonAdapter  # loaded when an adapter is opened

        return MoonAdapter(options, context)


    @hookimpl
    def kessel_adapters():
        return [AdapterSpec(name="moon", schemes=("moon",), options=Options, open=open_moon)]
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_stores() -> Iterable[StoreSpec]:
    """Offer stores, for small facts beside the jobs (S19): results, progress, entries about workers.

    An adapter that keeps such entries itself needs no such hook: it offers the facet `Store`.

    Return specs that are cheap to create; client libraries are loaded when a store is opened (D5).

    Called in the thread that connects, possibly more than once, so it must not open anything.

    ```python
    from kessel_core.contract import StoreSpec


    @attrs.frozen
    class StoreOptions:
        host: str = "localhost"


    def open_moon_store(options, context):
        from kessel_store_moon.store import MoonStore  # loaded when a store is opened

        return MoonStore(options, context)


    @hookimpl
    def kessel_stores():
        return [StoreSpec(name="moon", schemes=("moon",), options=StoreOptions, open=open_moon_store)]
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_handlers() -> Mapping[str, object] | Iterable[object]:
    """Offer handlers: a mapping type -> handler, or an iterable of handlers decorated with `@handler`.

    If two plugins offer the same type, that is an error that names both, until `[kessel.handlers]` says
    which one is meant: `type = "plugin/type"`. Handlers of the application itself take precedence.

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

    The configuration decides which middleware is used, and in which order (`middleware`). The options come
    from the table `middleware_options.NAME`; every mistake in it is reported before anything runs.

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
def kessel_sections() -> Iterable[Section]:
    """Offer sections of the configuration: `[kessel.NAME]`, and what the plugin makes of each.

    For what belongs to one application: a plugin's module is shared by all applications of a process, what
    the factory returns is not. Its hooks are called beside those of the module. Every mistake in the table
    is reported before anything runs, with those of the other sections.

    Called in the thread that connects. A process that only requests jobs makes no section, until
    `JobManager.section` asks for it.

    ```python
    import attrs

    from kessel_core.hooks import Section


    @attrs.frozen
    class TideOptions:
        #: Where ships wait.
        harbour: str = "north"


    class Tide:
        def __init__(self, options, context):
            self.options, self.clock = options, context.clock

        @hookimpl
        def kessel_handlers(self):
            return {"tide.read": self.read}

        def read(self, payload):
            return f"{self.options.harbour}: low"


    @hookimpl
    def kessel_sections():
        return [Section(name="tide", options=TideOptions, factory=Tide)]
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_callbacks() -> Mapping[str, Callable[[Outcome, str], object]]:
    """Offer callbacks: scheme -> function of the outcome and the target.

    A request with `callback="scheme:target"` is followed by a job of the type `kessel.scheme` once its own
    job has ended; the worker that runs that one calls the function, which may be async (S22). An exception
    is tried again, and the job is buried after its last attempt. The schemes `job`, `https` and `function`
    are kessel's own.

    ```python
    def print_outcome(outcome, target):
        print(target, outcome.id, outcome.status)


    @hookimpl
    def kessel_callbacks():
        return {"print": print_outcome}
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_payload_types() -> Iterable[PayloadType]:
    """Offer how payloads of classes that kessel does not know are read and written.

    Asked in the order of the plugins; the first that takes a class reads and writes its objects. What kessel
    knows itself comes after them: attrs classes, dataclasses, `TypedDict`, named tuples, enums, decimals,
    UUIDs, times, paths and models of pydantic.

    Called in the thread that connects.

    ```python
    from fractions import Fraction

    from kessel_core.hooks import PayloadType


    @hookimpl
    def kessel_payload_types():
        return [
            PayloadType(
                matches=lambda kind: issubclass(kind, Fraction),
                structure=lambda value, kind: kind(value),
                unstructure=str,
            )
        ]
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_cli(group: click.Group) -> None:
    """Add commands to `kessel`: `group.add_command(...)`.

    Plugins are called one by one; if one raises, a warning is shown and the others still work.
    `kessel_core.with_section` gives a command what the plugin made of its section of the configuration,
    `kessel_core.with_adapter_options` the options of the configured adapter.

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
    """Run a job: the hook that middleware wraps (D2). Called in the slot's thread.

    A wrapper (`@hookimpl(wrapper=True)`) runs the rest with `result = yield`, and returns a result. A
    plain implementation that returns a `JobResult` ends the job there; outer wrappers still see the
    result. Return None to continue. An exception in a middleware counts as raised by the handler. A result
    that was made for another job, as one that was kept, is taken as one of this job.

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
    """Return the pause before the next attempt at a job that failed transiently (S11).

    `job.attempt` is the attempt that failed, from 1. Return None to leave the decision to the next policy;
    the built-in one comes last.

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

    Implementations are called one after the other, each with the result of the previous one. An
    exception is passed to the caller, and nothing is stored; `PluginError` if what is returned is neither a
    request nor None.

    A request is frozen; change it with `attrs.evolve`.

    ```python
    @hookimpl
    def kessel_prepare_request(request):
        return attrs.evolve(request, headers={**request.headers, "tenant": "north"})
    ```
    """


@hookspec
def kessel_enqueue_jobs(
    jobs: Sequence[Job], result: JobResult | None
) -> Generator[Sequence[Mapping[str, str]] | None, Sequence[AdapterError | None], None]:
    """Go around a call that stores jobs; always a wrapper, `@hookimpl(wrapper=True)`.

    Before its `yield` nothing is stored. It may yield headers to be added, a mapping for each job; they go
    before those that the job has, and are left out where they would make it too large for the queue. The
    yield returns what became of each job, in order: None if it is stored, else the error that the queue
    gave, such as `EnqueueRejected` or `EnqueueUnknown`. What is no answer of the queue is raised there,
    such as Ctrl-C.

    `jobs` are those of one `request` or `request_many`, and `result` is None. What the end of a job brings
    along (S20, S22) comes here, too, around the settlement: then `result` says how that job ended.

    An exception before the yield is passed to who requests, and nothing is stored; around a settlement it
    is logged, because the job has ended. One after the yield is logged, and changes nothing: whoever
    requests hears what the queue said. What it returns is ignored.

    Called in the thread that stores the jobs, not for those that the application stores in a transaction
    of its own, nor for those that are moved. In a middleware it needs `Middleware(for_requests=True)`.

    ```python
    @hookimpl(wrapper=True)
    def kessel_enqueue_jobs(jobs):
        outcomes = yield [{"sent-by": "shop"} for job in jobs]
        failed = [error for error in outcomes if error is not None]
        print("stored", len(jobs) - len(failed), "of", len(jobs))
    ```
    """
    raise NotImplementedError


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
    """A job is about to run. Called in the slot's thread, before any middleware.

    ```python
    @hookimpl
    def kessel_job_started(job):
        print("started", job.id, job.attempt)
    ```
    """


@hookspec
def kessel_job_finished(result: JobResult) -> None:
    """A job has ended: it succeeded, or failed permanently. Once per job, after its last settlement.

    Called in the slot's thread.

    ```python
    @hookimpl
    def kessel_job_finished(result):
        print("finished", result.id, result.status, result.reason)
    ```
    """


@hookspec
def kessel_job_settled(result: JobResult, settlement: Settlement) -> None:
    """An attempt was settled, including attempts that will be retried. Called in the slot's thread.

    `settlement` is a `Commit`, `Rollback`, `Snooze` or `Bury` of `kessel_core.contract`.

    ```python
    @hookimpl
    def kessel_job_settled(result, settlement):
        print("settled", result.id, type(settlement).__name__)
    ```
    """


@hookspec
def kessel_doctor(context: DoctorContext) -> Iterable[Finding]:
    """Look for what is wrong with what the plugin needs, for `kessel doctor`.

    Called after the adapter was asked, in the thread of the command, which must not wait long; plugins are
    called one by one, and one that raises is a finding itself. An adapter has a method for this.

    ```python
    from kessel_core.contract import Finding, Level


    @hookimpl
    def kessel_doctor(context):
        if "tide.read" not in context.types:
            yield Finding(Level.WARNING, "tide", "nobody reads it", "install a handler of tide.read")
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_pages(context: PageContext) -> Mapping[str, Page]:
    """Offer pages on the address of `kessel worker --health`: path -> page.

    Called once, before the worker starts, and once more in the process that supervises several workers, which
    only merges what these show. If two plugins offer the same path, the first one is served.

    ```python
    from kessel_core.hooks import Page


    @hookimpl
    def kessel_pages(context):
        def show():
            return str(context.health().busy).encode()

        def merge(running, ended):
            return str(sum(int(page) for page in running)).encode()

        return {"/busy": Page(show=show, merge=merge)}
    ```
    """
    raise NotImplementedError


@hookspec
def kessel_worker_started(worker: WorkerInfo) -> None:
    """A worker is about to start its slots.

    Called in the thread that starts the worker, before any slot reserves. `worker` identifies it;
    `worker.health()` may be called at any time, from any thread.

    ```python
    @hookimpl
    def kessel_worker_started(worker):
        print(worker.host, worker.pid, "works on", worker.queues, "with", worker.slots, "slots")
    ```
    """


@hookspec
def kessel_worker_stopping(worker: WorkerInfo) -> None:
    """A worker is stopping; its running jobs still have the grace period.

    Called once for each worker that `kessel_worker_started` told of, in the thread that asked for the stop,
    or in the one that starts the worker if the stop came before; it must not block. `worker.grace` is the
    grace period.

    ```python
    @hookimpl
    def kessel_worker_stopping(worker):
        print("stopping, grace", worker.grace)
    ```
    """


#: Names of all hooks.
HOOKS: Final = frozenset(name for name in globals() if name.startswith("kessel_"))

#: The hooks that an implementation may wrap.
WRAPPABLE: Final = frozenset(
    {kessel_execute_job.__name__, kessel_retry_pause.__name__, kessel_enqueue_jobs.__name__}
)

#: Those that every implementation has to wrap.
WRAPPED: Final = frozenset({kessel_enqueue_jobs.__name__})

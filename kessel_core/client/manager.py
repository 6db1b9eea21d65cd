"""`JobManager`: the entry point of applications. A facade: it opens the parts and delegates to them.

Longer than 350 lines for its docstrings: it is the page that applications read.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack

from kessel_core.clock import Clock, SystemClock
from kessel_core.config.options import Config, options
from kessel_core.errors import InvalidConfig, KesselError, Problem, ResultPending, ResultUnknown
from kessel_core.model.job import JobRequest
from kessel_core.model.json import JsonInput
from kessel_core.model.readonly import EMPTY
from kessel_core.model.settlement import NO_PAUSE

if TYPE_CHECKING:
    from kessel_core.client.application import Application
    from kessel_core.client.checking import ApplicationSettings
    from kessel_core.config.origin import LoadedConfig
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.store import Store
    from kessel_core.features.facts import Explanation
    from kessel_core.handlers.registry import HandlerRegistry
    from kessel_core.model.history import JobHistory
    from kessel_core.model.job import Job
    from kessel_core.model.message import Message
    from kessel_core.model.outcome import Outcome
    from kessel_core.model.progress import Progress
    from kessel_core.model.result import JobResult
    from kessel_core.model.worker import WorkerEntry
    from kessel_core.plugins.registry import Plugins
    from kessel_core.runtime.pipeline import Pipeline
    from kessel_core.runtime.worker import Worker

__all__ = ["JobManager"]

_T = TypeVar("_T")


class RequestFields(TypedDict, total=False):
    """The keyword arguments of `JobManager.request`, for callers that pass them on."""

    priority: int | None
    delay: datetime | timedelta | None
    expiration: datetime | timedelta | None
    queue: str | None
    ref: str | None
    callback: str | Callable[[JobResult], object] | None
    headers: Mapping[str, str]


class JobManager:
    """Requests jobs, and runs them if asked to.

    Thread-safe once it is connected. Use it as a context manager, or call `connect` and `close`. Whatever
    needs the queue raises `KesselError` while it is not connected.

    Args:
        adapter: A URL such as `sqlite:///jobs.db`, the name of an adapter, or an open adapter
            (which the caller closes). None: as configured.
        adapter_options: Options in addition to those in the URL.
        store: Where small facts beside the jobs are kept: a URL, `adapter` for the adapter's own store, or
            an open store (which the caller closes). None: as configured.
        handlers: Mapping type -> handler, or an iterable of handlers decorated with `@handler`.
            They are added to those of plugins and of the configuration.
        middleware: Names of middleware, outermost first. None: as configured.
        clock: The application's clock (S18); None: the machine's.
        config: The configuration; None: the defaults. Files and environment are read by
            `load_config` and `from_config`, never here.
        plugins: Built plugins; None: found through entry points at `connect`.
        only_requests: This process runs no jobs, so handlers are not even imported: a producer does not
            need the workers' code. Nor does it call functions, so no request may have one as callback.
    """

    def __init__(
        self,
        adapter: str | QueueAdapter | None = None,
        *,
        adapter_options: Mapping[str, Any] | None = None,
        store: str | Store | None = None,
        handlers: Mapping[str, object] | Iterable[object] | None = None,
        middleware: Sequence[str] | None = None,
        clock: Clock | None = None,
        config: Config | None = None,
        plugins: Plugins | None = None,
        only_requests: bool = False,
    ) -> None:
        if not isinstance(config, Config | None):
            raise TypeError(
                f"config: expected a Config, as load_config().config, got {type(config).__name__}"
            )
        self.config = config if config is not None else Config()
        self.clock: Clock = clock if clock is not None else SystemClock()
        self._adapter = adapter if adapter is not None else self.config.adapter
        self._adapter_options = (
            adapter_options if adapter_options is not None else self.config.adapter_options
        )
        self._store = store if store is not None else self.config.store
        # Connected again, it would find an iterator empty.
        self._handlers = list(handlers) if isinstance(handlers, Iterator) else handlers
        self._middleware = self.config.middleware if middleware is None else _names(middleware)
        self._plugins = plugins
        self._only_requests = only_requests
        self._loaded: LoadedConfig | None = None
        self._open: Application | None = None
        #: What `close` closes when its workers have ended; no other worker is made of it.
        self._closing: Application | None = None
        self._lock = threading.RLock()
        self._worker: Worker | None = None
        #: Every worker that was made here and may still run; its threads keep it alive.
        self._workers: weakref.WeakSet[Worker] = weakref.WeakSet()

    @classmethod
    def from_config(
        cls,
        file: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        handlers: Mapping[str, object] | Iterable[object] | None = None,
        only_requests: bool = False,
    ) -> Self:
        """Make a manager as the command `kessel` does: from `kessel.toml` and the environment.

        Modules that `[kessel.handlers]` names are found where Python finds modules; the command looks in the
        working directory, too.

        Args:
            file: The configuration file; None: `KESSEL_CONFIG`, or `kessel.toml` or `pyproject.toml` in the
                working directory, if one of them is there.
            environ: The environment; None: that of the process.
            handlers: As for the class; in addition to what is configured.
            only_requests: As for the class.

        Returns:
            A manager that is not connected yet.

        Raises:
            InvalidConfig: File or environment are wrong; every mistake is listed with its origin.

        Example:
            >>> with JobManager.from_config(environ={"KESSEL_ADAPTER": "memory://"}) as manager:
            ...     job = manager.request("greeting", "you")
        """
        from kessel_core.config.layers import load_config

        loaded = load_config(file, environ=os.environ if environ is None else environ)
        manager = cls(config=loaded.config, handlers=handlers, only_requests=only_requests)
        manager._loaded = loaded
        return manager

    # --- opening and closing -----------------------------------------------------------------------------

    def connect(self) -> Self:
        """Load plugins, check adapter options, handlers and middleware, open adapter and store. Idempotent.

        Raises:
            InvalidConfig: Handlers, middleware or adapter options are wrong; every mistake is listed
                under its option: `handlers.TYPE`, `middleware`, `adapter_options.NAME`.
            PluginError: A plugin that the configuration requires is not usable.
            AdapterUnavailable: The backend cannot be reached.
        """
        # Late, because it loads plugins and the runtime.
        from kessel_core.client.application import open_application

        with self._lock:
            if self._open is None:
                self._open = self._located(open_application)
        return self

    def check(self) -> HandlerRegistry:
        """Check all that `connect` checks before it opens adapter and store, and open nothing.

        For the tests of an application, and before a deployment; `kessel plugins --check` does the same.

        Returns:
            The handlers by job type, as `registry`.

        Raises:
            InvalidConfig: As for `connect`.
            PluginError: As for `connect`.
        """
        from kessel_core.client.checking import check_application

        return self._located(check_application).registry

    def _located(self, make: Callable[[ApplicationSettings], _T]) -> _T:
        """Return what is made of the settings; a mistake says where it stands in the configuration."""
        from kessel_core.client.checking import ApplicationSettings

        settings = ApplicationSettings(
            config=self.config,
            clock=self.clock,
            adapter=self._adapter,
            adapter_options=self._adapter_options,
            store=self._store,
            handlers=self._handlers,
            middleware=self._middleware,
            plugins=self._plugins,
            only_requests=self._only_requests,
        )
        try:
            return make(settings)
        except InvalidConfig as exc:
            if self._loaded is None:
                raise
            raise self._loaded.located(exc) from exc

    def close(self) -> None:
        """Stop every worker that was made here, and close what `connect` opened. Idempotent.

        Running jobs get the configured grace; interrupted meanwhile, they are given back at once. Called
        by a job, it is `Worker.stop` for its worker: who waits for the worker closes the rest.
        """
        with self._lock:
            workers = list(self._workers)
            is_inside = any(worker.is_inside for worker in workers)
            if not is_inside:
                self._closing = self._open
            opened = self._open
        if is_inside:
            for worker in workers:
                worker.stop()
            return
        try:
            if workers:
                _end(workers)
        finally:
            with self._lock:
                self._workers.difference_update(workers)
                if self._open is not opened:  # another thread has closed it meanwhile
                    opened = None
                else:
                    self._open = self._worker = self._closing = None
            # What a job has closed may be somebody else's by now: closing it again would do harm.
            if opened is not None and not any(worker.has_lost_descriptors for worker in workers):
                opened.close()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, cls: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _need(self) -> Application:
        if self._open is None:
            raise KesselError(
                "the manager is not connected: use it as `with JobManager(...)`, or call connect()"
            )
        return self._open

    def _need_handlers(self) -> Application:
        opened = self._need()
        if self._only_requests:
            raise KesselError("this manager only requests jobs: make one without only_requests to run them")
        return opened

    @property
    def adapter(self) -> QueueAdapter:
        """The open adapter."""
        return self._need().adapter

    @property
    def store(self) -> Store:
        """The open store.

        Raises:
            CapabilityMissing: There is none: the adapter has none of its own, and no URL is configured.
        """
        return self._need().need_store()

    @property
    def plugins(self) -> Plugins:
        """The loaded plugins."""
        return self._need().plugins

    def section(self, name: str) -> object:
        """Return what a plugin made of its section of the configuration, `[kessel.NAME]`.

        For commands and code of that plugin; its documentation says what it is. Where jobs run, it was
        made at `connect`, elsewhere it is made now.

        Raises:
            KesselError: No plugin has such a section.
            InvalidConfig: Its options are wrong; every mistake is listed.
        """
        return self._need().sections.get(name)

    @property
    def registry(self) -> HandlerRegistry:
        """The handlers by job type."""
        return self._need().registry

    @property
    def pipeline(self) -> Pipeline:
        """What processes a reserved job; for `kessel_core.testing`."""
        return self._need_handlers().pipeline

    # --- requesting -------------------------------------------------------------------------

    def request(
        self,
        type: str | JobRequest,  # noqa: A002  # the word of the model
        payload: JsonInput = None,
        *,
        priority: int | None = None,
        delay: datetime | timedelta | None = None,
        expiration: datetime | timedelta | None = None,
        queue: str | None = None,
        ref: str | None = None,
        callback: str | Callable[[JobResult], object] | None = None,
        headers: Mapping[str, str] = EMPTY,
    ) -> Job:
        """Request a job; on return it is stored, with the adapter's declared durability (S9).

        Args:
            type: The job type, or a complete `JobRequest` (then other arguments are ignored).
            payload: Any JSON value (S2), or a typed object: an attrs class, a dataclass, a named tuple, an
                enum, a decimal, UUID, time or path, a model of pydantic, or what plugins offer.
            priority: 0 (most urgent) to 4294967295; values outside are clamped (S3); None: as declared
                for the type by its handler or in `[kessel.routes]`, else 65536.
            delay: Not started before: an aware time, or a span from now (S4).
            expiration: Not started at or after: an aware time, or a span from now (S5).
            queue: Name of the queue; None: as declared for the type, else `default`.
            ref: Your own reference, passed on unchanged.
            callback: `scheme:target` or, if jobs run in this process, a plain function of the result.
            headers: Strings for middleware.

        Returns:
            The job as it is stored, with id and absolute times.

        Raises:
            InvalidRequest: With every mistake at once; nothing was sent (S1).
            CapabilityMissing: The adapter does not declare what the request needs (S17).
            EnqueueRejected: Definitely not stored (S14).
            IdHeld: A job with the id of the `JobRequest` is in the queue already (S14).
            EnqueueUnknown: May be stored (S14); to retry, pass a `JobRequest` with the id in the error.
            AdapterUnavailable: Definitely not stored: the queue cannot be reached.
        """
        producer = (self._open or self._need()).producer
        if isinstance(type, JobRequest):
            return producer.request(type)
        return producer.request_fields(
            type, payload, priority, delay, expiration, queue, ref, callback, headers
        )

    def request_many(self, requests: Iterable[JobRequest | tuple[str, JsonInput] | str]) -> list[Job]:
        """Request many jobs, in order, as fast as the adapter can store them.

        Args:
            requests: Each a `JobRequest`, a pair of type and payload, or a type alone.

        Returns:
            The jobs as they are stored.

        Raises:
            InvalidRequest: With every mistake of every request (paths start with its index, as
                in `$[3].payload`); nothing was sent.
            CapabilityMissing: The adapter does not declare what a request needs; nothing was sent (S17).
            EnqueueIncomplete: Not all were stored; each is listed under its outcome (S14).
        """
        return self._need().producer.request_many(requests)

    def message(self, request: JobRequest) -> Message:
        """Check a request and return what an adapter stores, without storing it.

        For an adapter that stores it in the application's own transaction. A callback that is a
        function is not remembered, and watchers are not called.

        Raises:
            InvalidRequest: With every mistake at once (S1).
            CapabilityMissing: The adapter does not declare what the request needs (S17).
        """
        return self._need().producer.message(request)

    async def request_async(
        self,
        type: str | JobRequest,  # noqa: A002  # the word of the model
        payload: JsonInput = None,
        **fields: Unpack[RequestFields],
    ) -> Job:
        """Call `request` in a thread, so that it does not block the event loop (D10).

        It raises the same errors.

        Args:
            type: As for `request`.
            payload: As for `request`.
            fields: The keyword arguments of `request`: `priority`, `delay`, `expiration`, `queue`, `ref`,
                `callback`, `headers`.
        """
        import asyncio

        return await asyncio.to_thread(self.request, type, payload, **fields)

    # --- results -----------------------------------------------------------------------------

    def result(self, job_id: str, timeout: timedelta = NO_PAUSE) -> Outcome:
        """Return how a job ended, waiting for it if need be; from any process (S25, S26).

        Args:
            job_id: The id that `request` returned.
            timeout: Longest wait, by the application's clock; zero or less only looks. Also for a job that
                is not stored yet.

        Returns:
            The outcome, of a success as well as of a failure; see `Outcome.raise_for_failure`.

        Raises:
            TypeError: The id is no text, as where the job itself is given, or the timeout no `timedelta`.
            ResultPending: There is no outcome yet, and nothing was to be waited for; says the job's state.
            ResultTimeout: There is still none, and the time is over.
            ResultUnknown: There is neither an outcome nor a job (any more).
            CapabilityMissing: There is no store, so no results are kept (S17).
            AdapterError: The store or the queue cannot be asked.
            DecodeError: What is kept of the job is not an outcome.
            KesselError: A job of the only free slot waits here for another one that has not ended, which
                would wait for ever.
        """
        from kessel_core.features.results import awaited

        _refuse_no_id(job_id)
        _refuse_no_span("timeout", timeout)
        opened = self._need()
        store = opened.need_store("results are kept in a store")
        if timeout > NO_PAUSE and opened.loop.is_here:
            raise KesselError(
                "an async handler cannot wait here, because all async handlers would wait with it; use "
                "result_async"
            )
        if timeout > NO_PAUSE and any(worker.is_full_inside for worker in list(self._workers)):
            try:
                return awaited(opened.adapter, store, job_id, NO_PAUSE)
            except (ResultPending, ResultUnknown) as exc:
                raise KesselError(
                    f"a job that runs in the last free slot cannot wait for job {job_id}: no slot is left to "
                    "run it; use more slots, or a callback"
                ) from exc
        return awaited(opened.adapter, store, job_id, timeout)

    async def result_async(self, job_id: str, timeout: timedelta = NO_PAUSE) -> Outcome:
        """Call `result` in a thread, so that it does not block the event loop (D10); raises the same.

        A call that waits has a thread of its own, because those of the event loop's executor are few. If it
        is cancelled, its thread ends with the wait; it keeps no process from ending.
        """
        from kessel_core.client.threads import in_own_thread

        return await in_own_thread(partial(self.result, job_id, timeout))

    def progress(self, job_id: str) -> Progress | None:
        """Return what a job reported last, from any process; also of one that has ended (S27).

        It changes once a second at most, and is kept for a day.

        Args:
            job_id: The id that `request` returned.

        Returns:
            The progress; None: the job has reported none, or there is no such job.

        Raises:
            TypeError: The id is no text.
            CapabilityMissing: There is no store, so no progress is kept (S17).
            AdapterError: The store cannot be asked.
        """
        from kessel_core.features.progress import progress_of

        _refuse_no_id(job_id)
        return progress_of(self._need().need_store("progress is kept in a store"), job_id)

    def workers(self) -> list[WorkerEntry]:
        """Return the workers that have an entry in the store, in the order of their start (S27).

        A worker writes its entry when it starts, every ten seconds and when it stops, and removes it when it
        has ended; that of a worker that was killed stays for thirty seconds. With `worker.listed` off it
        writes none, and `drain` writes one after ten seconds only.

        Raises:
            CapabilityMissing: There is no store, so no worker is known (S17).
            AdapterError: The store cannot be asked.
        """
        from kessel_core.features.workers import listed_workers

        return listed_workers(self._need().need_store("workers are listed in a store"))

    def history(self, job_id: str) -> JobHistory:
        """Return what happened to a job, as far as it was written down, from any process (S39).

        Written down is what happens while `history.keep` is set, by every process for itself; a log that may
        have gaps, and says where they show.

        Args:
            job_id: The id that `request` returned.

        Returns:
            The events in the order of their times; none if there are none (any more).

        Raises:
            TypeError: The id is no text.
            CapabilityMissing: There is no store, so no history is kept (S17).
            AdapterError: The store cannot be asked.
        """
        from kessel_core.features.events import history_of

        _refuse_no_id(job_id)
        opened = self._need()
        store = opened.need_store("histories are kept in a store")
        if opened.recorder is not None:
            opened.recorder.flush()
        return history_of(store, job_id)

    def explain(
        self, job_id: str, *, queues: Sequence[str] | None = None, limit: int = 10_000
    ) -> Explanation:
        """Say why a job does not run, what would change it, and what could not be seen (S39).

        It changes nothing, and raises nothing for whatever id: what cannot be looked at is in `unseen`. It is
        true of the moment in which it looks.

        Args:
            job_id: The id that `request` returned; or its start, 8 characters at least, if no other job's
                begins so.
            queues: Where it is looked for; None: in all queues.
            limit: How many jobs of a queue and state are looked at, at most, where the adapter has to search.

        Raises:
            TypeError: The id is no text.
            KesselError: The manager is not connected.
        """
        from kessel_core.features.looking import explain

        _refuse_no_id(job_id)
        opened = self._need()

        def timeout_of(kind: str) -> timedelta | None:
            found = opened.registry.get(kind)
            return found.timeout if found is not None else None

        return explain(
            opened.adapter,
            opened.store,
            job_id,
            clock=self.clock,
            queues=None if queues is None else _names(queues),
            limit=limit,
            timeout_of=timeout_of,
        )

    # --- running ----------------------------------------------------------------------------

    def process_single_job(
        self,
        type: str | JobRequest,  # noqa: A002  # the word of the model
        payload: JsonInput = None,
    ) -> JobResult:
        """Run one request now, in this thread and without a queue, and return its result.

        Everything except the queue takes part: encoding, middleware, handler, decision and callback. A
        delay is ignored, and a transient failure or a snooze is not retried.

        Raises:
            InvalidRequest: With every mistake at once (S1).
            AdapterError: A job that it asked for could not be stored (S20).
            KesselError: An async handler called it for an async handler, and would wait for ever.
        """
        from kessel_core.client.inline import run_inline

        opened = self._need_handlers()
        request = type if isinstance(type, JobRequest) else JobRequest(type=type, payload=payload)
        if opened.loop.is_here and (found := opened.registry.get(request.type)) and found.is_async:
            raise KesselError(
                f"an async handler cannot wait here for {request.type!r}, which is async, too: both run in "
                "the same event loop; use asyncio.to_thread(manager.process_single_job, ...)"
            )
        return run_inline(
            opened.pipeline, opened.callbacks, request, opened.producer, opened.jobs, opened.adapter
        )

    def worker(
        self,
        *,
        slots: int | None = None,
        queues: Sequence[str] | None = None,
        grace: timedelta | None = None,
    ) -> Worker:
        """Create a worker that is not started; each argument overrides the configuration.

        Args:
            slots: Jobs at the same time, one or more.
            queues: Names of queues, at least one.
            grace: How long running jobs may take after a stop, zero or more.

        Raises:
            InvalidConfig: With every mistake in the arguments.
            KesselError: The manager is not connected, is being closed, or only requests jobs.
        """
        from kessel_core.runtime.reporting import ReportPlan
        from kessel_core.runtime.worker import Worker

        opened = self._need_handlers()
        settings = self.config.worker
        names = self.config.queues if queues is None else _names(queues)
        slots = settings.slots if slots is None else slots
        grace = settings.grace if grace is None else grace
        given = {"queues": names, "worker.slots": slots, "worker.grace": grace}
        problems: list[Problem] = []
        for path, value in given.items():
            # An argument has the bounds of the option that it stands for, whose last part is its name.
            option = options()[path]
            sections = len(option.where) - 1
            problems += (problem.given_by("", sections) for problem in option.problems(value))
        if problems:
            raise InvalidConfig(problems, "invalid worker")
        worker = Worker(
            adapter=opened.adapter,
            pipeline=opened.pipeline,
            watchers=opened.watchers,
            clock=self.clock,
            queues=names,
            slots=slots,
            grace=grace,
            heartbeat=settings.heartbeat,
            patience=settings.patience,
            deaf_after=settings.deaf_after,
            recorder=opened.recorder,
            reporting=None
            if opened.store is None
            else ReportPlan(
                store=opened.store,
                reports=opened.reports,
                types=tuple(opened.registry.types()),
                is_listed=settings.listed,
            ),
        )
        with self._lock:
            if opened is self._closing or opened is not self._open:
                raise KesselError("the manager is being closed: it starts no more workers")
            self._workers.add(worker)
        opened.jobs.report_unserved(names)
        return worker

    def start(self, *, slots: int | None = None, queues: Sequence[str] | None = None) -> Worker:
        """Start a worker in threads of this process and return; `stop` ends it.

        Raises:
            KesselError: A worker that was started so is still running, or has not ended yet.
            ConfigError: The arguments are wrong, or the adapter refuses the queues.
        """
        worker = self.worker(slots=slots, queues=queues)
        with self._lock:
            before = self._worker
            if before is not None and not (before.is_forked or before.is_over):
                raise KesselError("a worker is running already: stop() it first")
            self._worker = worker
        try:
            if before is not None:
                with suppress(KesselError):  # called where nobody may wait, and there is nothing to wait for
                    _end([before])  # perhaps nobody has waited for its end, so it holds a descriptor
            worker.start()
        except BaseException:
            self._forget(worker)
            _end([worker])
            raise
        return worker

    def stop(self, grace: timedelta | None = None) -> None:
        """Stop the worker that `start` started, and wait until it has ended. Idempotent.

        Called by a job of that worker it does not wait, as `Worker.stop`. Called again meanwhile, by another
        thread, it waits as well.

        Args:
            grace: How long running jobs may take, zero or more; then they are snoozed (S21). None: as
                configured. A second call can only shorten it.

        Raises:
            TypeError: The grace is no `timedelta`; nothing was stopped.
        """
        if grace is not None:
            _refuse_no_span("grace", grace)
        worker = self._worker
        if worker is None:
            return
        if worker.is_inside:
            worker.stop(grace)
            return
        _end([worker], grace)
        self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            if self._worker is worker:  # and not one that was started meanwhile
                self._worker = None


def _refuse_no_id(job_id: object) -> None:
    if not isinstance(job_id, str):
        advice = "; give its `id`" if isinstance(getattr(job_id, "id", None), str) else ""
        raise TypeError(f"job_id: expected text, got {type(job_id).__name__}{advice}")


def _refuse_no_span(name: str, span: object) -> None:
    if not isinstance(span, timedelta):
        raise TypeError(f"{name}: expected a timedelta, as timedelta(seconds=30), got {span!r:.40}")


def _end(workers: Sequence[Worker], grace: timedelta | None = None) -> None:
    from kessel_core.runtime.worker import end_all  # the workers have loaded it

    end_all(workers, grace)


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; a string is one name, not a sequence of letters.

    What is no list of names is left for the checks of the option to tell.
    """
    return (given,) if isinstance(given, str) or not isinstance(given, Iterable) else tuple(given)

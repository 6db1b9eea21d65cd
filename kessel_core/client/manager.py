"""`JobManager`: where a job's road starts. Validate, encode, enqueue; and the wiring of an application."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import attrs

from kessel_core.client.producer import message_of
from kessel_core.clock import Clock, SystemClock
from kessel_core.config.options import Config
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.messages import Message, Reservation
from kessel_core.contract.promises import Reach
from kessel_core.contract.spec import AdapterContext
from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    ConfigError,
    EnqueueIncomplete,
    EnqueueRejected,
    EnqueueUnknown,
    InvalidConfig,
    InvalidRequest,
    KesselError,
    Problem,
    UnusablePlugin,
)
from kessel_core.features.callbacks import Callbacks
from kessel_core.features.retry import RetryPause
from kessel_core.handlers.registry import HandlerRegistry
from kessel_core.model.ids import new_id
from kessel_core.model.job import (
    DEFAULT_PRIORITY,
    DEFAULT_QUEUE,
    NO_HEADERS,
    JobRequest,
    JobResult,
    Status,
    prepared,
)
from kessel_core.model.json import JsonInput
from kessel_core.model.names import queue_name_problem
from kessel_core.model.retry import RetryPolicy
from kessel_core.model.settlement import Settlement
from kessel_core.runtime.async_loop import AsyncLoop
from kessel_core.runtime.executor import Case, Executor
from kessel_core.runtime.handling import HandlerRunner
from kessel_core.runtime.worker import Worker
from kessel_core.wire.requests import encode

if TYPE_CHECKING:
    from kessel_core.plugins.chain import Chain
    from kessel_core.plugins.opening import ChosenAdapter
    from kessel_core.plugins.registry import Plugins
    from kessel_core.plugins.watchers import Watchers

__all__ = ["JobManager"]


class RequestFields(TypedDict, total=False):
    """What `JobManager.request` takes by name, for those who hand it on."""

    priority: int
    delay: datetime | timedelta | None
    expiration: datetime | timedelta | None
    queue: str
    ref: str | None
    callback: str | Callable[[JobResult], object] | None
    headers: Mapping[str, str]


class JobManager:
    """Requests jobs, and runs them where asked to.

    Safe for any thread once it is connected. Use it as a context manager, or call `connect`
    and `close`.

    Args:
        adapter: A URL such as `sqlite:///jobs.db`, the name of an adapter, or an open adapter
            (which the caller closes). None: as configured.
        adapter_options: Further options beside those in the URL.
        handlers: Mapping type -> handler, or an iterable of handlers decorated with `@handler`.
            Handlers of plugins and those in the configuration come in addition.
        middleware: Names of middleware, outermost first. None: as configured.
        clock: The application's clock (S18); None: the machine's.
        config: The configuration; None: the defaults. Files and environment are read by
            `load_config`, never here.
        plugins: Built plugins; None: found through entry points at `connect`.
        only_requests: This process runs no job, so handlers are neither looked for nor imported:
            a producer need not have the workers' code.
    """

    def __init__(
        self,
        adapter: str | QueueAdapter | None = None,
        *,
        adapter_options: Mapping[str, Any] | None = None,
        handlers: Mapping[str, object] | Iterable[object] | None = None,
        middleware: Sequence[str] | None = None,
        clock: Clock | None = None,
        config: Config | None = None,
        plugins: Plugins | None = None,
        only_requests: bool = False,
    ) -> None:
        self.config = config if config is not None else Config()
        self.clock: Clock = clock if clock is not None else SystemClock()
        self._given = adapter if adapter is not None else self.config.adapter
        self._adapter_options = (
            adapter_options if adapter_options is not None else self.config.adapter_options
        )
        self._handlers = handlers
        self._middleware = self.config.middleware if middleware is None else _names(middleware)
        self._plugins = plugins
        self._only_requests = only_requests
        self._open: _Open | None = None
        self._lock = threading.Lock()
        self._worker: Worker | None = None

    # --- life -----------------------------------------------------------------------------

    def connect(self) -> Self:
        """Load plugins, check adapter options, handlers and middleware, open the adapter. Idempotent.

        Raises:
            InvalidConfig: Handlers, middleware or adapter options are wrong; every one is listed,
                under the path of its option: `handlers.TYPE`, `middleware`, `adapter_options.NAME`.
            PluginError: A plugin that the configuration requires is not usable.
            AdapterUnavailable: The adapter cannot be opened now.
        """
        with self._lock:
            if self._open is None:
                self._open = self._opened()
        return self

    def close(self) -> None:
        """Stop a worker that `start` started, and close what `connect` opened. Idempotent."""
        self.stop()
        with self._lock:
            opened, self._open = self._open, None
        if opened is not None:
            opened.loop.close()
            if not isinstance(self._given, QueueAdapter):
                opened.adapter.close()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> _Open:
        from kessel_core.plugins.watchers import preparers_of, watchers_of  # loads with the plugins

        plugins = self._plugins
        if plugins is None:
            from kessel_core.plugins.loading import build_plugins

            settings = self.config.plugins
            plugins = build_plugins(disabled=settings.disabled, required=settings.required)
        loop = AsyncLoop()
        registry, chain, choice = self._judged(plugins, HandlerRunner(loop, self.config.jobs.default_error))
        if isinstance(self._given, QueueAdapter):
            adapter = self._given
        else:
            assert choice is not None
            adapter = choice.open(AdapterContext(clock=self.clock))
        callbacks = Callbacks(plugins.callbacks().usable())
        watchers = watchers_of(plugins)
        executor = Executor(
            watchers=watchers,
            registry=registry,
            chain=chain,
            callbacks=callbacks,
            clock=self.clock,
            rules=self.config.jobs,
            keeps_results=adapter.capabilities.results,
        )
        return _Open(
            adapter=adapter,
            plugins=plugins,
            registry=registry,
            callbacks=callbacks,
            executor=executor,
            loop=loop,
            prepare=preparers_of(plugins),
            watchers=watchers,
        )

    def _judged(
        self, plugins: Plugins, runner: HandlerRunner
    ) -> tuple[HandlerRegistry, Chain, ChosenAdapter | None]:
        """Check adapter, handlers and middleware; everything that is wrong is one error."""
        # Finding plugins costs more than requesting.
        from kessel_core.plugins.chain import build_chain
        from kessel_core.plugins.handlers import collect_handlers

        registry, choice = HandlerRegistry(), None
        jobs = self.config.jobs
        inner = (RetryPause(RetryPolicy(base=jobs.retry_base, cap=jobs.retry_cap)), runner)
        found: list[ConfigError] = []
        if not isinstance(self._given, QueueAdapter):
            try:
                choice = plugins.chosen_adapter(self._given, self._adapter_options)
            except ConfigError as exc:
                found.append(exc)
        if self._only_requests:
            chain = build_chain(plugins)  # what runs no job needs nothing that goes around jobs
        else:
            try:
                registry = collect_handlers(plugins, self.config.handlers, self._handlers)
            except InvalidConfig as exc:
                found.append(exc)
            try:
                chain = build_chain(plugins, self._middleware, self.config.middleware_options, inner=inner)
            except InvalidConfig as exc:
                found.append(exc)
        if len(found) == 1:
            raise found[0]
        if found:
            raise InvalidConfig([problem for exc in found for problem in _problems(exc)])
        return registry, chain, choice

    def _need(self) -> _Open:
        if self._open is None:
            raise KesselError(
                "the manager is not connected: use it as `with JobManager(...)`, or call connect()"
            )
        return self._open

    @property
    def adapter(self) -> QueueAdapter:
        """The open adapter."""
        return self._need().adapter

    @property
    def plugins(self) -> Plugins:
        """The plugins."""
        return self._need().plugins

    @property
    def registry(self) -> HandlerRegistry:
        """The handlers by type."""
        return self._need().registry

    @property
    def executor(self) -> Executor:
        """What runs one reserved job; for test kits and own workers."""
        return self._need_handlers().executor

    # --- requesting -------------------------------------------------------------------------

    def request(
        self,
        type: str | JobRequest,  # noqa: A002  # the word of the model
        payload: JsonInput = None,
        *,
        priority: int = DEFAULT_PRIORITY,
        delay: datetime | timedelta | None = None,
        expiration: datetime | timedelta | None = None,
        queue: str = DEFAULT_QUEUE,
        ref: str | None = None,
        callback: str | Callable[[JobResult], object] | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> JobRequest:
        """Ask for a job; on return it is stored, within the adapter's declared durability (S9).

        Args:
            type: The job type, or a whole `JobRequest` (then nothing else is given).
            payload: Any JSON value (S2).
            priority: 0, most urgent, to 4294967295; values outside are brought to the nearest (S3).
            delay: Not started before: a time, or a span from now (S4).
            expiration: Not started at or after: a time, or a span from now (S5).
            queue: Name of the queue.
            ref: Your own reference, carried along.
            callback: `scheme:target`, or a function of the result where jobs run in this process.
            headers: Texts for middleware.

        Returns:
            The request as it was stored, with id and absolute times.

        Raises:
            InvalidRequest: With every mistake at once; nothing was sent (S1).
            CapabilityMissing: The adapter cannot do what was asked for (S17).
            EnqueueRejected: Surely not stored (S14).
            EnqueueUnknown: May be stored (S14).
            AdapterUnavailable: Surely not stored: the queue cannot be reached.
        """
        opened = self._need()
        if isinstance(type, JobRequest):
            wish = type
        else:
            now = self.clock.now()
            # With all that `prepared` would add, so that it need not make another one.
            wish = JobRequest(
                type=type,
                payload=payload,
                id=new_id(now),
                requested_at=now,
                priority=priority,
                delay=delay,
                expiration=expiration,
                queue=queue,
                ref=ref,
                callback=callback,
                headers=headers,
            )
        request, message = self._prepared(opened, wish)
        function = request.callback
        if function is not None and not isinstance(function, str):
            opened.callbacks.expect(request.id, function)
            try:
                opened.adapter.enqueue(message)
            except (EnqueueRejected, AdapterUnavailable):
                opened.callbacks.forget(request.id)
                raise
        else:
            opened.adapter.enqueue(message)
        for watcher in opened.watchers.enqueued:
            watcher(request=request)
        return request

    def request_many(self, requests: Iterable[JobRequest | tuple[str, JsonInput] | str]) -> list[JobRequest]:
        """Ask for many jobs, in order, as fast as the adapter can take them.

        Args:
            requests: Each a `JobRequest`, a pair of type and payload, or a type alone.

        Returns:
            The requests as they were stored.

        Raises:
            InvalidRequest: With every mistake of every request (paths start with its index, as
                in `$[3].payload`); nothing was sent.
            EnqueueIncomplete: Not all were stored; it names each under its outcome (S14).
        """
        opened = self._need()
        ready: list[JobRequest] = []
        messages: list[Message] = []
        problems: list[Problem] = []
        for index, item in enumerate(requests):
            try:
                request, message = self._prepared(opened, _wish(item))
                ready.append(request)
                messages.append(message)
            except InvalidRequest as exc:
                problems.extend(Problem(f"$[{index}]{p.path[1:]}", p.message) for p in exc.problems)
        if problems:
            raise InvalidRequest(problems, "invalid requests, nothing was stored")
        for request in ready:
            if request.callback is not None and not isinstance(request.callback, str):
                opened.callbacks.expect(request.id, request.callback)
        outcomes = opened.adapter.enqueue_many(messages) if messages else []
        stored: list[JobRequest] = []
        rejected: dict[str, AdapterError] = {}
        unknown: dict[str, AdapterError] = {}
        for request, outcome in zip(ready, outcomes, strict=True):
            if outcome is None:
                stored.append(request)
                for watcher in opened.watchers.enqueued:
                    watcher(request=request)
            elif isinstance(outcome, EnqueueUnknown):
                unknown[request.id] = outcome
            else:
                rejected[request.id] = outcome
                opened.callbacks.forget(request.id)
        if rejected or unknown:
            raise EnqueueIncomplete([request.id for request in stored], rejected, unknown)
        return stored

    async def request_async(
        self,
        type: str | JobRequest,  # noqa: A002  # the word of the model
        payload: JsonInput = None,
        **fields: Unpack[RequestFields],
    ) -> JobRequest:
        """Do what `request` does, in a thread, so that an event loop is not held up (D10).

        Args:
            type: As for `request`.
            payload: As for `request`.
            fields: What `request` takes by name: `priority`, `delay`, `expiration`, `queue`, `ref`,
                `callback`, `headers`.
        """
        import asyncio

        return await asyncio.to_thread(self.request, type, payload, **fields)

    def _prepared(self, opened: _Open, wish: JobRequest) -> tuple[JobRequest, Message]:
        request = prepared(wish, self.clock)
        if opened.prepare:
            for prepare in opened.prepare:
                request = prepare(request=request) or request
            request = prepared(request, self.clock)  # a plugin's mistake is a mistake, too
        body = encode(request)
        self._check_capabilities(opened, request, body)
        return request, message_of(request, body)

    def _check_capabilities(self, opened: _Open, request: JobRequest, body: bytes) -> None:
        can = opened.can
        if request.delay is not None:
            if can.delay_granularity is None:
                raise CapabilityMissing("delay_granularity", opened.adapter.name, "jobs cannot be delayed")
            limit = can.longest_delay
            if limit is not None and request.not_before - self.clock.now() > limit:  # type: ignore[operator]  # prepared: absolute
                raise InvalidRequest(
                    [Problem("$.delay", f"longer than {opened.adapter.name!r} can hold ({limit})")]
                )
        if request.priority != DEFAULT_PRIORITY and can.priorities is None:
            raise CapabilityMissing("priorities", opened.adapter.name, "priorities are not kept")
        if can.max_body_bytes is not None and len(body) > can.max_body_bytes:
            most = f"adapter {opened.adapter.name!r} takes at most {can.max_body_bytes}"
            raise InvalidRequest([Problem("$", f"the request takes {len(body)} bytes, {most}")])
        if callable(request.callback) and can.reach is not Reach.PROCESS:
            why = (
                f"a function can only be called in this process, but {opened.adapter.name!r} "
                "hands jobs to others; use a registered callback, 'scheme:target'"
            )
            raise InvalidRequest([Problem("$.callback", why)])

    # --- running ----------------------------------------------------------------------------

    def _need_handlers(self) -> _Open:
        opened = self._need()
        if self._only_requests:
            raise KesselError("this manager only requests jobs: make one without only_requests to run them")
        return opened

    def process_single_job(
        self,
        type: str | JobRequest,  # noqa: A002  # the word of the model
        payload: JsonInput = None,
    ) -> JobResult:
        """Run one request now, in this thread and without a queue, and return its result.

        Everything but the queue takes part: encoding, middleware, handler, the decision and the
        callback. A delay is not waited for, and a transient failure is not tried again.

        Raises:
            InvalidRequest: As `request`.
        """
        opened = self._need_handlers()
        wish = type if isinstance(type, JobRequest) else JobRequest(type=type, payload=payload)
        request = prepared(attrs.evolve(wish, delay=None), self.clock)
        if callable(request.callback):
            opened.callbacks.expect(request.id, request.callback)
        reservation = Reservation(request.id, request.queue, encode(request), 1)
        result = opened.executor.run(Case(reservation, _NoQueue())).result
        assert result is not None  # only a job that is given back early has none
        if result.status is Status.TRANSIENT:
            opened.callbacks.forget(request.id)
        return result

    def worker(
        self,
        *,
        slots: int | None = None,
        queues: Sequence[str] | None = None,
        grace: timedelta | None = None,
    ) -> Worker:
        """Make a worker; what is not given is as configured.

        Raises:
            InvalidConfig: Slots, queues or grace are out of range.
        """
        opened = self._need_handlers()
        settings = self.config.worker
        wanted = self.config.queues if queues is None else _names(queues)
        problems = [
            Problem("queues", text) for name in wanted if (text := queue_name_problem(name)) is not None
        ]
        if not wanted:
            problems.append(Problem("queues", "expected at least one name"))
        slots = settings.slots if slots is None else slots
        if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:
            problems.append(Problem("slots", f"expected a whole number of at least 1, got {slots!r}"))
        grace = settings.grace if grace is None else grace
        if grace < timedelta(0):
            problems.append(Problem("grace", "must not be negative"))
        if problems:
            raise InvalidConfig(problems, "invalid worker")
        return Worker(
            adapter=opened.adapter,
            executor=opened.executor,
            watchers=opened.watchers,
            clock=self.clock,
            queues=wanted,
            slots=slots,
            grace=grace,
            heartbeat=settings.heartbeat,
            patience=settings.patience,
        )

    def start(self, *, slots: int | None = None, queues: Sequence[str] | None = None) -> Worker:
        """Start a worker in threads of this process and return; `stop` ends it.

        Raises:
            KesselError: One is running already.
            ConfigError: The adapter refuses the queues.
        """
        worker = self.worker(slots=slots, queues=queues)
        with self._lock:
            if self._worker is not None and not self._worker.is_forked:
                raise KesselError("a worker is running already: stop() it first")
            self._worker = worker
        try:
            worker.start()
        except ConfigError:
            self._worker = None
            raise
        return worker

    def stop(self, grace: timedelta | None = None) -> None:
        """Stop the worker that `start` started, and wait for its end. Idempotent.

        Args:
            grace: How long running jobs may take; then they are rolled back. None: as configured.
        """
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop(grace)
            worker.join()


@attrs.frozen(kw_only=True, eq=False)
class _Open:
    """What `connect` made; replaced as a whole, so that threads see all of it or nothing."""

    adapter: QueueAdapter
    plugins: Plugins
    registry: HandlerRegistry
    callbacks: Callbacks
    executor: Executor
    #: Runs async handlers; its thread starts with the first of them.
    loop: AsyncLoop
    prepare: tuple[Callable[..., JobRequest | None], ...]
    watchers: Watchers
    #: Read once: the capabilities of an open adapter do not change.
    can: Any = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "can", self.adapter.capabilities)


class _NoQueue(Consumer):
    """The consumer of a job that runs without a queue: nothing to settle."""

    def reserve(self, timeout: timedelta) -> Reservation | None:
        return None

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        return None

    def extend(self, reservation: Reservation) -> None:
        return None

    def cancel(self) -> None:
        return None

    def close(self) -> None:
        return None


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; a text is one name, not one for each of its letters."""
    return (given,) if isinstance(given, str) else tuple(given)


def _wish(item: object) -> JobRequest:
    """Read one of many requests; a text would unpack into letters, so it is looked at first."""
    if isinstance(item, JobRequest):
        return item
    if isinstance(item, str):
        return JobRequest(type=item)
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return JobRequest(type=item[0], payload=item[1])
    raise InvalidRequest(
        [Problem("$", f"expected a JobRequest, or a pair of type and payload, got {item!r:.60}")]
    )


def _problems(exc: ConfigError) -> Sequence[Problem]:
    return exc.problems if isinstance(exc, InvalidConfig) else [UnusablePlugin(("adapter",), str(exc))]

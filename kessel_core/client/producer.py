"""Turns requests into stored jobs: checked, encoded, enqueued. Runs no job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs

from kessel_core.client.jobs import JobMaker
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.promises import Reach
from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    EnqueueIncomplete,
    EnqueueRejected,
    EnqueueUnknown,
    IdHeld,
    InvalidRequest,
    Problem,
)
from kessel_core.features.callbacks import Callbacks
from kessel_core.handlers.declare import options_of
from kessel_core.handlers.registry import HandlerRegistry
from kessel_core.model.checks import make_job
from kessel_core.model.ids import new_id
from kessel_core.model.job import DEFAULT_PRIORITY, DEFAULT_QUEUE, Job, JobRequest
from kessel_core.model.json import JsonInput
from kessel_core.model.message import Message
from kessel_core.plugins.enqueuing import EnqueueWrapper, Enqueuing
from kessel_core.values.secrets import quoted
from kessel_core.wire.messages import labelled
from kessel_core.wire.requests import encode

__all__ = ["Producer"]


class Producer:
    """Stores the jobs that an application requests; one per application, thread-safe.

    Args:
        adapter: An open adapter.
        jobs: Makes the jobs of requests.
        callbacks: Keeps functions until their jobs end.
        preparers: Implementations of `kessel_prepare_request`, in order.
        wrappers: Implementations of `kessel_enqueue_jobs`, outermost first.
        enqueued: Watchers of `kessel_job_enqueued`.
        registry: The handlers of this process; one that is given as callback stands for its type.
        runs_jobs: Whether its manager may run jobs, and then call functions that wait for them.
    """

    def __init__(
        self,
        adapter: QueueAdapter,
        jobs: JobMaker,
        callbacks: Callbacks,
        preparers: Sequence[Callable[..., JobRequest | None]],
        wrappers: Sequence[EnqueueWrapper],
        enqueued: Sequence[Callable[..., None]],
        registry: HandlerRegistry,
        *,
        runs_jobs: bool = True,
    ) -> None:
        self._adapter = adapter
        self._runs_jobs = runs_jobs
        self._clock = jobs.clock
        self._jobs = jobs
        self._routes = jobs.routes
        self._callbacks = callbacks
        self._preparers = tuple(preparers)
        self._wrappers = tuple(wrappers)
        self._enqueued = tuple(enqueued)
        self._registry = registry
        #: Read once: the capabilities of an open adapter do not change.
        self._capabilities = adapter.capabilities
        #: If there is no size limit, most jobs need no check against the capabilities.
        self._most_bytes = self._capabilities.max_body_bytes
        self._has_size_limit = self._most_bytes is not None

    def message(self, request: JobRequest) -> Message:
        """Return what `request` would pass to the adapter; see `JobManager.message`."""
        return self.made(request)[1]

    def made(self, request: JobRequest) -> tuple[Job, Message]:
        """Return the job that a request asks for, and what `request` would pass to the adapter."""
        prepared = self.prepared(request)
        job = self._jobs.job(prepared)
        return job, self._message(job, prepared.callback)

    def stored(self, job: Job) -> None:
        """Tell the watchers that a job was stored."""
        for watcher in self._enqueued:
            watcher(request=job)

    def request(self, request: JobRequest) -> Job:
        """Store one job; see `JobManager.request`."""
        prepared = self.prepared(request)
        return self._stored(self._jobs.job(prepared), prepared.callback)

    def request_fields(
        self,
        type: str,  # noqa: A002  # the word of the model
        payload: JsonInput,
        priority: int | None,
        delay: datetime | timedelta | None,
        expiration: datetime | timedelta | None,
        queue: str | None,
        ref: str | None,
        callback: str | Callable[[Any], object] | None,
        headers: Mapping[str, str],
    ) -> Job:
        """Store one job with these fields; a `JobRequest` is only built if a plugin needs it."""
        if callback is not None:
            callback = self._as_text(callback)
        if not self._preparers and not self._routes:
            now = self._clock.now()
            try:
                job = make_job(
                    now,
                    id=new_id(now),
                    type=type,
                    payload=payload,
                    priority=DEFAULT_PRIORITY if priority is None else priority,
                    delay=delay,
                    expiration=expiration,
                    queue=DEFAULT_QUEUE if queue is None else queue,
                    ref=ref,
                    callback=callback,
                    headers=headers,
                )
            except InvalidRequest:
                pass  # the way below writes typed objects as JSON, or says again what is wrong
            else:
                return self._stored(job, callback)
        return self.request(
            JobRequest(
                type=type,
                payload=payload,
                priority=priority,
                delay=delay,
                expiration=expiration,
                queue=queue,
                ref=ref,
                callback=callback,
                headers=headers,
            )
        )

    def prepared(self, request: JobRequest) -> JobRequest:
        """Return a request as plugins make it; a handler given as callback is the text that it stands for."""
        if self._preparers:
            # Plugins see the payload as the handler will get it.
            payload = self._jobs.written(request.payload)
            if payload is not request.payload:
                request = attrs.evolve(request, payload=payload)
            for prepare in self._preparers:
                request = prepare(request=request) or request
        if request.callback is not None and (text := self._as_text(request.callback)) is not request.callback:
            return attrs.evolve(request, callback=text)
        return request

    def _as_text(self, callback: str | Callable[[Any], object]) -> str | Callable[[Any], object]:
        """Return the callback that a handler stands for; anything else as it is (S22)."""
        if isinstance(callback, str) or not callable(callback):
            return callback
        options = options_of(callback)
        known = options.type if options is not None else self._registry.type_of(callback)
        return callback if known is None else f"job:{known}"

    def _message(self, job: Job, callback: object) -> Message:
        """Return what is stored of a job, or refuse it."""
        body = encode(job)
        asks = job.not_before is not None or job.priority != DEFAULT_PRIORITY or callback is not None
        if asks or self._has_size_limit:
            self._check_capabilities(job, body, callback)
        return Message(job.id, job.queue, body, job.priority, job.not_before, job.expires_at)

    # --- one job -----------------------------------------------------------------------------

    def _stored(self, job: Job, callback: str | Callable[[Any], object] | None) -> Job:
        if callback is not None:
            job = self._callbacks.expect(job, callback)
        try:
            message = self._message(job, callback)
            if self._wrappers:
                with Enqueuing(self._wrappers, (job,)) as enqueuing:
                    job, message = labelled(job, message, enqueuing.jobs[0], self._most_bytes)
                    self._adapter.enqueue(message)
            else:
                self._adapter.enqueue(message)
        except Exception as exc:
            self._forget_unless_stored((job,), exc)
            raise
        if self._enqueued:
            self.stored(job)
        return job

    def _forget_unless_stored(self, jobs: Iterable[Job], error: Exception) -> None:
        """Forget the callbacks of jobs, unless they may run, and end, although storing them failed (S14)."""
        if isinstance(error, AdapterError) and not isinstance(
            error, (EnqueueRejected, AdapterUnavailable, IdHeld)
        ):
            return
        for job in jobs:
            self._callbacks.forget(job)

    # --- many jobs ---------------------------------------------------------------------------

    def request_many(self, requests: Iterable[JobRequest | tuple[str, JsonInput] | str]) -> list[Job]:
        """Store many jobs, in order; see `JobManager.request_many`."""
        made = self._all_expected(requests)
        if not made:
            return []
        try:
            jobs, outcomes = self._enqueued_many(made)
        except Exception as exc:
            self._forget_unless_stored((job for job, _ in made), exc)
            raise
        return self._all_stored(jobs, outcomes)

    def _all_expected(self, requests: Iterable[object]) -> list[tuple[Job, Message]]:
        """Return the job and the message of each request; if one cannot be made, no callback is expected."""
        if isinstance(requests, (str, bytes, JobRequest, Mapping)) or not isinstance(requests, Iterable):
            # A text would be taken for as many types as it has letters.
            text = f"expected several requests, as a list of them, got {quoted(requests)}"
            raise InvalidRequest([Problem(("$",), text)])
        made: list[tuple[Job, Message]] = []
        problems: list[Problem] = []
        try:
            for index, item in enumerate(requests):
                try:
                    made.append(self._expected(_request_of(item)))
                except InvalidRequest as exc:
                    problems += [attrs.evolve(p, where=("$", index, *p.where[1:])) for p in exc.problems]
            if problems:
                raise InvalidRequest(problems, "invalid requests, nothing was stored")
        except Exception:  # of any kind: nothing was passed to the adapter yet
            for job, _ in made:
                self._callbacks.forget(job)
            raise
        return made

    def _expected(self, request: JobRequest) -> tuple[Job, Message]:
        """Return a job, whose callback is expected from now on, and its message."""
        prepared = self.prepared(request)
        job = self._callbacks.expect(self._jobs.job(prepared), prepared.callback)
        try:
            return job, self._message(job, prepared.callback)
        except Exception:
            self._callbacks.forget(job)
            raise

    def _enqueued_many(
        self, made: Sequence[tuple[Job, Message]]
    ) -> tuple[list[Job], Sequence[AdapterError | None]]:
        """Pass jobs to the adapter; return them as they are stored, and what became of each."""
        jobs = [job for job, _ in made]
        if not self._wrappers:
            return jobs, self._adapter.enqueue_many([message for _, message in made])
        with Enqueuing(self._wrappers, jobs) as enqueuing:
            wanted = zip(made, enqueuing.jobs, strict=True)
            made = [labelled(job, message, more, self._most_bytes) for (job, message), more in wanted]
            outcomes = self._adapter.enqueue_many([message for _, message in made])
            enqueuing.outcomes = outcomes
        return [job for job, _ in made], outcomes

    def _all_stored(self, jobs: list[Job], outcomes: Sequence[AdapterError | None]) -> list[Job]:
        stored: list[Job] = []
        rejected: dict[str, AdapterError] = {}
        unknown: dict[str, AdapterError] = {}
        held: dict[str, IdHeld] = {}
        for job, outcome in zip(jobs, outcomes, strict=True):
            if outcome is None:
                stored.append(job)
                self.stored(job)
            elif isinstance(outcome, EnqueueUnknown):
                unknown[job.id] = outcome  # it may run, so its callback is kept
            else:
                self._callbacks.forget(job)
                if isinstance(outcome, IdHeld):
                    held[job.id] = outcome
                else:
                    rejected[job.id] = outcome
        if rejected or unknown or held:
            raise EnqueueIncomplete([job.id for job in stored], rejected, unknown, held)
        return stored

    def _check_capabilities(self, job: Job, body: bytes, callback: object) -> None:
        """Refuse by name what the adapter does not declare (S17)."""
        declared, name = self._capabilities, self._adapter.name
        if job.not_before is not None:
            if declared.delay_granularity is None:
                raise CapabilityMissing("delay_granularity", name, "jobs cannot be delayed")
            limit = declared.longest_delay
            if limit is not None and job.not_before - self._clock.now() > limit:
                raise InvalidRequest([Problem(("$", "delay"), f"longer than {name!r} can hold ({limit})")])
        if job.priority != DEFAULT_PRIORITY and declared.priorities is None:
            raise CapabilityMissing("priorities", name, "priorities are not kept")
        if declared.max_body_bytes is not None and len(body) > declared.max_body_bytes:
            most = f"adapter {name!r} takes at most {declared.max_body_bytes}"
            raise InvalidRequest([Problem(("$",), f"the request takes {len(body)} bytes, {most}")])
        if callback is not None and callable(callback):
            self._check_function()

    def _check_function(self) -> None:
        """Refuse a function that nobody would call (S15, S22)."""
        if self._capabilities.reach is not Reach.PROCESS:
            why = f"in this process, but {self._adapter.name!r} hands jobs to others"
        elif not self._runs_jobs:
            why = "by who runs the job, and this manager only requests jobs"
        else:
            return
        advice = "give a handler, 'job:TYPE' or 'scheme:target'"
        raise InvalidRequest([Problem(("$", "callback"), f"a function can only be called {why}; {advice}")])


def _request_of(item: object) -> JobRequest:
    """Convert one item of `request_many`; strings come before pairs, as they would unpack into letters."""
    if isinstance(item, JobRequest):
        return item
    if isinstance(item, str):
        return JobRequest(type=item)
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return JobRequest(type=item[0], payload=item[1])
    raise InvalidRequest(
        [Problem(("$",), f"expected a JobRequest, or a pair of type and payload, got {quoted(item)}")]
    )

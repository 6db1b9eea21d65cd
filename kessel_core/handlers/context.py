"""The running job, as handlers and middleware see it: a value that can also extend its lease."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from kessel_core.clock import Clock
from kessel_core.errors import KesselError
from kessel_core.model.job import Job, JobRequest
from kessel_core.model.json import JsonInput
from kessel_core.model.readonly import EMPTY
from kessel_core.values.logs import SafeLogger

if TYPE_CHECKING:
    from kessel_core.handlers.registry import Handler
    from kessel_core.model.progress import Progress

__all__ = ["JobContext"]


class _JobLogger(SafeLogger):
    """Adds id, type and attempt to every record; arguments are not escaped, and may have several lines."""

    @staticmethod
    def argument(value: object) -> object:
        return value


class Held(Protocol):
    """What a running job holds; in a worker its lease."""

    def extend(self) -> None:
        """Renew the lease."""
        ...


class _NoLease:
    """Stands in where a job has no lease."""

    def extend(self) -> None:
        return None


_NO_LEASE: Final = _NoLease()


class Runner(Protocol):
    """Whoever runs jobs: what they may ask for while they run; thread-safe."""

    def follow_up(self, held: Held, job: Job, request: JobRequest) -> Job:
        """Take note of a job that another one asks for (S20)."""
        ...

    def progress(self, held: Held, job: Job, progress: Progress) -> None:
        """Take note of how far a job is (S27); raises nothing."""
        ...


class _NoRunner:
    """Stands in where kessel does not run the job."""

    def follow_up(self, held: Held, job: Job, request: JobRequest) -> Job:
        raise KesselError("this job was not started by kessel, so it cannot ask for others")

    def progress(self, held: Held, job: Job, progress: Progress) -> None:
        return None


_NO_RUNNER: Final = _NoRunner()


@attrs.frozen(eq=False, slots=False)  # without slots it is made in two thirds of the time, once a job
class JobContext:
    """The running job, as handlers and middleware see it. Belongs to one attempt; thread-safe."""

    #: The job as it was stored.
    request: Job
    #: The number of this attempt, from 1; a lower bound where the queue would have to be asked for it, as on
    #: beanstalkd, so it may be 1 again at a later delivery. What the retries decide by is exact (S10).
    attempt: int
    #: The application's clock.
    clock: Clock
    #: When the attempt began; aware; None if it has not.
    started_at: datetime | None = None
    #: The handler of the job.
    handler: Handler | None = None
    #: The queue that the job came from.
    queue: str = attrs.field(default=attrs.Factory(lambda self: self.request.queue, takes_self=True))
    #: Earlier deliveries that were snoozed, as far as the queue knows (S21).
    snoozes: int = 0
    #: How many times it was kicked after a burial, as far as the queue knows; attempts begin anew each time.
    kicks: int = 0
    _held: Held = _NO_LEASE
    _runner: Runner = _NO_RUNNER

    @property
    def id(self) -> str:
        """The job's id."""
        return self.request.id

    @property
    def type(self) -> str:
        """The job's type."""
        return self.request.type

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers; read-only."""
        return self.request.headers

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger (`kessel.handlers.TYPE`) that adds id, type and attempt to every record."""
        return _JobLogger(
            logging.getLogger(f"kessel.handlers.{self.type}"),
            {"job_id": self.id, "job_type": self.type, "attempt": self.attempt},
        )

    def extend(self) -> None:
        """Renew the lease now. The worker does so regularly; call it before a long step that holds the GIL.

        Raises:
            LeaseLost: This worker no longer holds the job; stop working on it.
            AdapterUnavailable: The queue cannot be reached.
        """
        self._held.extend()

    def follow_up(
        self,
        type: str | JobRequest,  # noqa: A002  # the word of the model
        payload: JsonInput = None,
        *,
        priority: int | None = None,
        delay: datetime | timedelta | None = None,
        expiration: datetime | timedelta | None = None,
        queue: str | None = None,
        ref: str | None = None,
        callback: str | None = None,
        headers: Mapping[str, str] = EMPTY,
    ) -> Job:
        """Ask for another job, which is stored if this attempt succeeds, and only then (S20).

        A retry asks again under the same ids, which follow from the id of this job, the moment of its
        request and the order of the calls; so nothing is stored twice, though where the adapter does not
        declare `follow` a crash may deliver a follow-up of an attempt that then runs again.

        Args:
            type: As for `JobManager.request`; so are the others. A `JobRequest` with an id keeps it.
            payload: Any JSON value (S2), or a typed object.
            priority: 0 (most urgent) to 4294967295.
            delay: Not started before (S4).
            expiration: Not started at or after (S5).
            queue: Name of the queue.
            ref: Your own reference.
            callback: Text; a function stays in the process that requests.
            headers: Strings for middleware.

        Returns:
            The job as it will be stored.

        Raises:
            InvalidRequest: With every mistake at once (S1).
            CapabilityMissing: The adapter does not declare what the request needs (S17).
            LeaseLost: The attempt has ended, as for a thread that it has left behind; nothing is stored.
        """
        if not isinstance(type, JobRequest):
            type = JobRequest(  # noqa: A001  # as above
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
        return self._runner.follow_up(self._held, self.request, type)

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how far this job is, for those who wait for it; cheap, so call it as often as you like (S27).

        Only the latest report counts. A worker writes it into the store once a second at most, and once
        more at the end of the attempt; it never waits for the store here, and a store that is away changes
        nothing about the job. Without a store nothing is written, which the log says once. Others see it
        with `JobManager.progress`, and in `ResultPending`, until a day after the last report.

        Args:
            done: What is done, in any unit; a number from zero to 10**18.
            total: All that there is to do, in the same unit, zero or more; None: not known.
            note: What it is about, in words meant for people; cut at 200 characters.

        Raises:
            ValueError: An argument is something else; names every mistake.
        """
        from kessel_core.model.progress import Progress  # hardly any handler calls this

        self._runner.progress(self._held, self.request, Progress.checked(done, total, note, self.clock.now()))

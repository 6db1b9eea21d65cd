"""The road of one reserved job, from its bytes to its report (D7).

`Executor.run` reads top to bottom: decoded, attempts left, due, not expired, handler found, handled,
decided, settled, reported. Each step takes the case on; once an ending is set, the steps that do
not apply pass. The only call of `settle` is in here; no rule about a fate is (see `lifecycle.py`).
"""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import attrs

from kessel_core.clock import Clock
from kessel_core.config.options import JobsConfig
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.messages import Reservation
from kessel_core.errors import (
    AdapterError,
    AdapterUnavailable,
    DecodeError,
    LeaseLost,
)
from kessel_core.features.callbacks import Callbacks
from kessel_core.handlers.context import JobContext
from kessel_core.handlers.registry import Handler, HandlerRegistry
from kessel_core.model.job import JobRequest, JobResult, Reason, Status
from kessel_core.model.lifecycle import Ending, Limits, decide, settlement_of
from kessel_core.model.policies import OnExpired, UnknownType
from kessel_core.model.settlement import COMMIT, NO_PAUSE, Bury, Commit, Rollback, Settlement
from kessel_core.runtime.handling import MESSAGE_LIMIT, failed, failure
from kessel_core.wire.requests import decode
from kessel_core.wire.results import encode_result

if TYPE_CHECKING:
    from kessel_core.plugins.chain import Chain
    from kessel_core.plugins.watchers import Watchers

__all__ = ["Case", "Executor"]


log = logging.getLogger("kessel.executor")


#: Pauses between tries to settle while the backend is away and the lease still holds.
SETTLE_PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)


class Case:
    """One delivery on its way: what is known so far. Belongs to one slot.

    Only `claim` is called by another thread: a stopping worker claims the right to roll the job
    back; whoever claims first settles.
    """

    __slots__ = (
        "_claimed",
        "_lock",
        "attempt",
        "consumer",
        "ending",
        "handler",
        "job",
        "lost",
        "message",
        "next",
        "overdue",
        "reason",
        "request",
        "reservation",
        "result",
        "settlement",
        "since",
        "take_next",
        "told",
        "unextended",
    )

    def __init__(
        self, reservation: Reservation, consumer: Consumer, *, since: float = 0.0, take_next: bool = False
    ):
        self.reservation = reservation
        self.consumer = consumer
        #: Monotonic time of its start, for the heartbeat.
        self.since = since
        #: Whether the next job may be taken together with the settle.
        self.take_next = take_next
        self.attempt = reservation.attempt
        self.request: JobRequest | None = None
        self.handler: Handler | None = None
        self.job: JobContext | None = None
        self.ending: Ending | None = None
        self.reason: Reason | None = None
        self.message = ""
        self.result: JobResult | None = None
        self.settlement: Settlement = COMMIT
        #: Whether a callback waits for the result (S15).
        self.told = False
        #: The reservation was lost, so nothing was settled by us.
        self.lost = False
        #: The handler runs longer than its timeout, so its lease is not extended any more.
        self.overdue = False
        #: The lease was lost, so there is nothing to extend.
        self.unextended = False
        #: The reservation that came with the settle.
        self.next: Reservation | None = None
        self._claimed = False
        self._lock = threading.Lock()

    def end(self, ending: Ending, reason: Reason | None = None, message: str = "") -> None:
        """Write down how the attempt ended."""
        self.ending, self.reason, self.message = ending, reason, message

    def claim(self) -> bool:
        """Return True to the first caller only: it settles."""
        with self._lock:
            if self._claimed:
                return False
            self._claimed = True
            return True

    @property
    def id(self) -> str:
        """The job's id, or how the adapter names it, for logs."""
        return (self.request.id if self.request is not None else None) or self.reservation.id or ""


class Executor:
    """Runs reserved jobs; one for an application, safe for all its slots."""

    def __init__(
        self,
        *,
        watchers: Watchers,
        registry: HandlerRegistry,
        chain: Chain,
        callbacks: Callbacks,
        clock: Clock,
        rules: JobsConfig,
        keeps_results: bool = False,
    ) -> None:
        self._registry = registry
        self._callbacks = callbacks
        self._clock = clock
        self._rules = rules
        self._keeps_results = keeps_results
        self._execute = chain.execute
        self._retry_pause = chain.retry_pause
        self._watchers = watchers

    def run(self, case: Case) -> Case:
        """Take one delivery down the road.

        Raises nothing that a job, a handler, a plugin or the queue may do wrong; what cannot be
        settled is logged, and comes back when its lease ends.
        """
        self._decoded(case)
        followed = log.isEnabledFor(logging.DEBUG)  # asked once: each question costs
        if followed:
            self._follow(case, f"reserved from {case.reservation.queue}, delivery {case.attempt}")
        self._attempts_left(case)
        self._due(case)
        self._not_expired(case)
        self._handler_found(case)
        self._handled(case)
        self._decided(case)
        self._settled(case)
        if followed and not case.lost:
            self._follow(case, f"settled by {_shown(case.settlement)}")
        self._reported(case)
        return case

    def _follow(self, case: Case, what: str) -> None:
        log.debug("job %s: %s", case.id, what, extra={"job_id": case.id, "attempt": case.attempt})

    # --- before the handler ---------------------------------------------------------------

    def _decoded(self, case: Case) -> None:
        callback = None
        try:
            request = decode(case.reservation.body)
        except DecodeError as exc:
            case.end(Ending.UNDECODABLE, Reason.UNDECODABLE, str(exc)[:MESSAGE_LIMIT])
        else:
            if not request.id:  # written by another language
                request = attrs.evolve(request, id=case.reservation.id or "")
            case.request = request
            case.handler = self._registry.get(request.type)
            callback = request.callback
        case.told = self._callbacks.wanted(case.id, callback)

    def _attempts_left(self, case: Case) -> None:
        if case.ending is None and case.attempt > 1 and case.attempt > self._max_attempts(case):
            last = case.attempt - 1
            case.end(
                Ending.LOST, Reason.WORKER_LOST, f"delivered {last} times, and the last worker never reported"
            )

    def _max_attempts(self, case: Case) -> int:
        handler = case.handler
        most = (
            handler.max_attempts if handler is not None and handler.max_attempts else self._rules.max_attempts
        )
        request = case.request
        if request is not None and request.requested_at is None and request.delay is not None:
            # Put by another language without telling the queue of the delay: `_due` gave it back once.
            most += 1
        return most

    def _due(self, case: Case) -> None:
        request = case.request
        if case.ending is not None or request is None or request.delay is None:
            return
        early = request.not_before - self._clock.now()  # type: ignore[operator]  # decoded: absolute
        if early > NO_PAUSE:
            case.settlement = Rollback(early)
            case.end(Ending.TRANSIENT, None, "delivered before its delay")

    def _not_expired(self, case: Case) -> None:
        request = case.request
        if (
            case.ending is None
            and request is not None
            and request.expiration is not None
            and self._clock.now() >= request.expiration  # type: ignore[operator]  # decoded: absolute
        ):
            case.end(Ending.EXPIRED, Reason.EXPIRED, f"expired at {request.expiration}")

    def _handler_found(self, case: Case) -> None:
        if case.ending is not None or case.handler is not None or case.request is None:
            return
        known = ", ".join(self._registry.types()) or "none"
        message = f"no handler for type {case.request.type!r}; known types: {known}"
        retry = self._rules.unknown_type is UnknownType.RETRY
        case.end(
            Ending.NO_HANDLER_HERE if retry else Ending.NO_HANDLER, Reason.NO_HANDLER, message[:MESSAGE_LIMIT]
        )

    # --- the handler ------------------------------------------------------------------------

    def _handled(self, case: Case) -> None:
        if case.ending is not None or case.request is None:
            return
        reservation, consumer = case.reservation, case.consumer
        job = JobContext(
            case.request,
            case.attempt,
            self._clock,
            lambda: consumer.extend(reservation),
            case.handler,
            reservation.queue,
        )
        case.job = job
        job.started_at = self._clock.now()
        for watcher in self._watchers.started:
            watcher(job=job)
        try:
            result: object = self._execute(job=job)
        except BaseException as exc:
            # A failing middleware is a failing handler.
            result = failure(job, exc, self._rules.default_error)
        if not isinstance(result, JobResult):
            result = failed(
                job, Reason.ERROR, f"kessel_execute_job returned {type(result).__name__}, not a JobResult"
            )
        case.result = result
        case.reason, case.message = result.reason, result.message
        if result.status is Status.SUCCESS:
            case.ending = Ending.SUCCESS
        elif result.status is Status.TRANSIENT:
            case.ending = Ending.TRANSIENT
        else:
            case.ending = Ending.EXPIRED if result.reason is Reason.EXPIRED else Ending.FATAL

    # --- after the handler --------------------------------------------------------------------

    def _decided(self, case: Case) -> None:
        ending = case.ending
        assert ending is not None
        if ending is Ending.SUCCESS:
            if self._keeps_results and case.result is not None:
                case.settlement = Commit(encode_result(case.result))
            return
        if case.settlement is not COMMIT:  # given back early
            return
        try:
            case.attempt = case.consumer.attempt(case.reservation)
        except AdapterError as exc:
            log.debug("job %s: number of attempts not known: %s", case.id, exc)
        pause = self._pause_for(case, ending)
        request = case.request
        expiration = request.not_after if request is not None else None
        limits = Limits(case.attempt, self._max_attempts(case), self._retry_at(pause), expiration)
        fate = decide(ending, limits)
        case.settlement = settlement_of(
            fate,
            pause=pause,
            reason=case.reason,
            message=case.message,
            bury_expired=self._rules.on_expired is OnExpired.BURY,
        )
        # Written again, because the fate has the last word on status, reason and attempt.
        ran = case.result
        case.result = JobResult(
            id=case.id,
            request=request,
            status=fate.status,
            message=case.message,
            reason=fate.reason or case.reason,
            attempt=case.attempt,
            started_at=ran.started_at if ran is not None else None,
            finished_at=(ran.finished_at if ran is not None else None) or self._clock.now(),
        )

    def _pause_for(self, case: Case, ending: Ending) -> timedelta:
        if ending not in (Ending.TRANSIENT, Ending.NO_HANDLER_HERE) or case.request is None:
            return NO_PAUSE
        job = case.job or JobContext(case.request, case.attempt, self._clock)
        if job.retry_after is not None:
            return job.retry_after
        job.attempt = case.attempt
        result = case.result or failed(job, Reason.NO_HANDLER, case.message)
        try:
            pause = self._retry_pause(job=job, result=result)
        except Exception:
            log.exception(
                "job %s: a retry policy failed; retrying after a second", case.id, extra={"job_id": case.id}
            )
            return timedelta(seconds=1)
        return pause if isinstance(pause, timedelta) and pause >= NO_PAUSE else NO_PAUSE

    def _retry_at(self, pause: timedelta) -> datetime:
        now = self._clock.now()
        try:
            return now + pause
        except OverflowError:
            return datetime.max.replace(tzinfo=now.tzinfo)

    def _settled(self, case: Case) -> None:
        if not case.claim():
            case.lost = True  # a stopping worker has rolled it back
            return
        try:
            if case.take_next and not case.told:
                # One trip instead of two. Not while somebody will be told: a slow callback must
                # not sit on the next job's lease.
                case.next = case.consumer.settle_and_reserve(case.reservation, case.settlement)
            else:
                case.consumer.settle(case.reservation, case.settlement)
        except LeaseLost as exc:
            case.lost = True
            log.warning("%s; the job will be delivered again", exc, extra={"job_id": case.id})
        except AdapterUnavailable as exc:
            self._settle_again(case, exc)
        except Exception as exc:
            case.lost = True
            self._in_limbo(case, exc)

    def _settle_again(self, case: Case, first: Exception) -> None:
        """Try on while the lease holds: a settle that is given up costs a second run of the job."""
        error: Exception = first
        for pause in SETTLE_PAUSES:
            deadline = case.reservation.deadline
            if deadline is not None and self._clock.monotonic() + pause >= deadline:
                break
            nobody = threading.Condition()
            with nobody:
                self._clock.wait(nobody, pause)
            try:
                case.consumer.settle(case.reservation, case.settlement)
            except AdapterUnavailable as exc:
                error = exc
            except Exception as exc:
                error = exc
                break
            else:
                return
        case.lost = True
        self._in_limbo(case, error)

    def _in_limbo(self, case: Case, error: Exception) -> None:
        log.error(
            "job %s in queue %s could not be settled (%s): %s; body %r",
            case.id,
            case.reservation.queue,
            type(case.settlement).__name__.lower(),
            error,
            case.reservation.body[:MESSAGE_LIMIT],
            extra={"job_id": case.id, "queue": case.reservation.queue},
        )

    def _reported(self, case: Case) -> None:
        result = case.result
        if case.lost or result is None:
            return
        for watcher in self._watchers.settled:
            watcher(result=result, settlement=case.settlement)
        if result.status is Status.TRANSIENT:
            return
        for watcher in self._watchers.finished:
            watcher(result=result)
        if case.told:
            self._callbacks.tell(result)
        if case.job is None or case.ending is Ending.TRANSIENT:
            # Middleware saw nothing, or a failure that would be tried again: this end is news.
            log.info(
                "job %s %s: %s (%s)",
                case.id,
                result.status,
                result.reason,
                result.message,
                extra={
                    "job_id": case.id,
                    "job_type": result.request.type if result.request is not None else None,
                    "status": str(result.status),
                    "reason": result.reason,
                    "attempt": result.attempt,
                    "queue": case.reservation.queue,
                },
            )


def _shown(settlement: Settlement) -> str:
    match settlement:
        case Commit():
            return "commit"
        case Rollback(pause):
            return f"rollback, to be tried again in {pause.total_seconds():g} s"
        case Bury(reason):
            return f"burial ({reason})"

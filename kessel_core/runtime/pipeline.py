"""Processes one delivery in a worker, from the stored bytes to the report (D7).

`Pipeline.run` reads from top to bottom: the delivery is decoded, its outcome determined (by a check that
refuses it, or by its handler), the decision looked up, the lease settled, the result reported. Each step
takes a value and returns the next. The rules for what happens to a job are in `model.lifecycle`, and the
settling itself is in `runtime.lease`.
Longer than 350 lines, so that the way of a job is read in one place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Coroutine
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from kessel_core.clock import Clock, plain_span
from kessel_core.config.options import JobsConfig
from kessel_core.contract.messages import Reservation
from kessel_core.errors import DecodeError, EnqueueRejected, InvalidRequest, LeaseLost, Problem
from kessel_core.features.callbacks import Callbacks, callback_request
from kessel_core.features.logging import log_failure
from kessel_core.features.progress import Reports
from kessel_core.features.results import KeptOutcomes
from kessel_core.handlers.context import Held, JobContext
from kessel_core.handlers.registry import Handler, HandlerRegistry
from kessel_core.model.callbacks import is_function
from kessel_core.model.job import DEFAULT_QUEUE, Job, JobRequest
from kessel_core.model.json import shown
from kessel_core.model.lifecycle import rules_for
from kessel_core.model.message import Message
from kessel_core.model.policies import UnknownType
from kessel_core.model.result import SUCCESS, JobResult, Reason, Status
from kessel_core.model.settlement import NO_PAUSE, Bury, Commit, Rollback, Settlement, Snooze
from kessel_core.plugins.chain import Chain
from kessel_core.plugins.watchers import Watchers
from kessel_core.runtime import forks
from kessel_core.runtime.async_loop import AsyncLoop
from kessel_core.runtime.delivery import MESSAGE_LIMIT, Decision, Delivery, decide
from kessel_core.runtime.following import NOTHING, Following, FollowUp, follow_up_id
from kessel_core.runtime.handling import ANSWER, outcome_of_exception, own, text_of
from kessel_core.runtime.held import HeldJob, SettleResult
from kessel_core.runtime.settling import Settling
from kessel_core.values.logs import get_logger
from kessel_core.values.raised import is_interrupt
from kessel_core.wire.requests import decode, dump

if TYPE_CHECKING:
    from kessel_core.model.progress import Progress

__all__ = ["Pipeline"]

log = get_logger("kessel.pipeline")

#: The pause before a retry after a retry policy failed, or after an unexpected error.
_FALLBACK_PAUSE: Final = timedelta(seconds=1)
#: Why a follow-up is refused.
_NO_FUNCTION: Final = (
    "a function cannot wait for a job that follows another; give a handler, 'job:TYPE' or 'scheme:target'"
)
#: What an async handler gets to end after its timeout, in seconds, before its lease is left to end.
_TO_BE_CANCELLED: Final = 1.0
#: No pause ends later than this, a day before the last moment that a datetime can be.
_LAST_DAY: Final = datetime(9999, 12, 31, tzinfo=UTC)
#: Statuses that end a job; after the others it is delivered again.
_FINAL: Final = frozenset({SUCCESS, Status.FAILED})


class Pipeline:
    """Processes reserved jobs; one per application, thread-safe."""

    def __init__(
        self,
        *,
        registry: HandlerRegistry,
        chain: Chain,
        callbacks: Callbacks,
        clock: Clock,
        rules: JobsConfig,
        callback_queue: str | None = None,
        watchers: Watchers,
        longest_pause: timedelta | None = None,
        loop: AsyncLoop | None = None,
        settling: Settling,
        kept: KeptOutcomes,
        reports: Reports,
        made: Callable[[JobRequest], tuple[Job, Message]],
        stored: Callable[[Job], None],
    ) -> None:
        self._registry = registry
        self._chain = chain
        self._callbacks = callbacks
        self._clock = clock
        self._config = rules
        #: Where callback jobs go; None: the queue of the job.
        self._callback_queue = callback_queue
        self._table = rules_for(rules.on_expired)
        self._watchers = watchers
        #: The longest delay of the adapter; None: limited by the calendar only.
        self._longest_pause = longest_pause
        self._loop = loop
        self._settling = settling
        self._kept = kept
        self._reports = reports
        #: Makes a job of what another asks for, and tells that it was stored.
        self._made, self._stored = made, stored
        #: Held while a follow-up gets its number: a handler may ask for some from several threads.
        # Its own thread may take it again: a plugin that prepares the request may run a job that asks, too.
        self._asking = threading.RLock()

    @property
    def is_in_loop(self) -> bool:
        """Whether this is the thread of the event loop of async handlers, which must not wait for them."""
        return self._loop is not None and self._loop.is_here

    def cut_off(self, threads: Collection[threading.Thread]) -> None:
        """Cancel the async handlers that these threads wait for, because their jobs were given back."""
        if self._loop is not None:
            self._loop.cut_off(threads)

    def run(self, held: HeldJob, *, take_next: bool = False) -> tuple[JobResult, SettleResult]:
        """Process one delivery to its end, in a context of its own: no other job sees what it sets there.

        Errors of the job, its handler, a plugin or the queue are not raised; a job that cannot be settled
        is logged, and comes back when its lease ends.

        Args:
            held: The held job.
            take_next: Whether the next job may be reserved in the same call as the settle.

        Returns:
            How the attempt ended; and whether the queue accepted the settlement (if not, the job is
            delivered again), with the next reservation if there is one.
        """
        return copy_context().run(self._run, held, take_next)

    def _run(self, held: HeldJob, take_next: bool) -> tuple[JobResult, SettleResult]:
        traced = log.isEnabledFor(logging.DEBUG)  # once, because each call costs time
        delivery: Delivery | None = None
        try:
            delivery, refusal = self._read(held)
            if traced:
                _trace(delivery, f"reserved from {held.reservation.queue}, delivery {delivery.attempt}")
            outcome = refusal or self._refused(delivery) or self._handled(delivery, held)
            if outcome.status is SUCCESS:
                decision = decide(self._table, outcome)
            else:
                decision = self._decided(delivery, outcome, held)
        except Exception as exc:  # a bug; it counts as an attempt, so that the job cannot loop for ever
            delivery, decision = self._unexpected(delivery, held, exc)
        if held.reported is not None:
            self._reports.write(held, is_last=True)
        held.has_ended = True
        try:
            following = self._following(delivery, decision, held)
        except Exception as exc:  # the value was JSON when it was checked, and was changed since
            decision = self._unwritten(delivery, decision, exc)
            following = self._following(delivery, decision, held)
        # One round trip instead of two; not before a callback, because a slow one would use up the next
        # job's lease.
        is_awaited = self._callbacks.is_awaited(decision.result)
        take_next = take_next and not is_awaited
        if following is NOTHING:
            settled = held.settle(decision.settlement, take_next=take_next)
        else:
            following, settled = self._settling.settle(held, decision, following, take_next=take_next)
            if settled.refused is not None:
                decision = self._without_follow_ups(delivery, decision, settled.refused)
                following, settled = self._settled_without(delivery, decision, held, take_next=take_next)
        if settled.is_settled:
            if traced:
                _trace(delivery, f"settled by {_described(decision.settlement)}")
            for one in following.jobs:
                self._stored(one.job)
            self._report(delivery, decision)
            if is_awaited and decision.result.status in _FINAL:
                self._callbacks.call(decision.result, self._finish)
        result = decision.result
        # The frames of the exception would hold whatever the handler held, until the slot's next job.
        return (attrs.evolve(result, raised=None) if result.raised is not None else result), settled

    def _finish(self, told: Coroutine[Any, Any, Any]) -> None:
        """Run to its end what a callback that is an async function returned."""
        assert self._loop is not None
        self._loop.run(told, None, "a callback")

    # --- reading -----------------------------------------------------------------------------

    def _read(self, held: HeldJob) -> tuple[Delivery, JobResult | None]:
        """Return the delivery, and its outcome if the job cannot be decoded.

        Attempts are checked first, because decoding may be what kills the worker. The body of a job whose
        attempts are used up is still decoded once, for its callback; if that has killed a worker as well, it
        is not decoded again.
        """
        reservation = held.reservation
        attempt = reservation.attempt
        if attempt > self._config.max_attempts:
            most = self._most_attempts()
            if attempt > most:
                attempt = held.attempt()
            if attempt > most + 1:
                delivery = Delivery(reservation, attempt)
                return delivery, self._worker_lost(delivery, most)
        try:
            job = decode(reservation.body)
        except Exception as exc:
            if not isinstance(exc, DecodeError):
                log.exception(
                    "job %s: its body cannot be read", reservation.id, extra={"job_id": reservation.id}
                )
            delivery = Delivery(reservation, attempt)
            message = text_of(exc) or type(exc).__name__
            return delivery, delivery.outcome(Status.FAILED, Reason.UNDECODABLE, message, self._clock.now())
        if not job.id or job.queue != reservation.queue:
            job = _completed(job, reservation)
        handler = self._registry.get(job.type)
        if attempt > 1 and attempt > self._allowed(handler):
            attempt = held.attempt()
        delivery = Delivery(reservation, attempt, job, handler)
        return delivery, None

    def _worker_lost(self, delivery: Delivery, allowed: int) -> JobResult:
        message = (
            f"delivered {delivery.attempt - 1} times without coming to an end, "
            f"at most {allowed} are allowed; its handler may kill its worker"
        )
        return delivery.outcome(Status.FAILED, Reason.WORKER_LOST, message, self._clock.now())

    def _most_attempts(self) -> int:
        """Return the most attempts that any handler allows; one may be added at any time."""
        return max([self._config.max_attempts, *(handler.max_attempts or 0 for handler in self._registry)])

    def _allowed(self, handler: Handler | None) -> int:
        """Return how many attempts a job may have (S10)."""
        own = handler.max_attempts if handler is not None else None
        return own or self._config.max_attempts

    # --- checks before the handler -----------------------------------------------------------

    def _refused(self, delivery: Delivery) -> JobResult | None:
        """Return the outcome of a job whose handler must not be started, or None."""
        job, now = delivery.job, None
        assert job is not None
        if delivery.attempt > 1 and delivery.attempt > (allowed := self._allowed(delivery.handler)):
            return self._worker_lost(delivery, allowed)
        if job.not_before is not None:
            now = self._clock.now()
            early = job.not_before - now
            if early > NO_PAUSE:
                message = "delivered before its delay"
                return delivery.outcome(Status.SNOOZED, Reason.TOO_EARLY, message, now, after=early)
        if job.expires_at is not None:
            now = now or self._clock.now()
            if now >= job.expires_at:
                message = f"expired at {job.expires_at}"
                return delivery.outcome(Status.FAILED, Reason.EXPIRED, message, now)
        if delivery.handler is None:
            known = ", ".join(self._registry.types()) or "none"
            message = f"no handler for type {job.type!r}; known types: {known}"[:MESSAGE_LIMIT]
            retry = self._config.unknown_type is UnknownType.RETRY
            status = Status.SNOOZED if retry else Status.FAILED
            return delivery.outcome(status, Reason.NO_HANDLER, message, self._clock.now())
        return None

    # --- the handler -------------------------------------------------------------------------

    def _handled(self, delivery: Delivery, held: HeldJob) -> JobResult:
        """Run the handler, with the middleware around it."""
        job = self._context(delivery, held)
        assert delivery.handler is not None
        if (longest := delivery.handler.timeout) is not None:
            # The loop cancels an async handler, which may hold up the loop, or not let itself be cancelled.
            held.begin(longest.total_seconds() + (_TO_BE_CANCELLED if delivery.handler.is_async else 0.0))
        for watcher in self._watchers.started:
            watcher(job=job)
        before = forks.generation
        try:
            outcome = self._chain.execute(job)
        except BaseException as exc:
            if forks.generation != before:
                forks.leave(f"a middleware of {job.type}", exc)
            # A failing middleware counts as a failing handler.
            return outcome_of_exception(job, exc, self._config.default_error)
        if forks.generation != before:
            forks.leave(f"a middleware of {job.type}")
        if isinstance(outcome, JobResult):
            if outcome is ANSWER.get():
                return outcome
            return own(outcome, job, "a middleware answered")
        if outcome is None:
            return self._unanswered(delivery)
        message = f"kessel_execute_job returned {type(outcome).__name__}, not a JobResult"
        return delivery.outcome(Status.FAILED, Reason.ERROR, message, self._clock.now())

    def _unanswered(self, delivery: Delivery) -> JobResult:
        """Return the outcome of a chain that answered nothing, which is no reason to bury a job."""
        # What runs inside of another job sees that job's answer, too.
        if (answer := ANSWER.get()) is not None and answer.id == delivery.id:
            log.error(
                "job %s: a middleware returned nothing instead of the result that it got; the result counts",
                delivery.id,
                extra={"job_id": delivery.id},
            )
            return answer
        message = "nothing ran the handler"
        log.error("job %s: %s; it is given back", delivery.id, message, extra={"job_id": delivery.id})
        return delivery.outcome(Status.SNOOZED, Reason.ERROR, message, self._clock.now())

    def _context(self, delivery: Delivery, held: HeldJob) -> JobContext:
        job, reservation = delivery.job, delivery.reservation
        assert job is not None
        return JobContext(
            job,
            delivery.attempt,
            self._clock,
            self._clock.now(),
            delivery.handler,
            reservation.queue,
            reservation.snoozes,
            reservation.kicks,
            held,
            self,
        )

    # --- what a running job asks for -----------------------------------------------------------

    def follow_up(self, held: Held, job: Job, request: JobRequest) -> Job:
        """Take note of a job that another asks for (S20)."""
        held = cast("HeldJob", held)
        asked = held.asked
        with self._asking:
            if not request.id:
                request = attrs.evolve(request, id=follow_up_id(job, f"follow-up {len(asked)}"))
            if isinstance(request.callback, str) and is_function(request.callback):
                request = attrs.evolve(request, callback=None)  # handed on; the function waits for this job
            follow_up = FollowUp(*self._made(request))
            if callable(request.callback) and follow_up.job.callback is None:
                raise InvalidRequest([Problem(("$", "callback"), _NO_FUNCTION)])
            asked.append(follow_up)
        if held.has_ended:  # looked at last, so that none is left behind in silence
            raise LeaseLost(job.id, "its attempt has ended: what it asks for would not be stored")
        return follow_up.job

    def progress(self, held: Held, job: Job, progress: Progress) -> None:
        """Take note of how far a job is (S27); raises nothing."""
        self._reports.note(cast("HeldJob", held), job.id, progress)

    # --- the decision ------------------------------------------------------------------------

    def _decided(self, delivery: Delivery, outcome: JobResult, held: HeldJob) -> Decision:
        """Look up what happens to a job without success, after collecting what the table needs to know."""
        attempt = held.attempt()
        if attempt != outcome.attempt:
            delivery = delivery._replace(attempt=attempt)
            outcome = attrs.evolve(outcome, attempt=attempt)
        decision = decide(
            self._table,
            outcome,
            attempts_left=attempt < self._allowed(delivery.handler),
            pause=self._pause(delivery, outcome, held),
            now=self._clock.now(),
        )
        return self._possible(decision)

    def _pause(self, delivery: Delivery, outcome: JobResult, held: HeldJob) -> timedelta:
        """Return the pause before the next delivery: the requested one, or that of the retry policy (S11)."""
        if outcome.after is not None:
            return max(plain_span(outcome.after), NO_PAUSE)
        if outcome.status not in (Status.TRANSIENT, Status.SNOOZED) or delivery.job is None:
            return NO_PAUSE
        if outcome.status is Status.SNOOZED:
            # A snooze is not an attempt, but the pauses grow with the number of snoozes all the same.
            delivery = delivery._replace(attempt=delivery.reservation.snoozes + 1)
        try:
            pause = self._chain.retry_pause(job=self._context(delivery, held), result=outcome)
            if not isinstance(pause, timedelta):
                raise TypeError(f"kessel_retry_pause returned {shown(pause)}, not a timedelta")
        except BaseException as exc:  # as of a watcher
            if is_interrupt(exc):
                raise
            log.exception(
                "job %s: a retry policy failed; retrying after a second",
                delivery.id,
                extra={"job_id": delivery.id},
            )
            return _FALLBACK_PAUSE
        return max(plain_span(pause), NO_PAUSE)

    def _possible(self, decision: Decision) -> Decision:
        """Shorten a pause that the queue or the calendar cannot hold, and log that."""
        settlement = decision.settlement
        if not isinstance(settlement, (Rollback, Snooze)):
            return decision
        longest = _LAST_DAY - self._clock.now()
        if self._longest_pause is not None:
            longest = min(longest, self._longest_pause)
        if settlement.pause <= longest:
            return decision
        job_id = decision.result.id
        log.warning(
            "job %s: a pause of %s is longer than the queue can hold; it is cut to %s",
            job_id,
            settlement.pause,
            longest,
            extra={"job_id": job_id},
        )
        return decision._replace(settlement=attrs.evolve(settlement, pause=longest))

    # --- what follows --------------------------------------------------------------------------

    def _following(self, delivery: Delivery, decision: Decision, held: HeldJob) -> Following:
        """Return what has to be stored with the settlement; nearly always `NOTHING`."""
        result = decision.result
        job = result.request
        is_final = result.status in _FINAL
        asked = held.asked and result.status is SUCCESS
        is_told = is_final and job is not None and job.callback is not None and not is_function(job.callback)
        keep = None
        if is_final:  # how long the outcome is kept; None: it is not (S25)
            keep = (delivery.handler.keep if delivery.handler is not None else None) or self._kept.keep
        if not asked and not is_told and keep is None:
            return NOTHING
        jobs = list(held.asked) if asked else []
        if is_told:
            jobs += self._callback_jobs(result, held)
        return Following(tuple(jobs), () if keep is None else self._kept.puts(result, keep))

    def _callback_jobs(self, result: JobResult, held: HeldJob) -> list[FollowUp]:
        """Return the job that tells how this one ended (S22); none, with a log line, if none can be made."""
        job = result.request
        assert job is not None
        kicks = held.kicks()
        job_id = follow_up_id(job, f"callback {kicks}" if kicks else "callback")
        try:
            made = callback_request(result, job, job_id, self._callback_queue, self._made)
        except BaseException as exc:  # it would fail at every attempt, and the job itself has ended
            if is_interrupt(exc):
                raise
            log.error("job %s: nobody is told: %s", job.id, exc, extra={"job_id": job.id})
            return []
        return [FollowUp(*made)]

    def _without_follow_ups(
        self, delivery: Delivery, decision: Decision, refused: EnqueueRejected
    ) -> Decision:
        """Set a job aside whose follow-up the queue refuses for good; never in silence."""
        ended = decision.result
        message = f"its follow-up was refused: {refused}"
        if not ended.ok:
            message += f"; it had failed: {ended.reason}: {ended.message}"
        elif ended.value is not None:
            message += f"; it had returned {dump(ended.value)}"
        message = message[:MESSAGE_LIMIT]
        log.error("job %s: %s", delivery.id, message, extra={"job_id": delivery.id})
        outcome = attrs.evolve(ended, status=Status.FAILED, reason=Reason.FOLLOW_UP_REFUSED, message=message)
        return decide(self._table, outcome)

    def _unwritten(self, delivery: Delivery, decision: Decision, exc: Exception) -> Decision:
        """Set a job aside whose outcome cannot be written: it would be so at every attempt."""
        message = f"its outcome cannot be written: {type(exc).__name__}: {text_of(exc)}"[:MESSAGE_LIMIT]
        log.error("job %s: %s", delivery.id, message, extra={"job_id": delivery.id})
        outcome = attrs.evolve(
            decision.result, status=Status.FAILED, reason=Reason.ERROR, value=None, message=message
        )
        return decide(self._table, outcome)

    def _settled_without(
        self, delivery: Delivery, decision: Decision, held: HeldJob, *, take_next: bool
    ) -> tuple[Following, SettleResult]:
        """Settle a job whose follow-up was refused; its outcome is kept and told as that of any other.

        The job that tells may be refused as well, as by a full queue. Then nobody is told.
        """
        following = self._following(delivery, decision, held)
        stored, settled = self._settling.settle(held, decision, following, take_next=take_next)
        if settled.refused is None:
            return stored, settled
        job_id = delivery.id
        log.error("job %s: nobody is told: %s", job_id, settled.refused, extra={"job_id": job_id})
        return self._settling.settle(held, decision, following._replace(jobs=()), take_next=take_next)

    def _unexpected(self, read: Delivery | None, held: HeldJob, exc: Exception) -> tuple[Delivery, Decision]:
        """Treat an unexpected error as a transient failure (S10).

        Calls no plugin and decodes nothing, because that may be what failed.
        """
        attempt = held.attempt()  # some adapters must ask the backend for the exact number
        delivery = (read or Delivery(held.reservation, attempt))._replace(attempt=attempt)
        log.exception("job %s: unexpected error", delivery.id, extra={"job_id": delivery.id})
        now = self._clock.now()
        message = f"unexpected error: {type(exc).__name__}: {text_of(exc)}"
        outcome = delivery.outcome(Status.TRANSIENT, Reason.ERROR, message, now, after=_FALLBACK_PAUSE)
        left = attempt < self._allowed(delivery.handler)
        return delivery, decide(self._table, outcome, attempts_left=left, pause=_FALLBACK_PAUSE, now=now)

    # --- the report --------------------------------------------------------------------------

    def _report(self, delivery: Delivery, decision: Decision) -> None:
        """Call the watchers and log the end of the job; nothing can change the settlement any more."""
        result = decision.result
        if result.status is not SUCCESS:  # the middleware `logging` tells the others
            log_failure(result, decision.settlement, delivery.reservation.queue)
        for watcher in self._watchers.settled:
            watcher(result=result, settlement=decision.settlement)
        if result.status not in _FINAL:
            return
        for watcher in self._watchers.finished:
            watcher(result=result)


def _completed(job: Job, reservation: Reservation) -> Job:
    """Add what other software may leave out of a body: the id, and the queue that the job is in."""
    queue = reservation.queue if job.queue == DEFAULT_QUEUE else job.queue
    return attrs.evolve(job, id=job.id or reservation.id or "", queue=queue)


def _trace(delivery: Delivery, what: str) -> None:
    log.debug("job %s: %s", delivery.id, what, extra={"job_id": delivery.id, "attempt": delivery.attempt})


def _described(settlement: Settlement) -> str:
    match settlement:
        case Commit():
            return "commit"
        case Snooze(pause):
            return f"snooze of {pause.total_seconds():g} s"
        case Rollback(pause):
            return f"rollback, to be tried again in {pause.total_seconds():g} s"
        case Bury(reason):
            return f"burial ({reason})"

"""Running one request without a queue: everything but the queue takes part."""

from __future__ import annotations

from datetime import timedelta

import attrs

from kessel_core.clock import Clock
from kessel_core.contract.messages import Reservation
from kessel_core.features.callbacks import Callbacks
from kessel_core.model.checks import job_from
from kessel_core.model.job import JobRequest
from kessel_core.model.result import JobResult, Status
from kessel_core.model.settlement import Settlement
from kessel_core.runtime.lease import SETTLED, Ended
from kessel_core.runtime.pipeline import Pipeline
from kessel_core.wire.requests import encode

__all__ = ["run_inline"]


class _NoLease:
    """A job that no queue holds: nothing to extend, nothing to settle."""

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation

    def begin(self, longest: timedelta) -> None:
        return None

    def extend(self) -> None:
        return None

    def attempt(self) -> int:
        return self.reservation.attempt

    def settle(self, settlement: Settlement, *, take_next: bool) -> Ended:
        return SETTLED


def run_inline(pipeline: Pipeline, callbacks: Callbacks, request: JobRequest, clock: Clock) -> JobResult:
    """Run one request now, in this thread; its delay is not waited for.

    Raises:
        InvalidRequest: As at a request.
    """
    job = job_from(attrs.evolve(request, delay=None), clock.now())
    callback = request.callback
    if callback is not None and not isinstance(callback, str):
        callbacks.expect(job.id, callback)
    try:
        result, _ = pipeline.run(_NoLease(Reservation(job.id, job.queue, encode(job), 1)))
    except BaseException:  # the user's own Ctrl-C
        callbacks.forget(job.id)
        raise
    if result.status in (Status.TRANSIENT, Status.SNOOZED):
        callbacks.forget(job.id)  # nobody will run it again
    return result

"""Runs one request without a queue; everything else is as in a worker."""

from __future__ import annotations

from datetime import timedelta

import attrs

from kessel_core.client.jobs import JobMaker
from kessel_core.contract.messages import Reservation
from kessel_core.features.callbacks import Callbacks
from kessel_core.model.job import JobRequest
from kessel_core.model.result import JobResult, Status
from kessel_core.model.settlement import Settlement
from kessel_core.runtime.lease import SETTLED, SettleResult
from kessel_core.runtime.pipeline import Pipeline
from kessel_core.wire.requests import encode

__all__ = ["run_inline"]


class _NoLease:
    """Stands in for the lease of a job that is in no queue: nothing to extend, nothing to settle."""

    def __init__(self, reservation: Reservation) -> None:
        self.reservation = reservation

    def begin(self, longest: timedelta) -> None:
        return None

    def extend(self) -> None:
        return None

    def attempt(self) -> int:
        return self.reservation.attempt

    def settle(self, settlement: Settlement, *, take_next: bool) -> SettleResult:
        return SETTLED


def run_inline(pipeline: Pipeline, callbacks: Callbacks, request: JobRequest, jobs: JobMaker) -> JobResult:
    """Run one request now, in this thread, ignoring its delay.

    Raises:
        InvalidRequest: With every mistake at once (S1).
    """
    job = jobs.job(attrs.evolve(request, delay=None))
    callback = request.callback
    if callback is not None and not isinstance(callback, str):
        callbacks.expect(job.id, callback)
    try:
        result, _ = pipeline.run(_NoLease(Reservation(job.id, job.queue, encode(job), 1)))
    except BaseException:  # Ctrl-C by the user
        callbacks.forget(job.id)
        raise
    if result.status in (Status.TRANSIENT, Status.SNOOZED):
        callbacks.forget(job.id)  # it will not be run again
    return result

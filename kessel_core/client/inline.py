"""Runs one request without a queue; everything else is as in a worker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs

from kessel_core.client.jobs import JobMaker
from kessel_core.client.producer import Producer
from kessel_core.contract.adapter import QueueAdapter, need
from kessel_core.contract.messages import Reservation
from kessel_core.contract.store import Store
from kessel_core.errors import EnqueueRejected, IdHeld
from kessel_core.features.callbacks import Callbacks
from kessel_core.features.progress import Reported
from kessel_core.model.job import JobRequest
from kessel_core.model.result import JobResult
from kessel_core.model.settlement import Bury, Commit, Settlement
from kessel_core.runtime.following import FollowUp
from kessel_core.runtime.held import SETTLED, SettleResult
from kessel_core.runtime.pipeline import Pipeline
from kessel_core.wire.requests import encode

__all__ = ["run_inline"]


class _NoLease:
    """Stands in for the lease of a job that is in no queue: nothing to extend, nothing to settle."""

    def __init__(self, reservation: Reservation, adapter: QueueAdapter) -> None:
        self.reservation = reservation
        self.asked: list[FollowUp] = []
        self.reported: Reported | None = None
        #: Nobody else can get it; but it ends.
        self.is_held = True
        self._adapter = adapter

    def begin(self, longest: float) -> None:
        return None

    def extend(self) -> None:
        return None

    def attempt(self) -> int:
        return self.reservation.attempt

    def kicks(self) -> int:
        return self.reservation.kicks

    def settle(
        self, settlement: Settlement, *, take_next: bool, before: Callable[[], None] | None = None
    ) -> SettleResult:
        self.is_held = False
        try:
            if before is not None:
                before()
            if isinstance(settlement, (Commit, Bury)):
                for put in settlement.puts:
                    need(self._adapter, Store).put(put.space, put.key, put.value, ttl=put.ttl)
                for message in settlement.follow:
                    with suppress(IdHeld):
                        self._adapter.enqueue(message)
        except EnqueueRejected as exc:
            return SettleResult(False, refused=exc)
        return SETTLED


def run_inline(
    pipeline: Pipeline,
    callbacks: Callbacks,
    request: JobRequest,
    producer: Producer,
    jobs: JobMaker,
    adapter: QueueAdapter,
) -> JobResult:
    """Run one request now, in this thread, ignoring its delay.

    Raises:
        InvalidRequest: With every mistake at once (S1).
        AdapterError: What the job brings along could not be stored (S20).
    """
    prepared = attrs.evolve(producer.prepared(request), delay=None)
    job = callbacks.expect(jobs.job(prepared), prepared.callback)
    try:
        result, _ = pipeline.run(_NoLease(Reservation(job.id, job.queue, encode(job), 1), adapter))
    finally:  # it is not run again
        callbacks.forget(job)
    return result

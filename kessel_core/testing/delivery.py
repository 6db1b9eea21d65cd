"""Running one reserved job as a worker does; for test kits and conformance suites."""

from __future__ import annotations

from kessel_core.client.manager import JobManager
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.messages import Reservation
from kessel_core.model.result import JobResult
from kessel_core.runtime.lease import Lease

__all__ = ["run_delivery"]


def run_delivery(manager: JobManager, reservation: Reservation, consumer: Consumer) -> JobResult | None:
    """Take one delivery through decoding, middleware, handler and settlement.

    Args:
        manager: Connected.
        reservation: What the consumer has just reserved.
        consumer: It settles.

    Returns:
        How the attempt ended; None: the queue did not take the settlement, so the job comes again.
    """
    lease = Lease(manager.adapter, consumer, reservation, manager.clock)
    result, ended = manager.pipeline.run(lease)
    return result if ended.is_settled else None

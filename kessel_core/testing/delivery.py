"""Runs one reserved job as a worker does; for test kits and conformance suites."""

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
        manager: A connected manager.
        reservation: The reservation that the consumer holds.
        consumer: The consumer that will settle it.

    Returns:
        How the attempt ended; None: the queue did not accept the settlement, so the job is delivered again.

    Raises:
        KesselError: The manager is not connected.
    """
    lease = Lease(manager.adapter, consumer, reservation, manager.clock)
    result, settled = manager.pipeline.run(lease)
    return result if settled.is_settled else None

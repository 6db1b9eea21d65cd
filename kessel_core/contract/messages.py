"""One delivery of a job, as an adapter hands it to the core."""

from __future__ import annotations

from datetime import timedelta

import attrs

__all__ = ["Reservation"]


@attrs.define(eq=False)
class Reservation:
    """One delivery of one job to one slot; created by the adapter, meaningless once settled.

    Adapters may subclass it to keep what they need, again with `attrs.define(eq=False)`.
    """

    #: The adapter's name for the job, for logs: the job's own id if it is known.
    id: str | None
    #: The queue that the job came from.
    queue: str
    #: The body as it was enqueued.
    body: bytes
    #: Deliveries that count, including this one, as far as known without asking the backend; never more than
    #: there were: a lower bound (S10). `Consumer.attempt` is exact.
    attempt: int
    #: End of the lease on the monotonic clock, measured from *before* the reserve was sent, and moved on
    #: by `extend`; None: no end.
    deadline: float | None = None
    #: Length of this job's lease, to which `extend` renews it; None: it has no end. It belongs to the job
    #: and not to the adapter, because other clients may have stored the job with another one. Never longer
    #: than the real one; an adapter that would have to ask may assume a shorter one until the first `extend`.
    lease: timedelta | None = None
    #: Earlier deliveries that were snoozed and do not count (S21), as far as known.
    snoozes: int = 0
    #: How many times the job was kicked after a burial, as far as known; `Consumer.kicks` is exact.
    kicks: int = attrs.field(default=0, kw_only=True)

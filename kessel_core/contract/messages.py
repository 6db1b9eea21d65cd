"""What travels between the core and an adapter: a job as bytes, and one delivery of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import attrs

__all__ = ["Message", "Reservation"]


@attrs.frozen
class Message:
    """A job as an adapter carries it; everything but `body` is for the adapter's own use."""

    #: The job's id, unique; text of at most 200 characters.
    id: str
    #: Name of the queue; already checked by `queue_name_problem`.
    queue: str
    #: The encoded request; not longer than the declared `max_body_bytes`.
    body: bytes
    #: 0 (most urgent) to 4294967295.
    priority: int
    #: Not to be delivered before; aware; None: at once.
    delay: datetime | None = None
    #: Not to be started after; aware; None: never expires. The core checks it, an adapter may.
    expiration: datetime | None = None


@attrs.define(eq=False)
class Reservation:
    """One delivery of one job to one slot; made by the adapter, meaningless after its settle.

    Adapters may subclass it to keep what they need (`attrs.define(eq=False)` again).
    """

    #: How the adapter names the job, for logs: the job's own id wherever it knows it.
    id: str | None
    #: The queue that it came from.
    queue: str
    #: The body as it was enqueued.
    body: bytes
    #: Deliveries so far that count, this one included, as far as known without asking the backend (S10).
    attempt: int
    #: End of the lease on the clock's monotonic scale, counted from *before* the reserve was
    #: sent and moved on by `extend`; None: no end.
    deadline: float | None = None
    #: Length of this job's lease: what one `extend` gives; None: it has no end. It is the job's own and
    #: not the adapter's, because other clients may have put the job with another one. Never longer than it
    #: is; an adapter that would have to ask for it may give a shorter one until the first `extend`.
    lease: timedelta | None = None
    #: Deliveries before this one that were snoozed, and so do not count (S21), as far as known.
    snoozes: int = 0

"""A job as an adapter carries it: as bytes, with what the adapter needs to know of it."""

from __future__ import annotations

from datetime import datetime

import attrs

__all__ = ["Message"]


@attrs.frozen
class Message:
    """A job as an adapter carries it; all fields except `body` are for the adapter's own use."""

    #: The job's id, unique: text of 1 to 200 characters, any of Unicode but lone surrogates.
    id: str
    #: Name of the queue; already checked by `queue_name_problem`.
    queue: str
    #: The encoded request; not longer than the declared `max_body_bytes`.
    body: bytes
    #: 0 (most urgent) to 4294967295.
    priority: int
    #: Not delivered before this moment; aware; None: at once.
    delay: datetime | None = None
    #: Not started at or after this moment; aware; None: never expires. The core checks it, an adapter may.
    expiration: datetime | None = None

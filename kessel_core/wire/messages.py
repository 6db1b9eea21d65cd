"""Headers that are added to a job whose message is made already."""

from __future__ import annotations

import attrs

from kessel_core.model.job import Job
from kessel_core.model.message import Message
from kessel_core.wire.requests import encode

__all__ = ["labelled"]


def labelled(job: Job, message: Message, wanted: Job, most_bytes: int | None) -> tuple[Job, Message]:
    """Return a job and its message with headers that were added to it.

    Args:
        job: The job without them.
        message: Its message.
        wanted: The job with them.
        most_bytes: What the queue takes; if they make the body longer, they are left out, because the job
            is worth more than they are. None: it has no limit.
    """
    if wanted is job:
        return job, message
    body = encode(wanted)
    if most_bytes is not None and len(body) > most_bytes:
        return job, message
    return wanted, attrs.evolve(message, body=body)

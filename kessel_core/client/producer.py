"""The start of a job's way: from a request to what an adapter carries."""

from __future__ import annotations

from kessel_core.contract.messages import Message
from kessel_core.model.job import (
    JobRequest,
)

__all__ = ["message_of"]


def message_of(request: JobRequest, body: bytes) -> Message:
    """Return what an adapter carries for a prepared request."""
    return Message(request.id, request.queue, body, request.priority, request.not_before, request.not_after)

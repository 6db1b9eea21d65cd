"""The states of a stored job."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["JobState"]


class JobState(StrEnum):
    """The state of a stored job."""

    #: Waiting for a worker.
    READY = "ready"
    #: Waiting for the end of its delay, or of the pause before a retry.
    DELAYED = "delayed"
    #: Held by a worker.
    RESERVED = "reserved"
    #: Set aside until it is kicked or deleted.
    BURIED = "buried"

"""Where a stored job is."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["JobState"]


class JobState(StrEnum):
    """Where a stored job is."""

    #: Waits for a worker.
    READY = "ready"
    #: Waits for its delay, or for the pause before a retry.
    DELAYED = "delayed"
    #: A worker holds it.
    RESERVED = "reserved"
    #: Set aside until it is kicked or deleted.
    BURIED = "buried"

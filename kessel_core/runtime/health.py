"""What a worker says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    pass

__all__ = ["Health"]


@attrs.frozen(kw_only=True)
class Health:
    """What a worker is doing; `ok` is False when somebody should look."""

    #: No slot is dead or disconnected.
    ok: bool
    #: It was started and takes jobs; False before, and from a stop on.
    running: bool
    #: How many jobs it can run at the same time.
    slots: int
    #: Slots that run a job now.
    busy: int
    #: Slots that cannot reach the queue now.
    disconnected: int
    #: Slots whose thread has ended although the worker runs.
    dead: int
    #: Seconds that the longest running job has been running.
    longest: float
    #: Attempts by how they ended: `success`, `failed`, `failed-transient`, `lost`.
    counts: dict[str, int]

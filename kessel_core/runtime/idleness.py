"""Whether slots idle beside waiting jobs: the queue has jobs ready, and nobody here gets one (D9, S38).

Asks the queue at most every few seconds, and only while a slot is idle; what it learns it forgets with the
next attempt. No thread of its own: whoever asks for the health pays for the look.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.errors import AdapterError

__all__ = ["Idleness"]

#: Seconds between two looks; a job that is ready at two of them, while a slot idles and none has ended an
#: attempt, was not merely on its way.
_EVERY: Final = 3.0


class Idleness:
    """The memory between two questions for the health of a worker. Thread-safe."""

    def __init__(self, adapter: QueueAdapter, queues: Sequence[str], clock: Clock) -> None:
        self._adapter = adapter
        self._queues = queues
        self._clock = clock
        self._lock = threading.Lock()
        #: When the queue was asked last, what had been done by then, and where jobs were waiting.
        self._looked_at: float | None = None
        self._progress: object = None
        self._waiting: frozenset[str] = frozenset()
        self._reason = ""

    def reason(self, idle: int, progress: object) -> str:
        """Return what is wrong, or "".

        Args:
            idle: How many slots wait for a job and can reach the queue.
            progress: Changes whenever a slot has got a job.
        """
        with self._lock:
            if not idle or progress != self._progress:
                self._waiting, self._reason = frozenset(), ""
            if not idle:
                return ""
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at >= _EVERY:
                self._look(idle, now, progress)
            return self._reason

    def _look(self, idle: int, now: float, progress: object) -> None:
        self._looked_at, self._progress = now, progress
        try:
            counts = [self._adapter.stats(queue) for queue in self._queues]
        except AdapterError:
            return  # that it cannot be reached is for the slots to notice
        waiting = {count.queue: count.ready for count in counts if count.ready and count.paused is None}
        stuck = self._waiting.intersection(waiting)
        self._waiting = frozenset(waiting)
        jobs = ", ".join(f"{waiting[queue]:,} in queue {queue}" for queue in sorted(stuck))
        self._reason = f"{idle} of the slots idle although jobs are ready: {jobs}" if stuck else ""

"""Whether the queue can be reached, and whether slots idle beside waiting jobs (D9, S38).

Asks the queue at most every few seconds; what it learns of waiting jobs it forgets with the next attempt. No
thread of its own: whoever asks for the health pays for the look. A look may hang with the queue, so what the
last one has shown can be read meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import attrs

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.operations import QueueStats
from kessel_core.errors import AdapterError
from kessel_core.values.durations import duration_text
from kessel_core.values.logs import get_logger
from kessel_core.values.raised import said
from kessel_core.values.secrets import without_secrets

__all__ = ["LOOK_EVERY", "Idleness", "Seen"]

log = get_logger("kessel.health")

#: Seconds between two looks; a job that is ready at two of them, while a slot idles and none has ended an
#: attempt, was not merely on its way.
LOOK_EVERY: Final = 2.0
#: Seconds between two looks while every slot runs a job: only whether the queue answers is of interest.
_BUSY_EVERY: Final = 15.0
#: A queue that has not answered for so many seconds counts as one that cannot be reached.
_PATIENCE: Final = 10.0


@attrs.frozen
class Seen:
    """What the last look has shown, in words for people; "" where all is well."""

    #: Slots idle although jobs are ready, at two looks in a row.
    idle: str = ""
    #: The same for so long that restarting the process would help.
    deaf: str = ""
    #: Why the queue cannot be reached.
    away: str = ""


@attrs.frozen
class _Waiting:
    """Jobs that were ready at each look since then, and none of which anybody took."""

    since: float
    stats: QueueStats

    def is_moved(self, now: QueueStats) -> bool:
        """Whether jobs were taken meanwhile, here or elsewhere."""
        return now.ready < self.stats.ready or now.reserved != self.stats.reserved


class Idleness:
    """The memory between two questions for the health of a worker. Thread-safe.

    Args:
        adapter: The queue.
        queues: Names of the queues that the worker serves.
        clock: The application's clock; only its monotonic time is used.
        deaf_after: How long jobs must wait beside an idle slot until it counts as deaf.
    """

    def __init__(
        self, adapter: QueueAdapter, queues: Sequence[str], clock: Clock, deaf_after: timedelta
    ) -> None:
        self._adapter = adapter
        self._queues = queues
        self._clock = clock
        self._deaf_after = deaf_after.total_seconds()
        self._lock = threading.Lock()
        #: When the queue was asked last, what had been done by then, and where jobs were waiting.
        self._looked_at: float | None = None
        self._progress: object = None
        self._waiting: dict[str, _Waiting] = {}
        self._seen = Seen()
        #: Since when the queue is being asked; None: it is not.
        self._asking_since: float | None = None

    @property
    def seen(self) -> Seen:
        """What the last look has shown; does not wait for one."""
        since = self._asking_since
        if since is not None and (lasts := self._clock.monotonic() - since) >= _PATIENCE:
            return attrs.evolve(self._seen, away=f"the queue has not answered for {lasts:.0f} s")
        return self._seen

    def look(self, idle: int, idle_since: float | None, progress: object) -> Seen:
        """Ask the queue if it is time to, and return what is known.

        Args:
            idle: How many slots wait for a job.
            idle_since: Since when the one that has waited longest does so, on the monotonic clock; None: none
                waits, or it has only begun.
            progress: Changes whenever a slot has got a job.
        """
        with self._lock:
            if not idle or progress != self._progress:
                self._waiting, self._seen = {}, attrs.evolve(self._seen, idle="", deaf="")
            now = self._clock.monotonic()
            every = LOOK_EVERY if idle or self._seen.away else _BUSY_EVERY
            if self._looked_at is None or now - self._looked_at >= every:
                self._asking_since = now
                try:
                    self._seen = self._look(idle, idle_since, now)
                finally:
                    self._looked_at, self._progress = now, progress
                    self._asking_since = None
        return self.seen

    def _look(self, idle: int, idle_since: float | None, now: float) -> Seen:
        before, self._waiting = self._waiting, {}
        try:
            counts = [self._adapter.stats(queue) for queue in self._queues]
        except AdapterError as exc:
            return Seen(away=f"the queue cannot be reached: {without_secrets(str(exc))}")
        except Exception as exc:  # an adapter that fails in its own way
            log.debug("the queue could not be looked at", exc_info=True)
            return Seen(away=f"the queue cannot be asked: {said(exc)}")
        if not idle:
            return Seen()
        # Nobody has seen what happened between looks that are far from each other.
        is_watched = self._looked_at is not None and now - self._looked_at <= self._deaf_after / 2
        for stats in counts:
            if stats.ready and stats.paused is None:
                known = before.get(stats.queue) if is_watched else None
                since = now if known is None or known.is_moved(stats) else known.since
                self._waiting[stats.queue] = _Waiting(since, stats)
        again = [waiting for queue, waiting in sorted(self._waiting.items()) if queue in before]
        if not again:
            return Seen()
        jobs = ", ".join(f"{one.stats.ready:,} in queue {one.stats.queue}" for one in again)
        text = f"{idle} of the slots idle although jobs are ready: {jobs}"
        if idle_since is None or now - max(idle_since, min(one.since for one in again)) < self._deaf_after:
            return Seen(idle=text)
        after = duration_text(timedelta(seconds=self._deaf_after))
        return Seen(idle=text, deaf=f"{text}; none was taken for {after}")

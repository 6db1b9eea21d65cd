"""What time does to the jobs of a store: delays, leases and pauses end, and in which order.

`tick` is the one place where time changes anything. It runs before every operation once a bound has passed
(`next_due` on the wall clock, `next_mono` on the monotonic one); the bounds may be too early, never too late.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Final

from kessel_core import Clock
from kessel_core.contract import JobState, TieBreak
from kessel_memory.options import MemoryOptions
from kessel_memory.queue import DelayedEntry, Job, MemoryQueue
from kessel_memory.waiting import WaitingConsumers

__all__ = ["NEVER", "NOISE", "Timers"]

#: A bound that no time reaches.
NEVER: Final = math.inf
#: Sums of float seconds are a little off; spans shorter than this are rounding, not time.
NOISE: Final = 1e-7
# A jump of the wall clock wakes nobody, so that a wait for a date looks at it once a minute.
_LONGEST_SLEEP: Final = 60.0
_MICROSECOND: Final = timedelta(microseconds=1)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_WAITING: Final = (JobState.DELAYED, JobState.RESERVED)


class Timers(WaitingConsumers):
    """The queues of a store, and when time next changes something in them."""

    def __init__(self, options: MemoryOptions, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        # Reentrant: a signal handler that cancels a consumer may have interrupted its own thread here.
        self.lock = threading.RLock()
        self.queues: dict[str, MemoryQueue] = {}
        #: When the first delay ends, on the wall clock; None: no job is delayed.
        self.next_due: datetime | None = None
        #: When the first lease or pause ends, on the monotonic scale.
        self.next_mono = NEVER
        #: Place among equals of the job that became ready last (S6).
        self.last_number = 0
        self._renumbers = options.tie_break is TieBreak.READY

    def begin_anew(self) -> None:
        """Begin anew, without queues, times and those who wait."""
        super().begin_anew()
        self.queues.clear()
        self.next_due, self.next_mono = None, NEVER

    def catch_up(self) -> None:
        """Call `tick` if a bound has passed."""
        is_due = self.next_due is not None and self.clock.now() >= self.next_due
        if is_due or self.clock.monotonic() >= self.next_mono:
            self.tick()

    def tick(self) -> None:
        """Make ready what time has made ready, in the order of the moments when it did."""
        now, mono = self.clock.now(), self.clock.monotonic()
        over = mono + NOISE
        back: list[DelayedEntry] = []
        resumed: list[MemoryQueue] = []
        next_due: datetime | None = None
        next_mono = NEVER
        try:
            for queue in self.queues.values():
                while (entry := queue.live_delayed()) is not None and entry[0] <= now:
                    back.append(entry)
                    heappop(queue.delayed)
                if entry is not None and (next_due is None or entry[0] < next_due):
                    next_due = entry[0]
                while queue.reserved:
                    reservation, job = next(iter(queue.reserved.items()))
                    if job.deadline > over:
                        next_mono = min(next_mono, job.deadline)
                        break
                    back.append((now - timedelta(seconds=mono - job.deadline), job.number, job))
                    del queue.reserved[reservation]
                if queue.paused_until is not None:
                    if queue.paused_until > over:
                        next_mono = min(next_mono, queue.paused_until)
                    else:
                        resumed.append(queue)
                        queue.paused_until = None
            self.next_due, self.next_mono = next_due, next_mono - NOISE if next_mono < NEVER else NEVER
            back.sort()
            for _, _, job in back:
                self.make_ready(job)
        except BaseException:  # a signal's handler has raised
            self._put_back(back)
            raise
        for queue in resumed:
            self.wake_all(queue)

    def _put_back(self, back: list[DelayedEntry]) -> None:
        """Put among the delayed jobs what was about to become ready; it does at the next call."""
        for queue in {job.queue for _, _, job in back}:
            there = {id(job) for _, _, job in queue.delayed} | {id(job) for job in queue.reserved.values()}
            for moment, number, job in back:
                if job.queue is queue and job.state in _WAITING and id(job) not in there:
                    job.state, job.due = JobState.DELAYED, moment
                    heappush(queue.delayed, (moment, number, job))
        self.next_due = _LONG_AGO

    def make_ready(self, job: Job) -> None:
        """Put a job among the ready ones, and wake one consumer for it."""
        if self._renumbers:
            self.last_number = job.number = self.last_number + 1
        job.state = JobState.READY
        queue = job.queue
        heappush(queue.ready, (job.message.priority, job.number, job))
        if queue.waiters:
            self.wake_one(queue)

    def delay(self, job: Job, due: datetime) -> None:
        """Put a job among the delayed ones."""
        job.state = JobState.DELAYED
        job.due = due
        heappush(job.queue.delayed, (due, job.number, job))
        if self.next_due is None or due < self.next_due:
            self.next_due = due
            self.wake_timekeeper()

    def set_bound(self, moment: float) -> None:
        """Let `tick` run at a moment on the monotonic scale; it must be nearer than the bound so far."""
        self.next_mono = moment - NOISE
        self.wake_timekeeper()

    @property
    def is_time_awaited(self) -> bool:
        """Whether time alone will change anything."""
        return self.next_due is not None or self.next_mono < NEVER

    def until_next_bound(self) -> float:
        """Return the seconds that a timekeeper may sleep."""
        seconds = NEVER
        if self.next_due is not None:
            seconds = min(_LONGEST_SLEEP, (self.next_due - self.clock.now()).total_seconds())
        if self.next_mono < NEVER:
            seconds = min(seconds, self.next_mono + NOISE - self.clock.monotonic())
        return max(0.0, seconds)

    def next_change(self, names: Iterable[str]) -> datetime | None:
        """Return when time alone next makes a job of these queues deliverable."""
        self.catch_up()
        now, mono = self.clock.now(), self.clock.monotonic()

        def on_the_wall(moment: float) -> datetime:
            return now + max(_MICROSECOND, _rounded_up(moment - mono - NOISE))

        found: datetime | None = None
        for name in names:
            queue = self.queues.get(name)
            if queue is None:
                continue
            entry = queue.live_delayed()
            moments = [entry[0]] if entry is not None else []
            if queue.reserved:
                moments.append(on_the_wall(next(iter(queue.reserved.values())).deadline))
            if queue.paused_until is not None:
                resumes = on_the_wall(queue.paused_until)
                moments = [resumes] if queue.ready_count else [max(moment, resumes) for moment in moments]
            found = min(moments if found is None else [found, *moments], default=None)
        return found


def _rounded_up(seconds: float) -> timedelta:
    return timedelta(microseconds=math.ceil(seconds * 1_000_000))

"""Who waits for a job, and who is woken for what.

1.  A job that becomes ready wakes one consumer, the one that has waited longest for its queue.
2.  One of those that wait is the timekeeper: it also wakes up at the next moment at which time makes a job
    ready. The others sleep until they are woken. When that moment moves nearer, the timekeeper is woken, and
    reckons anew how long to sleep.
3.  A consumer that is woken has left the line at once, so that the next job wakes the next consumer.
4.  A consumer that stops waiting without a job wakes the next in line for what is ready in its queues; and if
    there is no timekeeper now, the first in line is woken, and becomes it.

Everything is called with the store's lock held.
"""

from __future__ import annotations

from kessel_memory.queue import MemoryQueue, Waiter

__all__ = ["WaitingConsumers"]


class WaitingConsumers:
    """The line of those who wait; each stands in the line of each of its queues as well."""

    def __init__(self) -> None:
        #: Longest waiting first.
        self.waiting: dict[Waiter, None] = {}
        #: Who keeps the time for all; None: nobody waits, or the one that did has left.
        self.timekeeper: Waiter | None = None

    def begin_anew(self) -> None:
        """Begin anew, with an empty line."""
        self.waiting.clear()
        self.timekeeper = None

    def join(self, waiter: Waiter) -> bool:
        """Enter the line; return whether this waiter keeps the time from now on."""
        self.waiting[waiter] = None
        for queue in waiter.queues:
            queue.waiters[waiter] = None
        if self.timekeeper is not None:
            return False
        self.timekeeper = waiter
        return True

    def leave(self, waiter: Waiter) -> None:
        """Leave the line; nothing happens if it has left already."""
        if self.timekeeper is waiter:
            self.timekeeper = None
        if waiter in self.waiting:
            del self.waiting[waiter]
            for queue in waiter.queues:
                queue.waiters.pop(waiter, None)

    def hand_on(self, waiter: Waiter, *, took: bool, is_time_awaited: bool) -> None:
        """Wake those who must do what a waiter that has left may have been woken for.

        Args:
            waiter: It has left.
            took: Whether it took a job.
            is_time_awaited: Whether time will make something ready, so that somebody has to keep it.
        """
        if not took:
            for queue in waiter.queues:
                if queue.waiters and queue.ready_count:
                    self.wake_one(queue)
        if is_time_awaited and self.timekeeper is None and self.waiting:
            self._wake(next(iter(self.waiting)))

    def wake_one(self, queue: MemoryQueue) -> None:
        """Wake the one that has waited longest for a queue, for one job; somebody must wait for it."""
        if queue.paused_until is None:
            self._wake(next(iter(queue.waiters)))

    def wake_all(self, queue: MemoryQueue) -> None:
        """Wake as many consumers as the queue has ready jobs."""
        for waiter in list(queue.waiters)[: queue.ready_count]:
            self._wake(waiter)

    def wake_timekeeper(self) -> None:
        """Let the timekeeper, if there is one, reckon anew how long to sleep."""
        if self.timekeeper is not None:
            self.timekeeper.condition.notify()

    def cancel(self, waiter: Waiter) -> None:
        """Make its waiting, and any later one, end."""
        waiter.cancelled = True
        waiter.condition.notify()

    def _wake(self, waiter: Waiter) -> None:
        self.leave(waiter)
        waiter.condition.notify()

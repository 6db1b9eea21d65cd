"""The heartbeat of a worker: extends the leases of running jobs until every slot has ended (S7)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from math import inf

from kessel_core.clock import Clock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.errors import AdapterError
from kessel_core.runtime.lease import Lease
from kessel_core.runtime.stopping import StopSwitch
from kessel_core.runtime.threads import new_thread

__all__ = ["Heartbeat", "beat"]


class Heartbeat:
    """One thread per worker; it starts with the first lease that it is told about.

    Args:
        adapter: The open adapter.
        leases: Returns the leases of the running jobs.
        stop: Ends the heartbeat when the grace period is over.
        is_over: Whether every slot has ended; called with `stop.changed` held.
        clock: The application's clock.
        every: Time between two beats, more than zero; None: a third of the shortest lease so far.
    """

    def __init__(
        self,
        adapter: QueueAdapter,
        leases: Callable[[], Iterable[Lease]],
        stop: StopSwitch,
        is_over: Callable[[], bool],
        clock: Clock,
        every: timedelta | None = None,
    ) -> None:
        self._adapter = adapter
        self._leases = leases
        self._stop = stop
        self._is_over = is_over
        self._clock = clock
        self._configured = every.total_seconds() if every is not None else inf
        self._every = self._configured
        #: The shortest lease so far; a third of it is `_every` unless configured. Kept, because comparing
        #: is faster than dividing.
        self._shortest = timedelta.max
        self._thread: threading.Thread | None = None

    def notice(self, lease: timedelta) -> None:
        """Beat often enough for a lease of this length; each job has its own. Thread-safe."""
        if lease >= self._shortest:
            return
        with self._stop.changed:
            third = lease.total_seconds() / 3
            # The configured interval suits ordinary leases; no lease may end between two beats.
            self._every = min(self._every, third if self._configured == inf else 2 * third)
            if self._thread is None:
                thread = new_thread(self._run, "kessel-heartbeat", self._clock)
                thread.start()
                self._thread = thread
            # Last, because a thread that could not be started is tried again with the next lease.
            self._shortest = lease
            self._stop.changed.notify_all()

    def _run(self) -> None:
        changed = self._stop.changed
        while True:
            with changed:
                if self._is_over():
                    return
                self._clock.wait(changed, self._every)
                if self._is_over() or self._stop.is_overdue:
                    return
                every = self._every  # read now, because a shorter lease may have come during the wait
            beat(self._adapter, self._leases(), self._clock.monotonic(), every, self._configured)


def beat(
    adapter: QueueAdapter, leases: Iterable[Lease], now: float, every: float, sooner: float = inf
) -> None:
    """Extend those leases that are due, in one call; see `Lease.is_due`. Raises nothing."""
    due = [lease for lease in leases if lease.is_due(now, every, sooner)]
    if not due:
        return
    try:
        outcomes = adapter.extend_many([(lease.consumer, lease.reservation) for lease in due])
        if len(outcomes) != len(due):
            raise AdapterError(f"the adapter extended {len(due)} leases with {len(outcomes)} outcomes")
    except Exception as exc:  # any, because the next beat must come
        outcomes = [exc] * len(due)
    for lease, outcome in zip(due, outcomes, strict=True):
        lease.note_extension(outcome)

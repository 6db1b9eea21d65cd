"""The heartbeat of a worker: extends the leases of running jobs until every slot has ended (S7)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from math import inf

from kessel_core.clock import Clock
from kessel_core.runtime.lease import Lease
from kessel_core.runtime.stopping import StopSwitch

__all__ = ["Heartbeat"]


class Heartbeat:
    """One thread for a worker; it starts with the first lease that it is told of.

    Args:
        leases: Gives the leases of the jobs that run now.
        stop: Ends it when the grace period is over.
        is_over: Whether every slot has ended; asked with `stop.changed` held.
        clock: The application's.
        every: Between two beats, more than zero; None: a third of the shortest lease that was seen.
    """

    def __init__(
        self,
        leases: Callable[[], Iterable[Lease]],
        stop: StopSwitch,
        is_over: Callable[[], bool],
        clock: Clock,
        every: timedelta | None = None,
    ) -> None:
        self._leases = leases
        self._stop = stop
        self._is_over = is_over
        self._clock = clock
        self._configured = every.total_seconds() if every is not None else inf
        self._every = self._configured
        #: A third of this is `_every` unless configured; spans compare quicker than they are divided.
        self._shortest = timedelta.max
        self._thread: threading.Thread | None = None

    def notice(self, lease: timedelta) -> None:
        """Beat often enough for a lease of this length; a lease is the job's own, not the adapter's."""
        if lease >= self._shortest:
            return
        with self._stop.changed:
            self._shortest = lease
            third = lease.total_seconds() / 3
            # A configured pause is for ordinary leases; no lease may end between two beats.
            self._every = min(self._every, third if self._configured == inf else 2 * third)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kessel-heartbeat", daemon=True)
                self._thread.start()
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
                every = self._every  # until the next beat; a shorter lease may have come meanwhile
            now = self._clock.monotonic()
            for lease in self._leases():
                lease.beat(now, every, self._configured)

"""One delivery of a job, and what is known of its lease.

The lease that is assumed is never longer than the job's own, whoever put it and whatever its body looks
like: until the server was asked it is the shortest that a job can have.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import attrs

from kessel_beanstalk.commands import JobStats
from kessel_beanstalk.records import NOTHING, Base
from kessel_core.contract import JobState, LeaseLost, Reservation, Settlement

__all__ = ["SHORTEST_LEASE", "BeanstalkReservation"]

#: The protocol makes a ttr of 0 to 1 second; no job has a shorter one.
SHORTEST_LEASE: Final = timedelta(seconds=1)


def _by_nobody(reservation: Reservation, _: Settlement) -> None:
    raise LeaseLost(reservation.id, "no consumer holds it")


@attrs.define(eq=False)
class BeanstalkReservation(Reservation):
    """A delivery, bound to the connection that it came over.

    `lease` and `deadline` are the shortest possible ones until the server was asked, by an `extend` at
    the latest; `attempt` and `snoozes` are a first delivery's.
    """

    #: The server's number of the job.
    server_id: int = 0
    #: Of the connection; the number alone would mean another job after some restarts (rule 4).
    generation: int = 0
    #: When the reserve was about to be sent, or the lease last renewed, on the clock's monotonic scale.
    started: float = 0.0
    #: Settles it over that connection; for any thread.
    settled_by: Callable[[Reservation, Settlement], None] = _by_nobody
    #: What the server says of the job; None until it was asked.
    stats: JobStats | None = None
    #: From where its attempts are counted; known when the stats are.
    base: Base = NOTHING

    def learn(self, stats: JobStats, base: Base, asked: float) -> None:
        """Take over what the server says, asked at that time on the monotonic scale."""
        self.stats = stats
        self.base = base
        self.queue = stats.tube
        self.attempt = base.attempt(stats.reserves)
        self.snoozes = base.snoozes
        self.lease = timedelta(seconds=stats.ttr)
        self.deadline = self.started + stats.ttr  # at least: the lease began after the reserve was sent
        if stats.state is JobState.RESERVED:  # by us; if not, the server will refuse us
            self.deadline = max(self.deadline, asked + stats.time_left)

    def begin_lease(self, now: float) -> None:
        """Note a touch that was about to be sent then; the stats are known."""
        assert self.lease is not None
        self.started = now
        self.deadline = now + self.lease.total_seconds()

"""One delivery of a job, and what is known about its lease.

The assumed lease is never longer than the real one, whoever put the job and whatever its body looks like:
until the server has been asked, it is the shortest that a job can have.
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

#: The server turns a ttr of 0 into 1 second, so no job has a shorter one.
SHORTEST_LEASE: Final = timedelta(seconds=1)


def _by_nobody(reservation: Reservation, _: Settlement) -> None:
    raise LeaseLost(reservation.id, "no consumer holds it")


@attrs.define(eq=False)
class BeanstalkReservation(Reservation):
    """A delivery, bound to the connection that it came over.

    Until the server has been asked, by the first `extend` at the latest, `lease` and `deadline` are the
    shortest possible ones, and `attempt` and `snoozes` those of a first delivery.
    """

    #: Id of the job on the server.
    server_id: int = 0
    #: Generation of the connection; after some restarts the id alone may mean another job (rule 4).
    generation: int = 0
    #: When the reserve was sent, or the lease last renewed, on the monotonic clock.
    started: float = 0.0
    #: Settles it over that connection; thread-safe.
    settled_by: Callable[[Reservation, Settlement], None] = _by_nobody
    #: The server's statistics of the job; None until it was asked.
    stats: JobStats | None = None
    #: What its attempts are counted from; known together with `stats`.
    base: Base = NOTHING

    def learn(self, stats: JobStats, base: Base, asked: float) -> None:
        """Apply the server's statistics; `asked` is when they were requested, on the monotonic clock."""
        self.stats = stats
        self.base = base
        self.queue = stats.tube
        self.attempt = base.attempt(stats.reserves)
        self.snoozes = base.snoozes
        self.lease = timedelta(seconds=stats.ttr)
        self.deadline = self.started + stats.ttr  # at least: the lease began after the reserve was sent
        if stats.state is JobState.RESERVED:  # by us; if not, the server will refuse to settle
            self.deadline = max(self.deadline, asked + stats.time_left)

    def begin_lease(self, now: float) -> None:
        """Record a touch that was sent at this time, on the monotonic clock; `stats` must be known."""
        assert self.lease is not None
        self.started = now
        self.deadline = now + self.lease.total_seconds()

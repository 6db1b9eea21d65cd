"""The adapter: what kessel asks, as calls of the script on the server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import attrs
from kessel_core.contract import (
    AdapterContext,
    Attempts,
    BaseAdapter,
    Browse,
    Buried,
    Capabilities,
    Delete,
    Durability,
    EnqueueRejected,
    EnqueueUnknown,
    IdHeld,
    JobState,
    LeaseLost,
    LeaseReturn,
    Message,
    Pause,
    ProtocolError,
    QueueStats,
    Reach,
    Reservation,
    StoredJob,
    TieBreak,
    UnknownJob,
    rounded_up,
)

from kessel_adapter_redis_scripts.plugin import RedisOptions
from kessel_adapter_redis_scripts.server import Server, Unanswered

__all__ = ["RedisAdapter"]

GRANULE: Final = timedelta(milliseconds=1)
#: Times are microseconds in the numbers of Lua, which are exact until the year 2255.
LONGEST: Final = timedelta(days=36_500)
_MICROSECOND: Final = timedelta(microseconds=1)
_SETS: Final = {
    JobState.READY: "ready",
    JobState.DELAYED: "waiting",
    JobState.RESERVED: "held",
    JobState.BURIED: "buried",
}
_STATES: Final = {name.encode(): state for state, name in _SETS.items()}


@attrs.define(eq=False)
class RedisReservation(Reservation):
    """Remembers which delivery of which job it is."""

    number: bytes = attrs.field(kw_only=True)
    delivery: int = attrs.field(kw_only=True)


def _micros(span: timedelta) -> int:
    return min(span, LONGEST) // _MICROSECOND


def _moment(micros: bytes) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + int(micros) * _MICROSECOND


class RedisAdapter(Browse, Buried, Delete, Pause, BaseAdapter):
    """Keeps jobs in one Redis, from version 6.2. The server's clock counts delays and leases."""

    name = "redis-scripts"

    def __init__(self, options: RedisOptions, context: AdapterContext) -> None:
        super().__init__(context)
        self._lease = options.lease
        self._server = Server(options)
        self._durability = self._proved_durability()

    def _proved_durability(self) -> Durability:
        """Read from the server what survives: only with this setting is an answer sent after the write."""
        try:
            found = self._server.ask("CONFIG GET", "append*")
        except ProtocolError:  # it is not for this user to ask
            return Durability.NONE
        settings = dict(zip(found[::2], found[1::2], strict=True))
        is_synced = settings[b"appendonly"] == b"yes" and settings[b"appendfsync"] == b"always"
        return Durability.POWER if is_synced else Durability.NONE

    @property
    def capabilities(self) -> Capabilities:
        """What the suite proves."""
        return Capabilities(
            reach=Reach.NETWORK,
            durability=self._durability,
            delay_granularity=GRANULE,
            longest_delay=LONGEST,
            priorities=(0, 4294967295),
            tie_break=TieBreak.ENQUEUED,
            lease=self._lease,
            lease_return=LeaseReturn.LEASE_END,
            fencing=True,
            attempts=Attempts.DURABLE,
            dedupe=True,
            counts=True,
        )

    def put(self, message: Message) -> None:
        """Store one job; an id that is still here, in any queue, is refused."""
        span = message.delay - self.clock.now() if message.delay is not None else timedelta(0)
        if span > LONGEST:
            raise EnqueueRejected(message.id, f"it is delayed by more than {LONGEST}", "out-of-range")
        delay = _micros(rounded_up(span, GRANULE))
        what = (message.queue, message.id, message.priority, delay, message.body)
        try:
            holder = self._server.call("put", [message.queue], *what)
        except Unanswered as exc:
            raise EnqueueUnknown(message.id, str(exc)) from exc
        except ProtocolError as exc:
            is_full = "OOM" in str(exc)
            raise EnqueueRejected(message.id, str(exc), "full" if is_full else "refused") from exc
        if holder is not None:
            number, _, queue = holder.decode().partition(" ")
            state = self._server.call("state", [queue], number)
            # A job that is gone by now was held a moment ago.
            raise IdHeld(message.id, _STATES.get(state, JobState.RESERVED))

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        """Hold the most urgent job that is ready, the oldest among equals."""
        deadline = self.clock.monotonic() + self._lease.total_seconds()
        found = self._server.call("take", queues, _micros(self._lease))
        if found is None:
            return None
        index, number, delivery, job_id, body, attempts, snoozes = found
        what = (job_id.decode(), queues[index - 1], body, attempts, deadline, self._lease, snoozes)
        return RedisReservation(*what, number=number, delivery=delivery)

    def _settled(self, operation: str, reservation: Reservation, *arguments: object) -> None:
        assert isinstance(reservation, RedisReservation)
        held = (reservation.number, reservation.delivery)
        if not self._server.call(operation, [reservation.queue], *held, *arguments):
            raise LeaseLost(reservation.id, "its lease ended, or the job was settled")

    def commit(self, reservation: Reservation) -> None:
        """Remove the job."""
        self._settled("commit", reservation)

    def release(self, reservation: Reservation, pause: timedelta, *, counts: bool) -> None:
        """Make the job ready again; a snooze does not count as an attempt."""
        self._settled("release", reservation, _micros(pause), int(counts))

    def bury(self, reservation: Reservation, reason: str, message: str) -> None:
        """Set the job aside."""
        self._settled("bury", reservation, reason, message)

    def renew(self, reservation: Reservation) -> None:
        """Give the job its full lease again, from now."""
        self._settled("renew", reservation, _micros(self._lease))

    def queues(self) -> list[str]:
        """Return the names of the queues that hold jobs."""
        return sorted(name for name in self._server.names() if self.stats(name).total)

    def stats(self, queue: str) -> QueueStats:
        """Count the jobs by state."""
        ready, delayed, reserved, buried, left = self._server.call("stats", [queue])
        return QueueStats(
            queue=queue,
            ready=ready,
            delayed=delayed,
            reserved=reserved,
            buried=buried,
            paused=left * _MICROSECOND if left else None,
        )

    def purge(self, queue: str) -> int:
        """Remove everything that nobody holds."""
        count: int = self._server.call("purge", [queue])
        return count

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Show jobs in a state: ready ones in the order of delivery, others by their times."""
        found = self._server.call("peek", [queue], _SETS[state], limit)
        is_buried, waits = state is JobState.BURIED, state in (JobState.DELAYED, JobState.RESERVED)
        return [
            StoredJob(
                id=job_id.decode(),
                queue=queue,
                state=state,
                body=body,
                priority=int(priority),
                attempt=int(attempts),
                snoozes=int(snoozes),
                enqueued_at=_moment(enqueued),
                due=_moment(score) if waits else None,
                reason=reason.decode() if is_buried else None,
                message=message.decode() if is_buried else None,
                buried_at=_moment(score) if is_buried else None,
            )
            for score, job_id, body, priority, attempts, snoozes, _, enqueued, reason, message in found
        ]

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """Show what was set aside, oldest burial first."""
        return self.peek(queue, JobState.BURIED, limit)

    def kick(self, queue: str, job_id: str) -> None:
        """Make a buried job ready; its attempts begin anew."""
        if not self._server.call("kick", [queue], job_id):
            raise UnknownJob(job_id, queue)
        self.announce(queue)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that nobody holds."""
        if not self._server.call("delete", [queue], job_id):
            raise UnknownJob(job_id, queue)

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for a while; zero ends a pause."""
        self._server.call("pause", [queue], _micros(rounded_up(duration, GRANULE)))
        self.line.wake()  # whoever waits looks again

    def shut(self) -> None:
        """Close all connections."""
        self._server.close()

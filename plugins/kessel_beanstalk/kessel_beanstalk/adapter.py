"""The adapter: assembles its parts, and declares what the live server can do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from kessel_beanstalk.commands import ServerFacts
from kessel_beanstalk.consumer import BeanstalkConsumer
from kessel_beanstalk.delivery import BeanstalkReservation
from kessel_beanstalk.doctor import examine
from kessel_beanstalk.operations import Operations
from kessel_beanstalk.options import MAX_NUMBER, BeanstalkOptions
from kessel_beanstalk.producer import Producer
from kessel_beanstalk.server import ADAPTER_NAME
from kessel_beanstalk.shared import Shared
from kessel_core.contract import (
    AdapterContext,
    AdapterError,
    AdapterUnavailable,
    Attempts,
    Browse,
    Buried,
    Capabilities,
    Consumer,
    Delete,
    DoctorContext,
    Durability,
    Finding,
    JobState,
    LeaseLost,
    LeaseReturn,
    Message,
    Pause,
    QueueAdapter,
    QueueStats,
    Reach,
    Reservation,
    Snooze,
    StoredJob,
    TieBreak,
    queue_name_problem,
)

__all__ = ["BeanstalkAdapter"]

_SECOND = timedelta(seconds=1)


class BeanstalkAdapter(QueueAdapter, Browse, Buried, Delete, Pause):
    """beanstalkd. Connects when it is created, to read the server's limits.

    A `QueueAdapter` and not a `BaseAdapter`: each slot has its own connection, on which the server waits for
    jobs, so there is no line of waiting slots, and no call that any thread may make.

    Raises:
        AdapterUnavailable: The server cannot be reached.
        ProtocolError: The server that answers is not beanstalkd.
        CapabilityMissing: `require_durable` is set, and the server has no binlog.
    """

    name: ClassVar[str] = ADAPTER_NAME

    def __init__(self, options: BeanstalkOptions, context: AdapterContext) -> None:
        self.shared = Shared.of(options, context.clock)
        self.shared.server.connect().close()
        self._capabilities = _capabilities(options, self.shared.server.facts, self.shared.largest_body)
        self._producer = Producer(self.shared)
        self._operations = Operations(self.shared)
        self._is_closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What the server could do when the adapter opened."""
        return self._capabilities

    def enqueue(self, message: Message) -> None:
        """Put one job."""
        self._producer.put(message)

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Put many jobs, pipelined."""
        return self._producer.put_many(messages)

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        """Create the consuming side for one slot, with a connection of its own."""
        if self._is_closed:
            raise AdapterUnavailable(f"{self.shared.server.address}: this adapter is closed")
        return BeanstalkConsumer(self.shared, queues)

    def give_back(self, reservation: Reservation) -> None:
        """Snooze a job over the connection of the slot that holds it, because no other may release it.

        Raises:
            LeaseLost: The slot no longer holds it.
            AdapterError: The server failed.
        """
        if not isinstance(reservation, BeanstalkReservation):
            raise LeaseLost(reservation.id, "it is not of this adapter")
        reservation.settled_by(reservation, Snooze())

    def queues(self) -> list[str]:
        """Return the tubes that can be queues, except those that hold records."""
        return self._operations.queues()

    def stats(self, queue: str) -> QueueStats:
        """Count a tube's jobs by state."""
        return self._operations.stats(_checked(queue))

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Return jobs in that state, next one first."""
        return self._operations.peek(_checked(queue), state, limit)

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """Return buried jobs with their reasons."""
        return self._operations.buried(_checked(queue), limit)

    def kick(self, queue: str, job_id: str) -> None:
        """Make a buried job ready."""
        self._operations.kick(_checked(queue), job_id)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is not reserved."""
        self._operations.delete(_checked(queue), job_id)

    def delete_shown(self, job: StoredJob) -> None:
        """Remove a job that was shown; one that was shown as buried, only if it is so still."""
        self._operations.delete_shown(job)

    def kick_shown(self, job: StoredJob) -> None:
        """Make a job ready that was shown as buried; of several with its id it is this one."""
        self._operations.kick_shown(job)

    def purge(self, queue: str) -> int:
        """Remove every job that is not reserved."""
        return self._operations.purge(_checked(queue))

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing from the queue for `duration`."""
        self._operations.pause(_checked(queue), duration)

    def doctor(self, context: DoctorContext) -> list[Finding]:
        """Check the server and its jobs."""
        return examine(self.shared, self._operations, context)

    def close(self) -> None:
        """Close the connections of producers and operations."""
        self._is_closed = True
        self._producer.close()
        self._operations.close()


def _capabilities(options: BeanstalkOptions, facts: ServerFacts, max_body_bytes: int) -> Capabilities:
    if not facts.binlog:
        durability = Durability.NONE
    elif options.fsync_each:
        durability = Durability.POWER
    else:
        durability = Durability.PROCESS_CRASH
    return Capabilities(
        reach=Reach.NETWORK,
        durability=durability,
        delay_granularity=_SECOND,
        longest_delay=MAX_NUMBER * _SECOND,
        priorities=(0, MAX_NUMBER),
        tie_break=TieBreak.ENQUEUED,
        max_body_bytes=max_body_bytes,
        lease=options.ttr_seconds * _SECOND,
        lease_return=LeaseReturn.AT_ONCE,
        lost_reserves=True,
        attempts=Attempts.SERVER,
        kicks=True,
        counts=True,
        blocking_reserve=True,
    )


def _checked(queue: str) -> str:
    """Return a name that is safe in a command; any other might inject one."""
    problem = queue_name_problem(queue)
    if problem is not None:
        raise AdapterError(f"queue name: {problem}")
    return queue

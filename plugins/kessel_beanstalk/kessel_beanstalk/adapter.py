"""The adapter: puts its parts together and declares what the live server can do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from kessel_beanstalk.attempts import Suspects
from kessel_beanstalk.connection import ADAPTER_NAME, Server
from kessel_beanstalk.consumer import BeanstalkConsumer
from kessel_beanstalk.doctor import examine
from kessel_beanstalk.operations import Operations
from kessel_beanstalk.options import MAX_NUMBER, BeanstalkOptions
from kessel_beanstalk.producer import Producer
from kessel_beanstalk.records import Records, body_id
from kessel_core.contract import (
    AdapterContext,
    AdapterError,
    Attempts,
    Capabilities,
    Consumer,
    DoctorContext,
    Durability,
    Finding,
    InvalidConfig,
    JobState,
    LeaseReturn,
    Message,
    Problem,
    QueueAdapter,
    QueueStats,
    Reach,
    StoredJob,
    TieBreak,
    queue_name_problem,
)

__all__ = ["BeanstalkAdapter"]

_MOST_KNOWN: int = 10_000


class BeanstalkAdapter(QueueAdapter):
    """beanstalkd through greenstalk. Connects when it is made, to read the server's limits."""

    name: ClassVar[str] = ADAPTER_NAME

    def __init__(self, options: BeanstalkOptions, context: AdapterContext) -> None:
        self.options = options
        self.clock = context.clock
        self.server = Server(options)
        self.suspects = Suspects()
        self.records = Records(self.server)
        # Ids of what this process put lately, so that operations need not search for them.
        self._known: dict[str, int] = {}
        self.server.connect().close()
        self.server.on_restart = self._forget
        facts = self.server.facts
        limit = self.largest_body
        if not facts.binlog:
            durability = Durability.NONE
        elif options.fsync_each:
            durability = Durability.POWER
        else:
            durability = Durability.PROCESS_CRASH
        second = timedelta(seconds=1)
        self._capabilities = Capabilities(
            reach=Reach.NETWORK,
            durability=durability,
            delay_granularity=second,
            longest_delay=timedelta(seconds=MAX_NUMBER),
            priorities=(0, MAX_NUMBER),
            tie_break=TieBreak.ENQUEUED,
            max_body_bytes=limit,
            lease=timedelta(seconds=options.ttr_seconds),
            lease_return=LeaseReturn.AT_ONCE,
            attempts=Attempts.SERVER,
            buried=True,
            counts=True,
            peek=True,
            delete=True,
            pause=True,
            blocking_reserve=True,
        )
        self._producer = Producer(self.server, self.clock, limit, self.remember)
        self._operations = Operations(self)

    @property
    def capabilities(self) -> Capabilities:
        """What the server could do when the adapter opened."""
        return self._capabilities

    # what parts of the adapter ask of each other

    def _forget(self) -> None:
        self.suspects.clear()
        self.records.clear()
        self._known = {}

    def remember(self, job_id: str, server_id: int) -> None:
        """Note where a job is, for whoever acts on it next; it is checked then."""
        known = self._known
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[job_id] = server_id

    def server_id_of(self, job_id: str) -> int | None:
        """Return the server's id of a job that this process put or was shown lately."""
        return self._known.get(job_id)

    def id_of(self, server_id: int, body: bytes) -> str:
        """Return how a job is named: by its own id wherever that is known, else by the server's."""
        own = body_id(body)
        if own is None:  # its body has none, but this process may have put it
            own = next((known for known, number in list(self._known.items()) if number == server_id), None)
        return own or f"@{server_id}"

    def sample(self, queues: Sequence[str], most_ids: int) -> list[StoredJob]:
        """Return some jobs of these and all other queues, for the doctor."""
        return self._operations.sample(queues, most_ids)

    @property
    def largest_body(self) -> int:
        """The largest body that is put and survives a restart, by what the server said last."""
        limit = self.server.facts.max_job_size - 2
        most = self.options.max_body_bytes
        return limit if most is None else min(limit, most)

    # the contract

    def enqueue(self, message: Message) -> None:
        """Put one job."""
        self._producer.put(message)

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        """Put many jobs, pipelined."""
        return self._producer.put_many(messages)

    def consumer(self, queues: Sequence[str]) -> Consumer:
        """Make the consuming side for one slot.

        Raises:
            InvalidConfig: No queues, or names that beanstalkd refuses.
        """
        problems = [
            Problem(("queues", number), problem)
            for number, queue in enumerate(queues)
            if (problem := queue_name_problem(queue)) is not None
        ]
        if not queues:
            problems.append(Problem(("queues",), "at least one is needed"))
        if problems:
            raise InvalidConfig(problems)
        return BeanstalkConsumer(self, queues)

    def queues(self) -> list[str]:
        """Return the tubes, without those that hold records."""
        return self._operations.queues()

    def stats(self, queue: str) -> QueueStats:
        """Count a tube's jobs by state."""
        return self._operations.stats(_checked(queue))

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        """Show jobs in that state."""
        return self._operations.peek(_checked(queue), state, limit)

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        """List buried jobs with their reasons."""
        return self._operations.buried(_checked(queue), limit)

    def kick(self, queue: str, job_id: str) -> None:
        """Make a buried job ready."""
        self._operations.kick(_checked(queue), job_id)

    def delete(self, queue: str, job_id: str) -> None:
        """Remove a job that is not reserved."""
        self._operations.delete(_checked(queue), job_id)

    def purge(self, queue: str) -> int:
        """Remove every job that is not reserved."""
        return self._operations.purge(_checked(queue))

    def pause(self, queue: str, duration: timedelta) -> None:
        """Deliver nothing for so long."""
        self._operations.pause(_checked(queue), duration)

    def doctor(self, context: DoctorContext) -> list[Finding]:
        """Look at the server."""
        return examine(self, context)

    def close(self) -> None:
        """Close what this adapter opened itself."""
        self._producer.close()
        self._operations.close()


def _checked(queue: str) -> str:
    """Return a name that may go into a command; anything else could inject one."""
    problem = queue_name_problem(queue)
    if problem is not None:
        raise AdapterError(f"queue name: {problem}")
    return queue

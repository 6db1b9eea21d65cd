"""What beanstalkd cannot store with a job: why it was buried, and which deliveries do not count.

A record is a small job in a side tube of its queue. It is exactly as durable as its job: with a binlog both
survive a restart under their ids, without one both are gone. The value is defined here, and written and read
in `sidetubes`.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

import attrs

from kessel_beanstalk.commands import JobStats
from kessel_core.contract import JobState

__all__ = [
    "BURIED_PREFIX", "NOTHING", "SNOOZED_PREFIX", "Base", "Record", "Use", "fingerprint", "side_tube",
    "use_of",
]  # fmt: skip

#: No queue name begins with these: `queue_name_problem` refuses them.
BURIED_PREFIX: Final = "kessel.buried."
SNOOZED_PREFIX: Final = "kessel.snoozed."
_LONGEST_TUBE: Final = 200
_LONGEST_MESSAGE: Final = 4_000


def side_tube(prefix: str, queue: str) -> str:
    """Return the tube for one kind of records of a queue."""
    tube = prefix + queue
    if len(tube) <= _LONGEST_TUBE:
        return tube
    return prefix + hashlib.sha256(queue.encode()).hexdigest()


def fingerprint(body: bytes) -> str:
    """Return a checksum of a body, because ids are used again after some restarts."""
    return f"{len(body)}-{zlib.crc32(body):08x}"


@attrs.frozen(kw_only=True)
class Base:
    """What the attempts of a job are counted from."""

    #: Deliveries that do not count: snoozed, or before the last kick.
    uncounted: int = 0
    #: Deliveries that were snoozed.
    snoozes: int = 0
    #: The server's count of releases when the record was written.
    releases: int = 0
    #: Id of that record; 0: there is none.
    record_id: int = 0

    def attempt(self, reserves: int) -> int:
        """Return the number of deliveries that count, at least 1."""
        return max(1, reserves - self.uncounted)


#: The base of a job that was never snoozed and never kicked.
NOTHING: Final = Base()


@attrs.frozen(kw_only=True)
class Record:
    """What is stored just before a job is buried or snoozed."""

    #: Id of the job on the server.
    server_id: int
    #: See `fingerprint`.
    body: str
    #: The server's counts at that time.
    reserves: int
    releases: int
    kicks: int
    #: How many of the server's deliveries do not count from then on.
    uncounted: int
    #: Deliveries that were snoozed, including that one.
    snoozes: int
    #: Deliveries that counted at that time.
    attempt: int
    #: Name of the job.
    id: str | None = None
    #: Why it was buried, as a code; None for a snooze, or if another client buried it.
    reason: str | None = None
    #: The message of the failure.
    message: str | None = None
    #: When it was buried; aware.
    at: datetime | None = None

    @classmethod
    def of_burial(
        cls,
        stats: JobStats,
        body: bytes,
        base: Base,
        *,
        id: str | None,  # noqa: A002 - the field's name
        reason: str | None = None,
        message: str | None = None,
        at: datetime | None = None,
    ) -> Record:
        """Create the record of a burial: after a kick the attempts are counted from zero."""
        return cls(
            server_id=stats.server_id,
            body=fingerprint(body),
            reserves=stats.reserves,
            releases=stats.releases,
            kicks=stats.kicks,
            uncounted=stats.reserves,
            snoozes=base.snoozes,
            attempt=base.attempt(stats.reserves),
            id=id,
            reason=reason,
            message=message,
            at=at,
        )

    @classmethod
    def of_snooze(cls, stats: JobStats, body: bytes, base: Base, name: str | None) -> Record:
        """Create the record of a snooze: this delivery does not count from then on."""
        return attrs.evolve(
            cls.of_burial(stats, body, base, id=name),
            uncounted=base.uncounted + 1,
            snoozes=base.snoozes + 1,
        )

    def base(self, record_id: int) -> Base:
        """Return the base for later deliveries."""
        return Base(
            uncounted=self.uncounted, snoozes=self.snoozes, releases=self.releases, record_id=record_id
        )

    def encoded(self, longest: int) -> bytes:
        """Encode it as JSON in at most `longest` bytes; the message is cut if necessary."""
        fields = attrs.asdict(self)
        fields["at"] = self.at.isoformat() if self.at is not None else None
        message = (self.message or "")[:_LONGEST_MESSAGE]
        while True:
            fields["message"] = message or None
            written = json.dumps(fields, separators=(",", ":")).encode()
            if len(written) <= longest or not message:
                return written
            message = message[: len(message) // 2]

    @classmethod
    def decoded(cls, body: bytes) -> Record | None:
        """Decode a record; None if the bytes are not a valid one."""
        try:
            fields: dict[str, Any] = json.loads(body)
            at = fields.pop("at")
            record = cls(**fields, at=datetime.fromisoformat(at) if at is not None else None)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return record if record._is_sound() else None

    def _is_sound(self) -> bool:
        numbers = (self.reserves, self.releases, self.kicks, self.uncounted, self.snoozes, self.attempt)
        texts = (self.id, self.reason, self.message)
        return (
            all(type(number) is int and 0 <= number < 2**64 for number in (self.server_id, *numbers))
            and isinstance(self.body, str)
            and all(text is None or isinstance(text, str) for text in texts)
            and (self.at is None or self.at.tzinfo is not None)
        )


class Use(Enum):
    """Whether a record is needed."""

    NONE = auto()
    #: Perhaps soon: a worker holds the job, and may be about to bury or snooze it.
    SOON = auto()
    NOW = auto()


def use_of(record: Record, stats: JobStats, *, is_burial: bool) -> Use:
    """Say whether a record is needed, by what the server says of its job now."""
    if is_burial:
        if record.kicks + 1 == stats.kicks or (
            record.kicks == stats.kicks and stats.state is JobState.BURIED
        ):
            return Use.NOW
        has_come_about = record.kicks < stats.kicks
    else:
        if record.releases < stats.releases:
            return Use.NOW
        has_come_about = False
    return Use.SOON if stats.state is JobState.RESERVED and not has_come_about else Use.NONE

"""Why a job was buried: beanstalkd stores no reason, so a record beside the job does.

For every job that is buried, a small job goes into a side tube, `kessel.buried.<queue>`, first.
Consumers never watch side tubes, and `queues()` hides them. A record is durable exactly as its
job is: with a binlog both survive a restart under their ids, without one both are gone.

A list is read by reserving the whole side tube on a connection of its own and closing that:
the server then puts all back in their old order, and writes nothing to its binlog. Meanwhile
records whose job is gone, or was never buried after all, are removed.

The record also notes the deliveries so far. `kick-job` does not reset the server's counter, so
this is the base from which the attempts of a kicked job start anew (S10). For that the record of
a kicked job stays until the job is gone.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import threading
import time
import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import attrs
import greenstalk

from kessel_beanstalk.connection import CLEAN, Connection, Server
from kessel_core.contract import AdapterError

__all__ = ["SIDE_PREFIX", "Record", "Records", "body_id", "fingerprint", "side_tube"]

#: No queue begins so: `queue_name_problem` refuses it.
SIDE_PREFIX: Final = "kessel.buried."
_LONGEST_TUBE: Final = 200
#: Leaves room for a whole walk; the records come back at once when it ends, not after this.
_RECORD_TTR: Final = 300
_BATCH: Final = 256
_LONGEST_MESSAGE: Final = 4_000

_log = logging.getLogger("kessel.beanstalk")


def side_tube(queue: str) -> str:
    """Return the tube that holds the records of a queue."""
    tube = SIDE_PREFIX + queue
    if len(tube) <= _LONGEST_TUBE:
        return tube
    return SIDE_PREFIX + hashlib.sha256(queue.encode()).hexdigest()


def fingerprint(body: bytes) -> str:
    """Return what tells bodies apart, because ids are reused after some restarts."""
    return f"{len(body)}-{zlib.crc32(body):08x}"


def body_id(body: bytes) -> str | None:
    """Return the id that a body gives itself, or None; any bytes are welcome."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = fields.get("id") if isinstance(fields, dict) else None
    return found if isinstance(found, str) and found else None


@attrs.frozen(kw_only=True)
class Record:
    """What is noted when a job is buried; also the base of the attempts after a kick."""

    #: The server's id of the buried job.
    server_id: int
    #: See `fingerprint`.
    body: str
    #: The server's number of deliveries at the burial.
    reserves: int
    #: The server's number of kicks at the burial; tells which record a kick belongs to.
    kicks: int
    #: Deliveries since the last kick.
    attempt: int
    #: The job's own id, if it has one.
    id: str | None = None
    reason: str | None = None
    message: str | None = None
    at: datetime | None = None

    def encoded(self, longest: int) -> bytes:
        """Write it as JSON in at most `longest` bytes, for which the message is cut."""
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
        """Read one; None for what is none."""
        try:
            fields: dict[str, Any] = json.loads(body)
            at = fields.pop("at")
            return cls(**fields, at=datetime.fromisoformat(at) if at is not None else None)
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


class Records:
    """Writes and reads the side tubes. For any thread."""

    _MOST_BASES: Final = 10_000

    def __init__(self, server: Server) -> None:
        self._server = server
        self._bases: dict[tuple[int, int, str], int] = {}
        # One walk at a time in this process: two would each see a part.
        self._walking = threading.Lock()

    def clear(self) -> None:
        """Forget what was read; the server was restarted."""
        self._bases.clear()

    def write(self, connection: Connection, queue: str, record: Record) -> bool:
        """Store a record over the connection of the caller.

        Returns:
            False if the server takes none now (draining, full): the job is then listed without
            its reason, which is logged instead.
        """
        body = record.encoded(self._server.facts.max_job_size - 2)
        connection.use(side_tube(queue))
        try:
            connection.call(connection.client.put, body, 1, 0, _RECORD_TTR)
        except CLEAN as exc:
            _log.warning(
                "the server keeps no record (%s) of job %s: %s %s",
                type(exc).__name__,
                record.id or f"@{record.server_id}",
                record.reason,
                record.message,
            )
            return False
        return True

    def base(self, connection: Connection, server_id: int, body: bytes, stats: greenstalk.StatsJob) -> int:
        """Return the deliveries that do not count any more, because the job was kicked since.

        A job that somebody else kicked has no record; then this delivery is its first, and a
        record is written so that it stays so.
        """
        kicks = stats["kicks"]
        if kicks == 0:
            return 0
        key = (server_id, kicks, fingerprint(body))
        base = self._bases.get(key)
        if base is not None:
            return base
        queue = stats["tube"]
        known = [
            record.reserves
            for record in self.walk(queue)
            if (record.server_id, record.kicks + 1, record.body) == key
        ]
        if known:
            base = max(known)
        else:
            base = max(stats["reserves"] - 1, 0)
            self.write(connection, queue, self.plain(server_id, body, base, kicks - 1))
        if len(self._bases) >= self._MOST_BASES:
            self._bases.clear()
        self._bases[key] = base
        return base

    @staticmethod
    def plain(server_id: int, body: bytes, reserves: int, kicks: int) -> Record:
        """Return a record without a reason, for a job that kessel did not bury."""
        return Record(
            server_id=server_id,
            body=fingerprint(body),
            reserves=reserves,
            kicks=kicks,
            attempt=reserves,
            id=body_id(body),
        )

    def walk(self, queue: str) -> list[Record]:
        """Return all records of a queue, oldest first; removes those that serve no more.

        Raises:
            AdapterError: The server cannot be asked.
        """
        with self._walking:
            for _ in range(40):
                connection = self._server.connect(watch=[side_tube(queue)])
                try:
                    held = connection.pipeline(self._reserve_all, connection)
                    if not self._is_shared(connection, queue, len(held)):
                        return connection.pipeline(self._pruned, connection, held)
                finally:
                    connection.close()  # gives all back, in their old order
                time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - only to fall out of step
            raise AdapterError(
                f"{self._server.address}: the buried jobs of {queue!r} are being listed by others"
            )

    @staticmethod
    def _is_shared(connection: Connection, queue: str, held: int) -> bool:
        try:
            stats = connection.call(connection.client.stats_tube, side_tube(queue))
        except greenstalk.NotFoundError:
            return False
        return stats["current-jobs-reserved"] != held

    @staticmethod
    def _reserve_all(connection: Connection) -> list[tuple[int, bytes]]:
        held: list[tuple[int, bytes]] = []
        while True:
            connection.send(b"reserve-with-timeout 0\r\n" * _BATCH)
            at_end = False
            for _ in range(_BATCH):
                try:
                    held.append(connection.job(b"RESERVED"))
                except (greenstalk.TimedOutError, greenstalk.DeadlineSoonError):
                    at_end = True
            if at_end:
                return held

    @staticmethod
    def _pruned(connection: Connection, held: Sequence[tuple[int, bytes]]) -> list[Record]:
        kept: dict[tuple[int, int], Record] = {}
        useless: list[int] = []
        for start in range(0, len(held), _BATCH):
            batch = held[start : start + _BATCH]
            records = [Record.decoded(body) for _, body in batch]
            ids = [record.server_id if record else 0 for record in records]
            states = connection.jobs_stats(ids)
            for (own_id, _), record, stats in zip(batch, records, states, strict=True):
                # A reserved job may be on its way to its burial, whose record is written first.
                if (
                    record is None
                    or stats is None
                    or (stats["state"] in ("ready", "delayed") and stats["kicks"] == "0")
                ):
                    useless.append(own_id)
                else:
                    kept[record.server_id, record.kicks] = record
        for start in range(0, len(useless), _BATCH):
            batch_ids = useless[start : start + _BATCH]
            connection.send(b"".join(b"delete %d\r\n" % own_id for own_id in batch_ids))
            for _ in batch_ids:
                try:
                    connection.values(b"DELETED")
                except greenstalk.NotFoundError:
                    continue
        return list(kept.values())

"""Writes and reads the records of jobs, and determines what the attempts of a job are counted from.

Consumers never watch side tubes, and `queues()` hides them. A side tube is read by reserving all of its jobs
on a separate connection, and then closing that: the server puts them back in their old order, and writes
nothing to its binlog. At the same time useless records are removed: of jobs that are gone, of snoozes and
burials that did not happen, and older ones of the same job.

What was read is cached together with the counts of kicks and releases that it applies to: every event that
changes the base of a job changes one of them, so outdated entries do no harm.
A little over 350 lines, because writing, reading and removing records must agree.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Final, TypeVar

import attrs

from kessel_beanstalk import commands
from kessel_beanstalk.commands import Command, JobStats, Refused, StoredBody
from kessel_beanstalk.connection import Connection
from kessel_beanstalk.names import Names
from kessel_beanstalk.readings import Readings
from kessel_beanstalk.records import (
    BURIED_PREFIX,
    NOTHING,
    SNOOZED_PREFIX,
    Base,
    Record,
    Use,
    fingerprint,
    side_tube,
    use_of,
)
from kessel_beanstalk.server import Server
from kessel_core.contract import JobState, get_logger

__all__ = ["SideTubes"]

#: In seconds; more than reading a tube takes. The records come back when the connection is closed.
_RECORD_TTR: Final = 300
_RECORD_PRI: Final = 1
_BATCH: Final = 256
_MOST_KNOWN: Final = 50_000
#: A record is written before its job is released for at least a second, so what is read now includes the
#: records of all jobs that are delivered within that second.
_FRESH_SECONDS: Final = 0.9
#: Others who read a side tube are done after moments. Whoever holds on to records, as a foreign worker on the
#: wrong tube, must not stop the queue: they are then passed over, for so long without waiting again.
_PATIENCE_SECONDS: Final = 5.0
_IN_USE_SECONDS: Final = 60.0
_RESERVE_NOW: Final = commands.reserve(0)

T = TypeVar("T")
log = get_logger("kessel.beanstalk")


@attrs.frozen
class _Known:
    """A base, and the counts of the job that it applies to."""

    body: str
    kicks: int
    releases: int
    base: Base

    def fits(self, body: str, stats: JobStats) -> bool:
        return (self.body, self.kicks, self.releases) == (body, stats.kicks, stats.releases)


class SideTubes:
    """The side tubes of one server. Thread-safe."""

    def __init__(self, server: Server, names: Names) -> None:
        self._server = server
        #: Gets the names of jobs from records.
        self._names = names
        self._known: dict[int, _Known] = {}
        self._most_known = _MOST_KNOWN
        #: How much of the side tubes is known.
        self.readings = Readings()
        # One reader at a time in this process, because two would each get only some of the records.
        self._reading = threading.Lock()
        #: Since when records of a side tube are held by somebody who does not give them back.
        self._in_use: dict[str, float] = {}
        #: Foreign jobs in side tubes that were logged already.
        self._strange: set[int] = set()

    def clear(self) -> None:
        """Forget what was read; the server was restarted."""
        self._known = {}
        self.readings.forget()

    # --- the base of a job's attempts ------------------------------------------------------------

    def base(
        self, connection: Connection, body: bytes, stats: JobStats, *, told_at: float | None = None
    ) -> Base:
        """Return what the attempts of a job are counted from.

        A job that another client kicked has no record; if a worker holds it, this delivery is taken for its
        first, and a record of that is written.

        Args:
            connection: To the server; the caller has it to itself.
            body: Of the job.
            stats: What the server said of it.
            told_at: When it did, on the process's monotonic clock, if many jobs are looked at: one reading
                that began later serves them all. None: a moment ago.

        Raises:
            AdapterError: The server cannot be asked.
        """
        if not stats.kicks and not stats.releases:
            return NOTHING
        mark = fingerprint(body)
        known = self._known.get(stats.server_id)
        if known is None or not known.fits(mark, stats):
            kicked = self._base_of_kick(connection, body, stats, told_at) if stats.kicks else NOTHING
            snoozed = kicked
            if stats.releases > kicked.releases:
                snoozed = self._base_of_snooze(connection, mark, stats, told_at)
            base = snoozed if snoozed.uncounted > kicked.uncounted else kicked
            if stats.kicks and kicked is NOTHING:  # a kick of somebody else: not settled before its delivery
                return base
            known = self._note(stats.server_id, _Known(mark, stats.kicks, stats.releases, base))
        return known.base

    def _base_of_kick(
        self, connection: Connection, body: bytes, stats: JobStats, told_at: float | None
    ) -> Base:
        mark, tube = fingerprint(body), side_tube(BURIED_PREFIX, stats.tube)
        known = self._known  # as of the last reading, even if entries are removed meanwhile
        if not self.readings.is_later(tube, told_at) and not self.readings.is_complete(
            tube, connection.ask(commands.stats_tube(tube))
        ):
            self._read(tube)
            known = self._known
        found = known.get(stats.server_id)
        if found is not None and (found.body, found.kicks) == (mark, stats.kicks):
            return found.base
        if stats.state is not JobState.RESERVED:
            return NOTHING
        plain = Record.of_burial(stats, body, NOTHING, id=self._names.name(stats.server_id, body))
        plain = attrs.evolve(plain, kicks=stats.kicks - 1, uncounted=max(stats.reserves - 1, 0))
        return plain.base(self.write(connection, BURIED_PREFIX, stats.tube, plain) or 0)

    def _base_of_snooze(
        self, connection: Connection, mark: str, stats: JobStats, told_at: float | None
    ) -> Base:
        tube = side_tube(SNOOZED_PREFIX, stats.tube)
        known = self._known  # as of the last reading, even if entries are removed meanwhile
        if not self.readings.is_later(tube, told_at) and (
            stats.kicks or self.readings.age(tube, time.monotonic()) > _FRESH_SECONDS
        ):
            started = time.monotonic()
            told = connection.ask(commands.stats_tube(tube))
            if told is None or not told.ready + told.reserved:  # usually nothing is snoozed
                self.readings.noted(tube, started, None)
            else:
                self._read(tube)
                known = self._known
        found = known.get(stats.server_id)
        if (
            found is None
            or (found.body, found.kicks) != (mark, stats.kicks)
            or found.releases > stats.releases
        ):
            return NOTHING
        return found.base

    def _note(self, server_id: int, known: _Known) -> _Known:
        if len(self._known) >= self._most_known:
            self.readings.forget()  # first, because what was read is no longer complete
            self._known = dict(list(self._known.items())[self._most_known // 2 :])
        self._known[server_id] = known
        return known

    def was_released(self, body: bytes, stats: JobStats, base: Base) -> None:
        """Cache the base of a job that this process has just released."""
        self._note(stats.server_id, _Known(fingerprint(body), stats.kicks, stats.releases + 1, base))

    def is_gone(self, server_id: int) -> None:
        """Forget a job."""
        self._known.pop(server_id, None)

    # --- writing ---------------------------------------------------------------------------------

    def write(self, connection: Connection, prefix: str, queue: str, record: Record) -> int | None:
        """Store a record.

        Returns:
            Its id; None if the server accepts none now (draining, full), which is logged.

        Raises:
            AdapterError: As `Connection.ask`.
        """
        tube = side_tube(prefix, queue)
        connection.use(tube)
        self.readings.writes(tube)
        return self._kept(record, connection.ask(self._put(record)))

    def write_and(
        self, connection: Connection, prefix: str, queue: str, record: Record, then: Command[T]
    ) -> tuple[T, int | None]:
        """Store a record, and send the command that it is about in the same write.

        Returns:
            The reply to `then`, and the record's id; None if the server accepts no record now: a burial is
            then listed without its reason, a snooze counts as an attempt, and that is logged.

        Raises:
            AdapterError: As `Connection.ask`.
        """
        tube = side_tube(prefix, queue)
        choose, put = commands.use(tube), self._put(record)
        self.readings.writes(tube)
        connection.using = ""  # see `Connection.use`
        connection.send(choose, put, then)
        connection.reply(choose)
        connection.using = tube
        kept = connection.reply(put)
        answer = connection.reply(then)
        return answer, self._kept(record, kept)

    def _put(self, record: Record) -> Command[int | Refused]:
        return commands.put(record.encoded(self._server.facts.max_job_size - 2), _RECORD_PRI, 0, _RECORD_TTR)

    @staticmethod
    def _kept(record: Record, answer: int | Refused) -> int | None:
        if not isinstance(answer, Refused):
            return answer
        log.warning(
            "the server keeps no record (%s) of job %s: %s %s",
            answer.status,
            record.id or f"@{record.server_id}",
            record.reason or "snoozed",
            record.message or "",
        )
        return None

    # --- reading ---------------------------------------------------------------------------------

    def burials(self, queue: str) -> dict[int, Record]:
        """Return the records of burials of a queue by their ids, oldest first.

        Raises:
            AdapterError: The server cannot be asked.
        """
        return self._read(side_tube(BURIED_PREFIX, queue))

    def prune(self, queue: str) -> None:
        """Remove the useless records of a queue.

        Raises:
            AdapterError: The server cannot be asked.
        """
        for prefix in (BURIED_PREFIX, SNOOZED_PREFIX):
            self._read(side_tube(prefix, queue))

    def knows_burial(self, stats: JobStats, body: bytes) -> bool:
        """Whether the record that a kick of this buried job needs is cached."""
        known = self._known.get(stats.server_id)
        return (
            known is not None
            and (known.body, known.kicks) == (fingerprint(body), stats.kicks + 1)
            and known.base.record_id != 0
        )

    def was_buried(self, record: Record, record_id: int) -> None:
        """Cache the base of a buried job, for after its kick."""
        self._remember(record_id, record, is_burial=True)

    def _remember(self, record_id: int, record: Record, *, is_burial: bool) -> None:
        kicks, releases = record.kicks + is_burial, record.releases + (not is_burial)
        known = self._known.get(record.server_id)
        if known is None or known.body != record.body or (known.kicks, known.releases) <= (kicks, releases):
            self._note(record.server_id, _Known(record.body, kicks, releases, record.base(record_id)))
        if record.id is not None:
            self._names.was_shown(record.id, record.server_id)

    def _read(self, tube: str) -> dict[int, Record]:
        is_burial = tube.startswith(BURIED_PREFIX)
        with self._reading:
            until = time.monotonic() + self._patience(tube)
            collisions = 0
            while True:
                started = time.monotonic()
                connection = self._server.connect(watch=[tube])
                try:
                    told = connection.ask(commands.stats_tube(tube))
                    if told is None or not told.reserved or started >= until:
                        held = self._reserve_all(connection, 0 if told is None else told.ready)
                        told = connection.ask(commands.stats_tube(tube))
                        is_whole = told is None or told.reserved == len(held)
                        if is_whole or started >= until:
                            kept = self._pruned(connection, held, is_burial=is_burial)
                            break
                        collisions += 1  # two have begun at the same moment
                finally:
                    connection.close()  # puts all back in their old order
                time.sleep(random.uniform(0.01, 0.05) * 2 ** min(collisions, 4))  # noqa: S311 - no secret
            if is_whole:
                self.readings.noted(tube, started, told)
                self._in_use.pop(tube, None)
            else:
                self._in_use[tube] = time.monotonic()
                log.warning("records in tube %r are held by another client; they are passed over", tube)
            return kept

    def _patience(self, tube: str) -> float:
        """Return how long to wait for others who read this tube; not again and again for one who stays."""
        was_in_use = time.monotonic() - self._in_use.get(tube, -1e9) < _IN_USE_SECONDS
        return 0.0 if was_in_use else _PATIENCE_SECONDS

    @staticmethod
    def _reserve_all(connection: Connection, counted: int) -> list[StoredBody]:
        held: list[StoredBody] = []
        asked = min(counted + 1, _BATCH)  # the last one learns that there is no other
        while True:
            found = connection.ask_each([_RESERVE_NOW] * asked)
            held += [one for one in found if one is not None]
            if None in found:
                return held
            asked = _BATCH

    def _pruned(
        self, connection: Connection, held: Sequence[StoredBody], *, is_burial: bool
    ) -> dict[int, Record]:
        records: dict[int, Record] = {}
        for one in held:
            record = Record.decoded(one.body)
            if record is not None:
                records[one.server_id] = record
            elif one.server_id not in self._strange:  # not ours, so it is not removed
                self._strange.add(one.server_id)
                log.warning("job @%d in a side tube is not a record; it is passed over", one.server_id)
        states = connection.ask_each([commands.stats_job(record.server_id) for record in records.values()])
        serving: dict[int, int] = {}
        useless: list[int] = []
        for (record_id, record), stats in zip(records.items(), states, strict=True):
            use = Use.NONE if stats is None else use_of(record, stats, is_burial=is_burial)
            if use is Use.NONE:
                useless.append(record_id)
            elif use is Use.NOW:  # the newest one is enough
                if record.server_id in serving:
                    useless.append(serving[record.server_id])
                serving[record.server_id] = record_id
        connection.ask_each([commands.delete(record_id) for record_id in useless])
        for record_id in useless:
            del records[record_id]
        self._most_known = max(_MOST_KNOWN, len(self._known) + 2 * len(serving))
        for record_id in serving.values():
            self._remember(record_id, records[record_id], is_burial=is_burial)
        return records

"""Settles a held job on the server: deletes, releases or buries it, with its record.

It implements these rules: the job's own priority, and a pause of at least a second (8); a job that a failing
server makes inaccessible is logged completely (10). The consumer checks the lease, and handles failures.
"""

from __future__ import annotations

from datetime import timedelta

from kessel_beanstalk import commands
from kessel_beanstalk.commands import Command, JobStats, Refused, StoredBody
from kessel_beanstalk.connection import Connection
from kessel_beanstalk.delivery import BeanstalkReservation
from kessel_beanstalk.options import MAX_NUMBER, whole_seconds
from kessel_beanstalk.records import BURIED_PREFIX, SNOOZED_PREFIX, Record
from kessel_beanstalk.shared import Shared
from kessel_core.contract import AdapterError, LeaseLost, get_logger

__all__ = ["GIVEN_AWAY", "Settling"]

GIVEN_AWAY = "the server has released the job, or delivered it to another worker"

log = get_logger("kessel.beanstalk")


class Settling:
    """Settles over a connection that the caller must not share meanwhile.

    All methods raise `LeaseLost` if the server says that the job is not held by this connection, and the
    errors of `Connection.ask`.
    """

    def __init__(self, shared: Shared) -> None:
        self._clock = shared.clock
        self._suspects = shared.suspects
        self._side_tubes = shared.side_tubes

    def learn(self, connection: Connection, held: BeanstalkReservation) -> JobStats:
        """Ask the server about a job; only once, because its counts do not change while it is held."""
        if held.stats is not None:
            return held.stats
        asked = self._clock.monotonic()
        stats = connection.ask(commands.stats_job(held.server_id))
        if stats is None:
            raise LeaseLost(held.id, "the server does not know the job any more")
        held.learn(stats, self._side_tubes.base(connection, held.body, stats), asked)
        return stats

    def commit(
        self,
        connection: Connection,
        held: BeanstalkReservation,
        then: Command[StoredBody | None] | None = None,
    ) -> StoredBody | None:
        """Delete the job and its record; `then` is sent in the same write, and its reply is returned.

        Once the job is deleted nothing is raised, because a later failure does not undo the commit.
        """
        delete = commands.delete(held.server_id)
        record_id = held.base.record_id
        if then is not None and not record_id:  # the usual path
            connection.send(delete, then)
        else:
            rest = [commands.delete(record_id)] if record_id else []
            connection.send(delete, *rest, *([then] if then is not None else []))
        if not connection.reply(delete):
            # A job that `then` may have reserved goes back when the connection is closed.
            raise LeaseLost(held.id, GIVEN_AWAY)
        if held.stats is not None:
            self._suspects.discard(held.server_id)
            self._side_tubes.is_gone(held.server_id)
        try:
            if record_id:
                connection.reply(delete)
            return connection.reply(then) if then is not None else None
        except AdapterError:
            return None

    def roll_back(self, connection: Connection, held: BeanstalkReservation, pause: timedelta) -> None:
        """Release the job after a pause; its delivery counts (S10)."""
        stats = self.learn(connection, held)
        self._suspects.add(held.server_id)
        answer = connection.ask(commands.release(held.server_id, stats.pri, _delay(pause)))
        if answer is not None:
            raise self._failed(held, "rollback", answer)
        self._side_tubes.was_released(held.body, stats, held.base)

    def snooze(self, connection: Connection, held: BeanstalkReservation, pause: timedelta) -> None:
        """Release the job after a pause; a record takes its delivery out of the count (S21)."""
        stats = self.learn(connection, held)
        self._suspects.add(held.server_id)
        record = Record.of_snooze(stats, held.body, held.base, held.id)
        # The record comes first: without a release it has no effect, but a release without a record would
        # count as an attempt.
        answer, record_id = self._side_tubes.write_and(
            connection,
            SNOOZED_PREFIX,
            stats.tube,
            record,
            commands.release(held.server_id, stats.pri, _delay(pause)),
        )
        if answer is not None:
            self._remove(connection, record_id)
            raise self._failed(held, "snooze", answer)
        base = held.base
        if record_id is not None:
            base = record.base(record_id)
            self._remove(connection, held.base.record_id)
        self._side_tubes.was_released(held.body, stats, base)

    def bury(self, connection: Connection, held: BeanstalkReservation, reason: str, message: str) -> None:
        """Bury the job; a record holds the reason, and what its attempts are counted from after a kick."""
        stats = self.learn(connection, held)
        record = Record.of_burial(
            stats, held.body, held.base, id=held.id, reason=reason, message=message, at=self._clock.now()
        )
        # The record comes first: without a burial it is removed by the next reader, but a burial without a
        # record would have no reason.
        answer, record_id = self._side_tubes.write_and(
            connection, BURIED_PREFIX, stats.tube, record, commands.bury(held.server_id, stats.pri)
        )
        if answer is not None:
            raise self._failed(held, "burial", answer)
        self._suspects.discard(held.server_id)
        if record_id is not None:
            self._side_tubes.was_buried(record, record_id)
            self._remove(connection, held.base.record_id)

    def _remove(self, connection: Connection, record_id: int | None) -> None:
        if not record_id:
            return
        try:
            connection.ask(commands.delete(record_id))
        except AdapterError:  # the job itself is settled, and the next reader removes the record
            log.debug("record @%d is not removed", record_id, exc_info=True)

    @staticmethod
    def _failed(held: BeanstalkReservation, what: str, answer: Refused) -> AdapterError:
        if answer.status == "NOT_FOUND":
            return LeaseLost(held.id, GIVEN_AWAY)
        # The complete job, because until a restart the server may not return it to anybody (rule 10).
        log.error(
            "the server failed at the %s of job %s (%s); it may be out of reach until the server is "
            "restarted. Its body: %r",
            what,
            held.id,
            answer.status,
            held.body,
            extra={"job_id": held.id, "body": held.body},
        )
        return AdapterError(f"{what} of job {held.id} was refused: {answer.status}")


def _delay(pause: timedelta) -> int:
    """Return the seconds of a release, at least 1: without a pause the job would come again at once."""
    return min(max(1, whole_seconds(pause)), MAX_NUMBER)

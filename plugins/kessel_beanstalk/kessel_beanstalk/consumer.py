"""The consuming side for one slot: one connection, one job at a time.

Rules kept here: fencing by generation and lease deadline (4), the job's own priority and a pause
of a second at least (8), touch under the connection's lock (9), limbo logged (10). While a job
runs no reserve is in flight, so DEADLINE_SOON cannot come and no second job is held.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final, assert_never

import attrs
import greenstalk

from kessel_beanstalk.attempts import FirstDeliveries, head_of
from kessel_beanstalk.connection import CLEAN, Connection
from kessel_beanstalk.options import MAX_NUMBER, whole_seconds
from kessel_beanstalk.records import Record, fingerprint
from kessel_core.contract import (
    COMMIT,
    AdapterError,
    AdapterUnavailable,
    Bury,
    CapabilityMissing,
    Commit,
    Consumer,
    LeaseLost,
    Reservation,
    Rollback,
    Settlement,
)

if TYPE_CHECKING:
    from kessel_beanstalk.adapter import BeanstalkAdapter

__all__ = ["BeanstalkConsumer", "BeanstalkReservation"]

#: Longest single reserve command. A peer that vanished without a word is noticed after it, and
#: the ghost of a waiting worker gets jobs no longer than that.
_LONGEST_RESERVE: Final = 30

_log = logging.getLogger("kessel.beanstalk")


@attrs.define(eq=False)
class BeanstalkReservation(Reservation):
    """A delivery, bound to the connection that it came over."""

    server_id: int = 0
    #: Of the connection; the id alone would mean another job after some restarts (rule 4).
    generation: int = 0
    ttr: int = 0


class BeanstalkConsumer(Consumer):
    """Connects at the first `reserve`, and again at the one after each loss."""

    def __init__(self, adapter: BeanstalkAdapter, queues: Sequence[str]) -> None:
        self._adapter = adapter
        self._clock = adapter.clock
        self._queues = tuple(dict.fromkeys(queues))
        self._only_queue = self._queues[0] if len(self._queues) == 1 else None
        self._connection: Connection | None = None
        self._held: BeanstalkReservation | None = None
        self._firsts = FirstDeliveries(adapter.suspects)
        self._default_ttr = adapter.options.ttr_seconds
        # The ttr assumed of a job that is not asked about: the shortest seen so far.
        self._ttr = self._default_ttr
        self._slack = adapter.options.timeout.total_seconds()
        #: Guards the conversation: `extend` comes from another thread.
        self._talking = threading.Lock()
        #: Guards the three below, only for moments.
        self._gate = threading.Lock()
        self._waiting: Connection | None = None
        self._is_cancelled = False
        self._is_closed = False

    # --- reserve -------------------------------------------------------------------------------

    def reserve(self, timeout: timedelta) -> Reservation | None:
        """Take the next job; waits in whole seconds, rounded up."""
        if self._held is not None:
            raise AdapterError("this consumer still holds a job; settle it first")
        clock = self._clock
        until = clock.monotonic() + timeout.total_seconds()
        # The lease of what a long wait brings is counted from the start of the wait, because
        # nobody here knows when the server began it. A short wait leaves most of it.
        longest = min(_LONGEST_RESERVE, max(1, self._ttr // 4))
        seconds = min(whole_seconds(timeout), longest)
        while True:
            if self._is_cancelled or self._is_closed:
                return None
            connection = self._connected()
            found = self._reserved_within(connection, seconds)
            if found is not None:
                return found
            left = until - clock.monotonic()
            if left <= 0.0:
                return None
            seconds = min(whole_seconds(timedelta(seconds=left)), longest)

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None and connection.is_usable:
            return connection
        self._connection = None
        self._firsts.forget()
        self._ttr = self._default_ttr
        try:
            self._connection = connection = self._adapter.server.connect(watch=self._queues)
        except CapabilityMissing as exc:  # only from the first connect of all; never from here
            raise AdapterUnavailable(str(exc)) from exc
        return connection

    def _reserved_within(self, connection: Connection, seconds: int) -> BeanstalkReservation | None:
        if not self._may_wait(connection):
            return None
        started = self._clock.monotonic()
        connection.socket.set_read_timeout(seconds + self._slack)
        try:
            server_id, body = connection.call(self._ask_for_job, connection, seconds)
        except (greenstalk.TimedOutError, greenstalk.DeadlineSoonError):
            return None
        except AdapterUnavailable:
            if self._is_cancelled:  # it was `cancel` that cut the connection
                return None
            raise
        finally:
            with self._gate:
                was_cut = self._waiting is None
                self._waiting = None
        if was_cut:
            # The job came over a connection that `cancel` has just shut: the server has it back.
            self._adapter.suspects.add(server_id)
            connection.close()
            return None
        return self._taken(connection, server_id, body, started)

    def _may_wait(self, connection: Connection) -> bool:
        """Note that a reserve is in flight, so that `cancel` may cut it; False after `cancel`."""
        with self._gate:
            if not self._is_cancelled:
                self._waiting = connection
            return not self._is_cancelled

    @staticmethod
    def _ask_for_job(connection: Connection, seconds: int) -> tuple[int, bytes]:
        connection.send(b"reserve-with-timeout %d\r\n" % seconds)
        return connection.job(b"RESERVED")

    def _taken(
        self, connection: Connection, server_id: int, body: bytes, started: float
    ) -> BeanstalkReservation:
        head = head_of(body)
        queue = self._only_queue
        if head is not None and queue is None and head.queue in self._queues:
            queue = head.queue
        if head is not None and queue is not None and self._firsts.is_surely_first(server_id, head.priority):
            attempt, ttr = 1, self._ttr
        else:
            attempt, queue, ttr = self._asked(connection, server_id, body)
            if head is not None:
                self._firsts.asked(server_id, head.priority)
        self._held = reservation = BeanstalkReservation(
            head.id if head is not None else self._adapter.id_of(server_id, body),
            queue,
            body,
            attempt,
            started + ttr,
            server_id,
            connection.generation,
            ttr,
        )
        return reservation

    def _asked(self, connection: Connection, server_id: int, body: bytes) -> tuple[int, str, int]:
        """Ask the server for the number of deliveries, the tube and the ttr of a job just taken."""
        connection.socket.set_read_timeout(self._slack)
        try:
            stats = connection.call(connection.client.stats_job, server_id)
            attempt = self._attempt(connection, server_id, body, stats)
        except CLEAN as exc:
            connection.broken(exc)
            raise AdapterUnavailable(f"job @{server_id} was gone at once ({type(exc).__name__})") from exc
        except BaseException as exc:
            # Not told to the caller, so it must not stay reserved.
            connection.broken(exc)
            raise
        ttr = stats["ttr"]
        if ttr < self._ttr:
            _log.warning(
                "job @%d was put with a ttr of %d s, shorter than ours of %d s; "
                "use one ttr in all processes of an application",
                server_id,
                ttr,
                self._default_ttr,
            )
            self._ttr = max(ttr, 1)
        return attempt, stats["tube"], ttr

    def _attempt(
        self, connection: Connection, server_id: int, body: bytes, stats: greenstalk.StatsJob
    ) -> int:
        base = self._adapter.records.base(connection, server_id, body, stats)
        return max(1, stats["reserves"] - base)

    # --- settle --------------------------------------------------------------------------------

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """End the reservation; see the contract."""
        with self._talking:
            connection, held = self._owned(reservation)
            try:
                match settlement:
                    case Commit():
                        connection.call(connection.client.delete, held.server_id)
                        self._ended(held)
                    case Rollback(pause):
                        self._roll_back(connection, held, pause)
                    case Bury(reason, message):
                        self._bury(connection, held, reason, message)
                    case _:
                        assert_never(settlement)
            except greenstalk.NotFoundError as exc:
                raise self._lost(held, "the server has given the job up or to another") from exc
            except AdapterUnavailable as exc:
                raise self._lost(
                    held, f"and with it the connection; a commit may have been done: {exc}"
                ) from exc
            except BaseException as exc:
                connection.broken(exc)  # whatever it was: nothing may stay reserved
                self._lost(held, "")
                if isinstance(exc, CLEAN):
                    raise AdapterError(f"job {held.id} was not settled: {type(exc).__name__}") from exc
                raise

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """Settle and take the next job; a commit and the reserve go in one write."""
        if settlement is not COMMIT and not isinstance(settlement, Commit):
            return super().settle_and_reserve(reservation, settlement)
        if self._is_cancelled:
            self.settle(reservation, settlement)
            return None
        with self._talking:
            connection, held = self._owned(reservation)
            started = self._clock.monotonic()
            try:
                taken = connection.call(self._delete_and_ask, connection, held.server_id)
            except greenstalk.NotFoundError as exc:
                # The reserve has gone out, too; what it may have brought goes back with the connection.
                connection.broken(exc)
                raise self._lost(held, "the server has given the job up or to another") from exc
            except AdapterUnavailable as exc:
                raise self._lost(
                    held, f"and with it the connection; a commit may have been done: {exc}"
                ) from exc
            except BaseException as exc:
                connection.broken(exc)
                self._lost(held, "")
                if isinstance(exc, CLEAN):
                    raise AdapterError(f"job {held.id} was not settled: {type(exc).__name__}") from exc
                raise
            self._held = None
            if held.attempt > 1:
                self._adapter.suspects.discard(held.server_id)
        if taken is None:
            return None
        try:
            return self._taken(connection, *taken, started)
        except AdapterError:
            _log.debug("the job after job %s could not be taken", held.id, exc_info=True)
            return None

    @staticmethod
    def _delete_and_ask(connection: Connection, server_id: int) -> tuple[int, bytes] | None:
        connection.send(b"delete %d\r\nreserve-with-timeout 0\r\n" % server_id)
        connection.values(b"DELETED")
        # From here on the job is settled: a failure of the second half is no failure of it.
        try:
            return connection.job(b"RESERVED")
        except greenstalk.TimedOutError:
            return None
        except Exception as exc:
            connection.broken(exc)
            return None

    def _owned(self, reservation: Reservation) -> tuple[Connection, BeanstalkReservation]:
        """Return the connection that holds the job, or refuse (rule 4).

        Raises:
            LeaseLost: Another delivery, another connection, another process, or too late.
        """
        held = self._held
        if held is None or held is not reservation:
            raise LeaseLost(reservation.id, "the reservation was settled or given up before")
        connection = self._connection
        if connection is None or connection.generation != held.generation or not connection.is_usable:
            raise self._lost(held, "the connection that held it was lost")
        if held.deadline is not None and self._clock.monotonic() >= held.deadline:
            raise self._lost(held, f"its {held.ttr} s are over")
        # Only now, as it costs a system call: after a long wait the job was to start at once.
        connection.socket.set_read_timeout(self._slack)
        return connection, held

    def _lost(self, held: BeanstalkReservation, why: str) -> LeaseLost:
        """Give up what is left of a lease; the server may still think that we hold the job."""
        error = LeaseLost(held.id, why)
        self._held = None
        self._adapter.suspects.add(held.server_id)
        if self._connection is not None:
            self._connection.close()
        return error

    def _ended(self, held: BeanstalkReservation) -> None:
        self._held = None
        self._adapter.suspects.discard(held.server_id)

    def _roll_back(self, connection: Connection, held: BeanstalkReservation, pause: timedelta) -> None:
        # Without a pause it would be the next one of its priority again, however often it fails.
        seconds = min(max(1, whole_seconds(pause)), MAX_NUMBER)
        stats = connection.call(connection.client.stats_job, held.server_id)
        job = greenstalk.Job(held.server_id, held.body)
        self._adapter.suspects.add(held.server_id)
        try:
            connection.call(connection.client.release, job, stats["pri"], seconds)
        except greenstalk.NotFoundError:
            raise
        except AdapterUnavailable:
            raise
        except (AdapterError, *CLEAN) as exc:
            raise self._limbo(connection, held, "rollback", exc) from exc
        self._held = None

    def _bury(self, connection: Connection, held: BeanstalkReservation, reason: str, message: str) -> None:
        stats = connection.call(connection.client.stats_job, held.server_id)
        record = Record(
            server_id=held.server_id,
            body=fingerprint(held.body),
            reserves=stats["reserves"],
            kicks=stats["kicks"],
            attempt=self._attempt(connection, held.server_id, held.body, stats),
            id=held.id,
            reason=reason,
            message=message,
            at=self._clock.now(),
        )
        # The record first: without its burial it is removed by the next reader, but a burial
        # without its record would have no reason.
        self._adapter.records.write(connection, stats["tube"], record)
        job = greenstalk.Job(held.server_id, held.body)
        try:
            connection.call(connection.client.bury, job, stats["pri"])
        except greenstalk.NotFoundError:
            raise
        except AdapterUnavailable:
            raise
        except (AdapterError, *CLEAN) as exc:
            raise self._limbo(connection, held, "burial", exc) from exc
        self._ended(held)

    def _limbo(
        self, connection: Connection, held: BeanstalkReservation, what: str, exc: Exception
    ) -> AdapterError:
        """Log the whole job: until a restart the server may show it to nobody (rule 10)."""
        _log.error(
            "the server failed at the %s of job %s (%s); it may be out of reach until the server is "
            "restarted. Its body: %r",
            what,
            held.id,
            exc or type(exc).__name__,
            held.body,
            extra={"job_id": held.id, "body": held.body},
        )
        connection.broken(exc)
        return AdapterError(f"{what} of job {held.id} was refused: {exc or type(exc).__name__}")

    # --- meanwhile -----------------------------------------------------------------------------

    def extend(self, reservation: Reservation) -> None:
        """Touch the job; any failure means that the lease is over, as the connection holds it."""
        with self._talking:
            connection, held = self._owned(reservation)
            started = self._clock.monotonic()
            try:
                connection.call(connection.client.touch, greenstalk.Job(held.server_id, held.body))
            except AdapterError as exc:
                raise self._lost(held, f"touch failed: {exc}") from exc
            except CLEAN as exc:
                raise self._lost(held, "the server has given the job up or to another") from exc
            held.deadline = started + held.ttr

    def attempt(self, reservation: Reservation) -> int:
        """Ask the server (S10)."""
        with self._talking:
            connection, held = self._owned(reservation)
            try:
                stats = connection.call(connection.client.stats_job, held.server_id)
                return self._attempt(connection, held.server_id, held.body, stats)
            except CLEAN as exc:
                raise AdapterError(f"job {held.id}: attempts unknown ({type(exc).__name__})") from exc

    def cancel(self) -> None:
        """Wake a waiting reserve by shutting its connection down; nothing is held over it."""
        with self._gate:
            self._is_cancelled = True
            connection = self._waiting
            # A job whose reply is here already was delivered before this call: let it be taken.
            if connection is not None and not connection.socket.is_readable():
                self._waiting = None
                connection.shut_down()

    def close(self) -> None:
        """Close the connection; the server returns at once what it holds."""
        self._is_closed = True
        self.cancel()
        with self._talking:
            connection, self._connection = self._connection, None
            held, self._held = self._held, None
            if held is not None:
                self._adapter.suspects.add(held.server_id)
            if connection is not None:
                connection.close()

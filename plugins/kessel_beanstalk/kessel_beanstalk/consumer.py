"""The consuming side for one slot: one connection, one job at a time.

It implements these rules: fencing by generation and lease deadline (4), the job's own priority and a pause of
at least a second (8; see `settling`), touch under the connection's lock (9). While a job runs there is no
outstanding reserve, so DEADLINE_SOON cannot occur and no second job is held.
A little over 350 lines, because the calls share one connection and the lock that guards it.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Final, assert_never

from kessel_beanstalk import commands
from kessel_beanstalk.attempts import FirstDeliveries
from kessel_beanstalk.commands import Command, StoredBody
from kessel_beanstalk.connection import Connection
from kessel_beanstalk.delivery import SHORTEST_LEASE, BeanstalkReservation
from kessel_beanstalk.options import whole_seconds
from kessel_beanstalk.settling import GIVEN_AWAY, Settling
from kessel_beanstalk.shared import Shared
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
    Snooze,
    get_logger,
    head_of,
)

__all__ = ["BeanstalkConsumer"]

#: Longest single reserve command, in seconds. After it a server that vanished silently is noticed, and a
#: worker that vanished gets no more jobs.
_LONGEST_RESERVE: Final = 30
#: A longer wait, in seconds, uses up too much of the shortest lease, so the server is asked for the real one.
_SHORT_WAIT: Final = 0.25
_SHORTEST_SECONDS: Final = SHORTEST_LEASE.total_seconds()
_RESERVE_NOW: Final = commands.reserve(0)

log = get_logger("kessel.beanstalk")


class BeanstalkConsumer(Consumer):
    """Connects at the first `reserve`, and again at the next one after each loss."""

    def __init__(self, shared: Shared, queues: tuple[str, ...]) -> None:
        self._shared = shared
        self._clock = shared.clock
        self._names = shared.names
        self._queues = queues
        self._only_queue = queues[0] if len(queues) == 1 else None
        self._connection: Connection | None = None
        self._held: BeanstalkReservation | None = None
        self._firsts = FirstDeliveries(shared.suspects)
        self._settling = Settling(shared)
        self._longest = min(_LONGEST_RESERVE, max(1, shared.options.ttr_seconds // 4))
        self._slack = shared.options.timeout.total_seconds()
        #: Guards the connection: `extend` and a settle on behalf of the slot come from other threads.
        self._talking = threading.Lock()
        #: Guards the three attributes below, only briefly.
        self._gate = threading.Lock()
        self._waiting: Connection | None = None
        self._is_cancelled = False
        self._is_closed = False

    # --- reserve -------------------------------------------------------------------------------

    def reserve(self, timeout: timedelta) -> Reservation | None:
        """Reserve the next job; waits in whole seconds, rounded up.

        Raises:
            AdapterUnavailable: As `Consumer.reserve`; also if the record of the job cannot be read.
            ProtocolError: As `Consumer.reserve`.
        """
        if self._held is not None:
            raise AdapterError("this consumer still holds a job; settle it first")
        clock = self._clock
        until = clock.monotonic() + timeout.total_seconds()
        seconds = min(whole_seconds(timeout), self._longest)
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
            seconds = min(whole_seconds(timedelta(seconds=left)), self._longest)

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None and connection.is_usable:
            return connection
        self._connection = None
        self._firsts.forget()
        try:
            self._connection = connection = self._shared.server.connect(watch=self._queues)
        except CapabilityMissing as exc:  # raised only by the very first connect, which is not this one
            raise AdapterUnavailable(str(exc)) from exc
        return connection

    def _reserved_within(self, connection: Connection, seconds: int) -> BeanstalkReservation | None:
        if not self._may_wait(connection):
            return None
        started = self._clock.monotonic()
        connection.wait_at_most(seconds + self._slack)
        try:
            taken = connection.ask(commands.reserve(seconds))
        except AdapterUnavailable:
            if self._is_cancelled:  # `cancel` has cut the connection
                return None
            raise
        finally:
            with self._gate:
                was_cut = self._waiting is None
                self._waiting = None
        if taken is None:
            return None
        connection.check()  # after the wait
        if was_cut:
            # The job came over a connection that `cancel` has just shut down, so the server has it back.
            self._shared.suspects.add(taken.server_id)
            connection.close()
            return None
        return self._taken(connection, taken, started)

    def _may_wait(self, connection: Connection) -> bool:
        """Record that a reserve is outstanding, so that `cancel` may cut it; False after `cancel`."""
        with self._gate:
            if not self._is_cancelled:
                self._waiting = connection
            return not self._is_cancelled

    def _taken(self, connection: Connection, taken: StoredBody, started: float) -> BeanstalkReservation:
        server_id, body = taken.server_id, taken.body
        head = head_of(body)
        queue = self._only_queue
        if head is not None and queue is None and head.queue in self._queues:
            queue = head.queue
        name = head.id if head is not None else ""
        held = BeanstalkReservation(
            name if name and name[0] != "@" else self._names.name_by(server_id, name),
            queue or "",
            body,
            1,
            started + _SHORTEST_SECONDS,
            SHORTEST_LEASE,
            0,
            server_id,
            connection.generation,
            started,
            self.settle,
        )
        if (
            head is None
            or queue is None
            or not self._firsts.is_probably_first(server_id, head.priority)
            or self._clock.monotonic() - started > _SHORT_WAIT
        ):
            self._learn_at_once(connection, held)
            if head is not None:
                self._firsts.asked(server_id, head.priority)
        self._held = held
        return held

    def _learn_at_once(self, connection: Connection, held: BeanstalkReservation) -> None:
        connection.wait_at_most(self._slack)
        try:
            self._settling.learn(connection, held)
        except LeaseLost as exc:
            connection.broken(exc)
            raise AdapterUnavailable(f"job @{held.server_id} was gone at once") from exc
        except BaseException as exc:
            # The caller will not know the job, so it must not stay reserved.
            connection.broken(exc)
            raise

    # --- settle --------------------------------------------------------------------------------

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """End the reservation; see the contract. Thread-safe.

        Raises:
            LeaseLost: As `Consumer.settle`; a lost connection is a lost lease.
            AdapterError: The server failed; the job may be inaccessible until the server is restarted.
        """
        self._settle(reservation, settlement, None)

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """Settle and reserve the next job; a commit and the reserve are sent in one write.

        Raises:
            AdapterError: As `settle`.
        """
        if settlement is not COMMIT and not isinstance(settlement, Commit):
            return super().settle_and_reserve(reservation, settlement)
        if self._is_cancelled:
            self.settle(reservation, settlement)
            return None
        started = self._clock.monotonic()
        taken = self._settle(reservation, settlement, _RESERVE_NOW)
        if taken is None or self._connection is None:
            return None
        try:
            return self._taken(self._connection, taken, started)
        except AdapterError:
            log.debug("the job after job %s could not be taken", reservation.id, exc_info=True)
            return None

    def _settle(
        self, reservation: Reservation, settlement: Settlement, then: Command[StoredBody | None] | None
    ) -> StoredBody | None:
        with self._talking:
            connection, held = self._owned(reservation)
            taken = None
            try:
                match settlement:
                    case Commit():
                        taken = self._settling.commit(connection, held, then)
                    case Rollback(pause):
                        self._settling.roll_back(connection, held, pause)
                    case Snooze(pause):
                        self._settling.snooze(connection, held, pause)
                    case Bury(reason, message):
                        self._settling.bury(connection, held, reason, message)
                    case _:
                        assert_never(settlement)
            except LeaseLost:
                self._give_up(held)
                raise
            except AdapterUnavailable as exc:
                self._give_up(held)
                why = f"and with it the connection; a commit may have been done: {exc}"
                raise LeaseLost(held.id, why) from exc
            except BaseException as exc:
                connection.broken(exc)  # so that nothing stays reserved
                self._give_up(held)
                raise
            self._held = None
            return taken

    # --- the held job --------------------------------------------------------------------------

    def _owned(self, reservation: Reservation) -> tuple[Connection, BeanstalkReservation]:
        """Return the connection that holds the job, or refuse (rule 4).

        Raises:
            LeaseLost: It belongs to another delivery, connection or process, or the lease is over.
        """
        held = self._held
        if held is None or held is not reservation:
            raise LeaseLost(reservation.id, "the reservation was settled or given up before")
        connection = self._connection
        if connection is None or connection.generation != held.generation or not connection.is_usable:
            self._give_up(held)
            raise LeaseLost(held.id, "the connection that held it was lost")
        try:  # only now, because it takes a system call, and after a wait the job was to start at once
            connection.wait_at_most(self._slack)
        except AdapterError as exc:
            self._give_up(held)
            raise LeaseLost(held.id, f"the connection that held it was lost: {exc}") from exc
        if held.deadline is not None and self._clock.monotonic() >= held.deadline:
            self._learn_late(connection, held)
            if self._clock.monotonic() >= held.deadline:
                self._give_up(held)
                raise LeaseLost(held.id, f"its {held.lease} are over")
        return connection, held

    def _learn_late(self, connection: Connection, held: BeanstalkReservation) -> None:
        """Ask for the real lease if only the shortest possible one was assumed so far."""
        try:
            self._settling.learn(connection, held)
        except AdapterError as exc:
            self._give_up(held)
            raise LeaseLost(held.id, f"the server cannot say whether it still holds: {exc}") from exc

    def _give_up(self, held: BeanstalkReservation) -> None:
        """Give up a lease by closing the connection: the server may still think that we hold the job."""
        self._held = None
        self._shared.suspects.add(held.server_id)
        if self._connection is not None:
            self._connection.close()

    # --- while the job runs -----------------------------------------------------------------------------

    def extend(self, reservation: Reservation) -> None:
        """Touch the job; any failure ends the lease, because it depends on the connection.

        Raises:
            LeaseLost: As `Consumer.extend`, or the touch failed.
        """
        with self._talking:
            connection, held = self._owned(reservation)
            started = self._clock.monotonic()
            try:
                is_held = connection.ask(commands.touch(held.server_id))
                self._settling.learn(connection, held)
            except AdapterError as exc:
                self._give_up(held)
                raise LeaseLost(held.id, f"touch failed: {exc}") from exc
            if not is_held:
                self._give_up(held)
                raise LeaseLost(held.id, GIVEN_AWAY)
            held.begin_lease(started)

    def attempt(self, reservation: Reservation) -> int:
        """Ask the server (S10).

        Raises:
            LeaseLost: The reservation no longer holds its job.
            AdapterError: The server cannot be asked.
        """
        with self._talking:
            connection, held = self._owned(reservation)
            self._settling.learn(connection, held)
            return held.attempt

    def kicks(self, reservation: Reservation) -> int:
        """Ask the server, which counts every kick, also those of other clients.

        Raises:
            LeaseLost: The reservation no longer holds its job.
            AdapterError: The server cannot be asked.
        """
        with self._talking:
            connection, held = self._owned(reservation)
            return self._settling.learn(connection, held).kicks

    def cancel(self) -> None:
        """Wake a waiting reserve by shutting down its connection, which holds no job."""
        with self._gate:
            self._is_cancelled = True
            connection = self._waiting
            # If the reply has arrived already, the job was delivered before this call, so keep it.
            if connection is not None and not connection.socket.is_readable():
                self._waiting = None
                connection.shut_down()

    def close(self) -> None:
        """Close the connection; the server returns a held job at once."""
        self._is_closed = True
        self.cancel()
        with self._talking:
            connection, self._connection = self._connection, None
            held, self._held = self._held, None
            if held is not None:
                self._shared.suspects.add(held.server_id)
            if connection is not None:
                connection.close()

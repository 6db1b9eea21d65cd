"""What all adapters have in common: queue checks, waiting, cancel, close, dispatch of settlements.

An author derives from `BaseAdapter` and implements a few calls to the backend, each thread-safe; the
consumers are provided here. Its base `WaitingAdapter` leaves settlements open, for backends that settle and
take in one step. An adapter whose slots wait in the backend writes its own consumer, on `BaseConsumer` or
on `Consumer`, and overrides `make_consumer`.
"""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, assert_never

from kessel_core.clock import later
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.consumer import Consumer
from kessel_core.contract.facets import VirtualTime
from kessel_core.contract.messages import Reservation
from kessel_core.contract.rounding import rounded_up
from kessel_core.contract.spec import AdapterContext
from kessel_core.contract.waiting import Waiter, WaitingLine
from kessel_core.errors import AdapterError, AdapterUnavailable, EnqueueRejected, LeaseLost
from kessel_core.model.message import Message
from kessel_core.model.settlement import NO_PAUSE, Bury, Commit, Rollback, Settlement, Snooze

__all__ = ["BaseAdapter", "BaseConsumer", "WaitingAdapter"]

#: Longest sleep of a waiting consumer before it looks again, unless the adapter says otherwise.
POLL: Final = timedelta(milliseconds=100)


class WaitingAdapter(QueueAdapter):
    """A queue whose consumers wait in one line; how jobs are stored, taken and settled is left open.

    For a backend that settles and takes in one step, or that has one operation for all settlements;
    `BaseAdapter` is the shorter way. To implement: `capabilities`, `put`, `take`, `end`, `renew_many`,
    `queues`, `stats`, `purge`, and `shut` if there is something to close. Any thread may call them, several
    at the same time.

    Args:
        context: What the application provides; its clock is the adapter's only source of time.
    """

    def __init__(self, context: AdapterContext) -> None:
        self.context = context
        self.clock = context.clock
        #: The consumers of this process that wait for a job.
        self.line = WaitingLine()
        self._consumers: weakref.WeakSet[BaseConsumer] = weakref.WeakSet()
        self._is_closed = False

    # what an author implements

    @abstractmethod
    def put(self, message: Message) -> None:
        """Store one job; raises what `enqueue` raises."""

    @abstractmethod
    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        """Reserve the next ready job of these queues for one lease, without waiting; None if none is ready.

        Raises:
            AdapterUnavailable: The connection is gone; calling again reconnects.
        """

    @abstractmethod
    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        """Settle; raises what `Consumer.settle` raises. Waiting consumers are notified by the caller."""

    @abstractmethod
    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        """Renew leases to their full length from now, in one step if the backend can.

        Returns:
            For each None, or why it is not renewed: `LeaseLost` if it no longer holds its job. One that is
            lost does not keep the others from being renewed.
        """

    def shut(self) -> None:
        """Release connections, files and threads; called once."""

    def looks_again(self, queues: tuple[str, ...]) -> datetime | None:
        """Return when a waiting consumer should look again without being notified; None: never.

        The default is in a tenth of a second, because other processes cannot notify this one; with
        `VirtualTime` it is the time of the next change, if that is sooner.
        """
        time = self.facet(VirtualTime)
        change = time.next_change(queues) if time is not None else None
        poll = self.clock.now() + POLL
        return poll if change is None else min(poll, change)

    def settle_and_take(
        self, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
    ) -> Reservation | None:
        """Settle, and take the next job if one is ready; see `Consumer.settle_and_reserve`.

        The default does one after the other; override it for a backend that can do both in one step.
        """
        self.settle(reservation, settlement)
        try:
            return self.take(queues)
        except AdapterError:
            return None

    # the contract

    def enqueue(self, message: Message) -> None:
        """See `QueueAdapter.enqueue`; a waiting consumer of this process is notified at once."""
        self.refuse_if_closed()
        self.put(message)
        self.announce(message.queue, message.delay)

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        """Create a consumer that uses the calls above."""
        self.refuse_if_closed()
        consumer = BaseConsumer(self, queues)
        self._consumers.add(consumer)
        return consumer

    def give_back(self, reservation: Reservation) -> None:
        """See `QueueAdapter.give_back`."""
        if reservation.deadline is not None and self.clock.monotonic() >= reservation.deadline:
            raise LeaseLost(reservation.id, "its lease is over")
        self.settle(reservation, Snooze())

    def extend_many(self, held: Sequence[tuple[Consumer, Reservation]]) -> list[Exception | None]:
        """See `QueueAdapter.extend_many`; what is still held is renewed by `renew_many`."""
        # Before it is sent: the holder must see the end of its lease before the others do.
        begun = self.clock.monotonic()
        outcomes: list[Exception | None] = [LeaseLost(one.id, "its lease is over") for _, one in held]
        live = [
            (number, one)
            for number, (_, one) in enumerate(held)
            if one.deadline is None or begun < one.deadline
        ]
        for (number, one), outcome in zip(live, self.renew_many([one for _, one in live]), strict=True):
            outcomes[number] = outcome
            if outcome is None and one.lease is not None:
                one.deadline = begun + one.lease.total_seconds()
        return outcomes

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """Settle, and notify consumers that wait for the job. Raises what `end` raises."""
        self.end(reservation, settlement)
        self.announce_return(reservation.queue, settlement)

    def announce_return(self, queue: str, settlement: Settlement) -> None:
        """Notify waiting consumers if a settlement makes the job ready again."""
        if isinstance(settlement, (Rollback, Snooze)) and not self.line.is_empty:
            pause = settlement.pause
            self.announce(queue, None if pause <= NO_PAUSE else later(self.clock.now(), pause))

    def announce(self, queue: str, due: datetime | None = None) -> None:
        """Notify waiting consumers of one job that is ready now, or will be at `due`; see rule 9."""
        if self.line.is_empty:
            return
        if due is None or due <= self.clock.now():
            self.line.announce(queue)
        else:
            self.line.announce(queue, 0, due)

    def refuse_if_closed(self) -> None:
        """Raise AdapterUnavailable once the adapter is closed."""
        if self._is_closed:
            raise AdapterUnavailable(f"the adapter {self.name!r} is closed")

    def close(self) -> None:
        """See `QueueAdapter.close`; waiting consumers are cancelled."""
        if self._is_closed:
            return
        self._is_closed = True
        for consumer in list(self._consumers):
            consumer.cancel()
        self.shut()


class BaseAdapter(WaitingAdapter):
    """A queue for which an author implements the calls to the backend, and nothing else.

    To implement: `capabilities`, `put`, `take`, `commit`, `release`, `bury`, `renew`, `queues`, `stats`,
    `purge`, and `shut` if there is something to close. Any thread may call them, several at the same time.
    """

    @abstractmethod
    def commit(self, reservation: Reservation) -> None:
        """Remove the job.

        Raises:
            LeaseLost: The backend says that the reservation no longer holds its job.
        """

    @abstractmethod
    def release(self, reservation: Reservation, pause: timedelta, *, counts: bool) -> None:
        """Make the job ready again after a pause, with its own priority.

        Args:
            reservation: The reservation that holds the job.
            pause: Zero or more; a multiple of `delay_granularity`.
            counts: Whether this delivery counts as an attempt (S10); if not, it counts as a snooze (S21).

        Raises:
            LeaseLost: The backend says that the reservation no longer holds its job.
        """

    @abstractmethod
    def bury(self, reservation: Reservation, reason: str, message: str) -> None:
        """Set the job aside with its reason.

        Raises:
            LeaseLost: The backend says that the reservation no longer holds its job.
        """

    @abstractmethod
    def renew(self, reservation: Reservation) -> None:
        """Renew the lease to its full length from now; does nothing if the job has no lease.

        Raises:
            LeaseLost: The backend says that the reservation no longer holds its job.
        """

    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        """Call `renew` for one after the other; override it for a backend that can do all in one step."""
        outcomes: list[AdapterError | None] = [None] * len(reservations)
        for number, reservation in enumerate(reservations):
            try:
                self.renew(reservation)
            except AdapterError as exc:
                outcomes[number] = exc
        return outcomes

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        """Call `commit`, `release` or `bury`; raises what they raise."""
        match settlement:
            case Commit():
                self.commit(reservation)
            case Rollback(pause) | Snooze(pause):
                whole = rounded_up(pause, self.capabilities.delay_granularity)
                self.release(reservation, whole, counts=isinstance(settlement, Rollback))
            case Bury(reason, message):
                self.bury(reservation, reason, message)
            case _:
                assert_never(settlement)


class BaseConsumer(Consumer):
    """The consuming side for one slot, built on the calls of a `WaitingAdapter`."""

    def __init__(self, adapter: WaitingAdapter, queues: tuple[str, ...]) -> None:
        self._adapter = adapter
        self._clock = adapter.clock
        self._queues = queues
        self._held: Reservation | None = None
        self._waiter: Waiter | None = None
        self._is_cancelled = False
        self.is_closed = False

    def reserve(self, timeout: timedelta) -> Reservation | None:
        """See `Consumer.reserve`; woken by jobs of this process, polls for those of others."""
        if self._is_stopped():
            return None
        self._held = found = self._adapter.take(self._queues)
        if found is not None or timeout <= NO_PAUSE:
            return found
        line, clock = self._adapter.line, self._clock
        end = clock.monotonic() + timeout.total_seconds()
        # Join the line first, then look again: a job that arrives after that look wakes this consumer.
        waiter = self._waiter = line.join(frozenset(self._queues))
        try:
            while not self._is_stopped():
                with line.lock:
                    waiter.woken, waiter.planned = False, None
                self._held = found = self._adapter.take(self._queues)
                left = end - clock.monotonic()
                if found is not None or left <= 0:
                    return found
                planned = self._adapter.looks_again(self._queues)
                if planned is not None:
                    left = min(left, max(0.0, (planned - clock.now()).total_seconds()))
                with line.lock:
                    waiter.planned = planned
                    if not waiter.woken and not self._is_stopped():
                        clock.wait(waiter.condition, left)
            return None
        finally:
            self._waiter = None
            line.leave(waiter)

    def _is_stopped(self) -> bool:
        return self._is_cancelled or self.is_closed

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """See `Consumer.settle`."""
        self._refuse_if_lost(reservation)
        try:
            self._adapter.settle(reservation, settlement)
        except (AdapterUnavailable, EnqueueRejected):
            raise  # the lease still holds, so the caller may try again
        except AdapterError:
            self._held = None
            raise
        self._held = None

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """See `Consumer.settle_and_reserve`; a cancelled consumer takes nothing more."""
        if self._is_stopped():
            self.settle(reservation, settlement)
            return None
        self._refuse_if_lost(reservation)
        try:
            self._held = self._adapter.settle_and_take(reservation, settlement, self._queues)
        except (AdapterUnavailable, EnqueueRejected):
            raise  # the lease still holds, so the caller may try again
        except AdapterError:
            self._held = None
            raise
        return self._held

    def extend(self, reservation: Reservation) -> None:
        """See `Consumer.extend`."""
        (outcome,) = self._adapter.extend_many([(self, reservation)])
        if outcome is not None:
            raise outcome

    def _refuse_if_lost(self, reservation: Reservation) -> None:
        if reservation is not self._held:
            raise LeaseLost(reservation.id, "this slot does not hold it (any more)")
        if reservation.deadline is not None and self._clock.monotonic() >= reservation.deadline:
            self._held = None
            raise LeaseLost(reservation.id, "its lease is over")

    def cancel(self) -> None:
        """See `Consumer.cancel`."""
        self._is_cancelled = True
        if (waiter := self._waiter) is not None:
            self._adapter.line.wake([waiter])

    def close(self) -> None:
        """See `Consumer.close`; a job that is still held is rolled back at once."""
        if self.is_closed:
            return
        self.is_closed = True
        held, self._held = self._held, None
        if held is not None:
            with suppress(AdapterError):  # if this fails, the job comes back when its lease ends
                self._adapter.settle(held, Rollback())

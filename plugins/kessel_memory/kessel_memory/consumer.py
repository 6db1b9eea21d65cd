"""The consuming side of the memory adapter: the calls of one slot, each under the store's lock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from kessel_core.contract import Consumer, Reservation, Settlement
from kessel_memory.queue import Waiter
from kessel_memory.store import Store

__all__ = ["MemoryConsumer"]


class MemoryConsumer(Consumer):
    """The consuming side for one slot."""

    def __init__(self, store: Store, queues: Sequence[str]) -> None:
        self._store = store
        self._lock = store.lock
        self._clock = store.clock
        self._reservation: Reservation | None = None
        self.is_closed = False
        with self._lock:
            self._queues = tuple(store.queue(name) for name in queues)
            for queue in self._queues:
                queue.consumers += 1
            self._waiter = Waiter(self._queues, self._lock)

    def reserve(self, timeout: timedelta) -> Reservation | None:
        """As `Consumer.reserve`; woken by the job itself, never polls."""
        with self._lock:
            if self._waiter.cancelled:
                return None
            self._reservation = reservation = self._store.take(self._queues, self._clock.monotonic())
            if reservation is None and timeout:
                self._reservation = reservation = self._store.wait_and_take(
                    self._waiter, timeout.total_seconds()
                )
            return reservation

    def settle(self, reservation: Reservation, settlement: Settlement) -> None:
        """As `Consumer.settle`."""
        with self._lock:
            self._store.settle(reservation, settlement, self._clock.monotonic())

    def settle_and_reserve(self, reservation: Reservation, settlement: Settlement) -> Reservation | None:
        """As `Consumer.settle_and_reserve`; both under one lock, and at one moment."""
        with self._lock:
            mono = self._clock.monotonic()
            self._store.settle(reservation, settlement, mono)
            if self._waiter.cancelled:
                return None
            self._reservation = following = self._store.take(self._queues, mono)
            return following

    def extend(self, reservation: Reservation) -> None:
        """As `Consumer.extend`."""
        with self._lock:
            self._store.extend(reservation)

    def cancel(self) -> None:
        """As `Consumer.cancel`; also safe inside a signal handler."""
        with self._lock:
            self._store.cancel(self._waiter)

    def close(self) -> None:
        """As `Consumer.close`; a reservation that is still held goes back at once."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            self._store.cancel(self._waiter)
            for queue in self._queues:
                queue.consumers -= 1
            if self._reservation is not None:
                self._store.drop(self._reservation)
                self._reservation = None

"""What becomes of a reservation that an adapter has never made."""

from __future__ import annotations

import pytest

from kessel_core.contract import COMMIT, NO_PAUSE, LeaseLost, Message, QueueAdapter, Reservation, Snooze

__all__ = ["reservation_of_another_adapter_holds_nothing"]


def reservation_of_another_adapter_holds_nothing(adapter: QueueAdapter) -> None:
    """Check that every call refuses it as lost (S7), and that the jobs of this adapter stay as they are."""
    adapter.enqueue(Message("a", "q", b"x", 1))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    foreign = Reservation("a", "q", b"x", 1)
    for settlement in (COMMIT, Snooze()):
        with pytest.raises(LeaseLost):
            consumer.settle(foreign, settlement)
        with pytest.raises(LeaseLost):
            consumer.settle_and_reserve(foreign, settlement)
    with pytest.raises(LeaseLost):
        adapter.give_back(foreign)
    lost, renewed = adapter.extend_many([(consumer, foreign), (consumer, held)])
    assert isinstance(lost, LeaseLost)
    assert renewed is None
    assert adapter.stats("q").reserved == 1
    consumer.settle(held, COMMIT)
    assert adapter.stats("q").total == 0
    consumer.close()

"""What one look at the queues of an engine over a network tells (E8)."""

from __future__ import annotations

from datetime import timedelta

from kessel_core.contract import Message, Outlook, Pause, ServerAdapter, need

__all__ = ["one_look_tells_of_each_queue"]


def one_look_tells_of_each_queue(adapter: ServerAdapter) -> None:
    """Check what an adapter without jobs tells its line of queues that are ready, due, paused and empty."""
    hour = timedelta(hours=1)
    adapter.enqueue(Message("1", "ready", b"", 1))
    adapter.enqueue(Message("2", "due", b"", 1, delay=adapter.clock.now() + hour))
    adapter.enqueue(Message("3", "paused", b"", 1))
    need(adapter, Pause).pause("paused", hour)
    ready, due, paused, empty = adapter.line.outlooks(("ready", "due", "paused", "empty"))
    assert ready == Outlook("ready", None, True, None)
    assert due[:3] == ("due", None, False) and due.due is not None
    assert hour * 0.9 < due.due <= hour
    assert paused.is_ready and paused.paused is not None and hour * 0.9 < paused.paused <= hour
    assert empty == Outlook("empty", None, False, None)

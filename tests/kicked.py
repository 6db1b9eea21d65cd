"""What is shown of a job that was buried and kicked, by whatever adapter."""

from __future__ import annotations

from contextlib import closing

from kessel_core.contract import NO_PAUSE, Browse, Buried, Bury, JobState, Message, QueueAdapter, need

__all__ = ["kicked_says_nothing_of_its_burial"]


def kicked_says_nothing_of_its_burial(adapter: QueueAdapter) -> None:
    """S8: it is somebody's work again, and whoever looks at it must not take it for one that failed."""
    adapter.enqueue(Message("a", "kicked", b'{"type": "t", "id": "a"}', 9))
    with closing(adapter.consumer(["kicked"])) as consumer:
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        consumer.settle(held, Bury("error", "no such card"))
        need(adapter, Buried).kick("kicked", "a")
        (ready,) = need(adapter, Browse).peek("kicked", JobState.READY, 2)
        assert (ready.reason, ready.message, ready.buried_at) == (None, None, None)
        assert consumer.reserve(NO_PAUSE) is not None
        (reserved,) = need(adapter, Browse).peek("kicked", JobState.RESERVED, 2)
        assert (reserved.reason, reserved.message, reserved.buried_at) == (None, None, None)

"""S6: what time made ready keeps its place before what came back later."""

from __future__ import annotations

from datetime import timedelta

from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core.contract import AdapterContext, Message, Rollback
from kessel_core.testing import VirtualClock

NOW = timedelta(0)


def test_s6_a_delayed_job_that_came_due_goes_before_one_rolled_back_after() -> None:
    clock = VirtualClock()
    adapter = MemoryAdapter(MemoryOptions(), AdapterContext(clock=clock))
    adapter.enqueue(Message("first", "default", b"{}", 0))
    consumer = adapter.consumer(["default"])
    held = consumer.reserve(NOW)
    assert held is not None
    adapter.enqueue(Message("due", "default", b"{}", 0, clock.now() + timedelta(seconds=1)))
    clock.advance(timedelta(seconds=6))
    consumer.settle(held, Rollback())
    found = consumer.reserve(NOW)
    assert found is not None
    assert found.id == "due"
    adapter.close()

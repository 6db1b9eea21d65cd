"""After a fork every process has its own queue: the child's is empty, and works (F08)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import SystemClock
from kessel_core.contract import NO_PAUSE, AdapterContext, Message
from tests.until import until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

#: A child that waits for its parent's threads would wait for ever.
LONG = 10.0


def opened() -> MemoryAdapter:
    return MemoryAdapter(MemoryOptions(), AdapterContext(clock=SystemClock()))


def in_child(work: Callable[[], bool]) -> bool:
    """Return what a function returns in a forked child; False also if it raises, or does not end in time."""
    child = os.fork()
    if not child:
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            os._exit(2)
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.002)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


def test_a_fork_while_another_thread_works_leaves_no_lock_behind() -> None:
    with closing(opened()) as adapter:
        is_over = threading.Event()

        def works() -> None:
            number = 0
            while not is_over.is_set():
                number += 1
                adapter.enqueue(Message(str(number), "q", b"x", 1))
                adapter._entry_store.put("s", "k", b"v")

        thread = threading.Thread(target=works)
        thread.start()
        try:
            for _ in range(30):
                assert in_child(lambda: adapter.enqueue(Message("a", "q", b"x", 1)) is None)
        finally:
            is_over.set()
            thread.join()


def test_a_child_has_no_jobs_and_entries_of_its_parent_which_keeps_them() -> None:
    with closing(opened()) as adapter:
        adapter.enqueue(Message("a", "q", b"x", 1))
        adapter._entry_store.put("s", "k", b"v")

        def is_empty() -> bool:
            found = adapter.consumer(["q"]).reserve(NO_PAUSE)
            adapter.enqueue(Message("a", "q", b"x", 1))  # its id is free
            entry = adapter._entry_store.get("s", "k")
            return found is None and entry is None and adapter.stats("q").ready == 1

        assert in_child(is_empty)
        assert adapter.stats("q").ready == 1
        assert adapter._entry_store.get("s", "k") is not None


@pytest.mark.parametrize("delay", [None, timedelta(seconds=0.3)])
def test_a_consumer_of_a_child_is_woken_though_others_waited_in_the_parent(delay: timedelta | None) -> None:
    with closing(opened()) as adapter:
        waits = threading.Thread(target=adapter.consumer(["q"]).reserve, args=(timedelta(seconds=60),))
        waits.start()
        until(lambda: bool(adapter._store.waiting))

        def is_woken() -> bool:
            consumer = adapter.consumer(["q"])
            due = None if delay is None else adapter._store.clock.now() + delay

            def enqueues() -> None:
                time.sleep(0.1)
                adapter.enqueue(Message("a", "q", b"x", 1, delay=due))

            threading.Thread(target=enqueues).start()
            begun = time.monotonic()
            found = consumer.reserve(timedelta(seconds=LONG))
            return found is not None and time.monotonic() - begun < LONG / 2

        assert in_child(is_woken)
        adapter.close()
        waits.join()

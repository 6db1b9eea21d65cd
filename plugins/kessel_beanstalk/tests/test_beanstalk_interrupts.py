"""Whatever a signal handler raises, and wherever: the next call has a connection in step (finding D7)."""

from __future__ import annotations

import inspect
import itertools
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter

from kessel_core.contract import COMMIT, NO_PAUSE, AdapterError, JobState, LeaseLost, Message


class Alarm(Exception):
    """What a signal handler raises."""


def message(name: str) -> Message:
    return Message(name, "q", b'{"id": "%s", "type": "a"}' % name.encode(), 5)


def interrupted_at(number: int, call: Callable[[], object]) -> bool:
    """Call, and raise where Python would run a signal handler for the so-manieth time; say whether it did.

    That is when a function begins or ends, and after each call of a C function.
    """
    seen = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal seen
        if frame.f_code.co_flags & inspect.CO_GENERATOR:
            return  # one that is thrown away could not raise
        if event != "c_call" and "kessel" in frame.f_code.co_filename:
            seen += 1
            if seen == number:
                sys.setprofile(None)
                raise Alarm

    sys.setprofile(profile)
    try:
        with suppress(Alarm, AdapterError):
            call()
    finally:
        sys.setprofile(None)
    return seen >= number


# A connection that was interrupted while it was set up is closed by whoever collects it.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("what", ["enqueue", "enqueue_many", "reserve and commit", "stats"])
def test_finding_d7_an_interrupted_call_leaves_neither_a_lock_nor_an_answer_of_another(
    adapter: BeanstalkAdapter, what: str
) -> None:
    names = map(str, itertools.count())
    acknowledged: set[str] = set()
    settled: set[str] = set()

    def enqueue() -> None:
        name = next(names)
        adapter.enqueue(message(name))
        acknowledged.add(name)

    def take() -> None:
        consumer = adapter.consumer(["q"])
        try:
            if (taken := consumer.reserve(NO_PAUSE)) is not None:
                assert taken.id is not None
                settled.add(taken.id)  # before, because an interrupted settlement may have been done
                with suppress(LeaseLost):
                    consumer.settle(taken, COMMIT)
        finally:
            consumer.close()

    def work() -> None:
        match what:
            case "enqueue":
                enqueue()
            case "enqueue_many":
                adapter.enqueue_many([message(next(names)) for _ in range(3)])
            case "stats":
                adapter.stats("q")
            case _:
                enqueue()
                take()

    number = 1
    while interrupted_at(number, work):
        enqueue()
        stored = {job.id for job in adapter.peek("q", JobState.READY, 100_000)}
        assert acknowledged - settled <= stored, number
        thread = threading.Thread(target=enqueue)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), number
        number += 1 if number < 60 else 7
    assert number > 10

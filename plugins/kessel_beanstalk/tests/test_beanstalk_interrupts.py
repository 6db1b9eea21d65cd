"""Whatever a signal handler raises, and wherever: nothing stays held, and no lie is told (S14)."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import AdapterError, AdapterUnavailable, EnqueueRejected, LeaseLost, UnknownJob
from kessel_core.contract import COMMIT, NO_PAUSE, Bury, JobState, Message, Rollback, Snooze
from tests.interrupts import Alarm, interrupted_at

#: A socket that was interrupted in its making is closed by the collector, at once, which says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Opened = Callable[..., BeanstalkAdapter]
SECOND = timedelta(seconds=1)


class Stop(BaseException):
    """What a signal handler raises, but no `Exception`, as Ctrl-C is."""


@pytest.fixture(autouse=True)
def _what_was_left_is_swept() -> Iterator[None]:
    """A socket that sits in a cycle is collected here, or its warning would fail the next test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def message(name: str, queue: str = "q") -> Message:
    return Message(name, queue, b'{"type":"t","id":"%b"}' % name.encode(), 9)


def nothing_is_held(adapter: BeanstalkAdapter) -> bool:
    """Wait for the server to notice closed connections."""
    until = time.monotonic() + 5
    while adapter.stats("q").reserved:
        if time.monotonic() > until:
            return False
        time.sleep(0.002)  # real: it is another process
    return True


@pytest.mark.parametrize("kind", [Alarm, Stop])
@pytest.mark.parametrize("what", ["enqueue", "enqueue_many"])
def test_finding_d7_an_enqueue_that_is_interrupted_anywhere_tells_no_lie_and_the_next_one_works(
    opened: Opened, server: Beanstalkd, what: str, kind: type[BaseException]
) -> None:
    """Surely not stored is said of no job that is; and no job lands in the tube of another."""
    adapter, other = opened(server.port), opened(server.port)
    adapter.enqueue(message("first"))
    surely_not: list[str] = []
    names = map(str, itertools.count())

    def one() -> None:
        name = next(names)
        try:
            adapter.enqueue(message(name, "a" if int(name) % 2 else "b"))
        except (EnqueueRejected, AdapterUnavailable):
            surely_not.append(name)
        except AdapterError:
            pass

    def many() -> None:
        asked = [message(next(names), queue) for queue in "aab"]
        for outcome, put in zip(adapter.enqueue_many(asked), asked, strict=True):
            if isinstance(outcome, EnqueueRejected | AdapterUnavailable):
                surely_not.append(put.id)

    number = 1
    while interrupted_at(number, one if what == "enqueue" else many, kind):
        adapter.enqueue(message(f"next-{number}", "c"))
        number += 1
    assert number > 10
    assert other.stats("c").ready == number - 1
    stored = {job.id for queue in "ab" for job in other.peek(queue, JobState.READY, 10_000)}
    assert not stored & set(surely_not)
    for name in stored if what == "enqueue" else ():
        assert name in {job.id for job in other.peek("a" if int(name) % 2 else "b", JobState.READY, 10_000)}


@pytest.mark.parametrize("kind", [Alarm, Stop])
@pytest.mark.parametrize("settlement", [COMMIT, Rollback(), Snooze(), Bury("error", "why")])
def test_finding_d7_a_reserve_and_a_settle_that_are_interrupted_anywhere_hold_no_job(
    opened: Opened, server: Beanstalkd, settlement: Any, kind: type[BaseException]
) -> None:
    """The job is settled, or delivered again; no later call waits or fails for what was left behind."""
    adapter, other = opened(server.port), opened(server.port)
    consumers = [adapter.consumer(["q"])]

    def work() -> None:
        with suppress(AdapterError):  # the conversation was interrupted
            held = consumers[0].reserve(NO_PAUSE)
            if held is not None:
                consumers[0].settle(held, settlement)

    number = 1
    adapter.enqueue(message("first"))
    while interrupted_at(number, work, kind):
        consumers.pop().close()  # as a slot does after whatever it did not expect
        consumers.append(adapter.consumer(["q"]))
        assert nothing_is_held(other), number
        other.purge("q")
        number += 1
        adapter.enqueue(message(f"job-{number}"))
    assert number > 20


@pytest.mark.parametrize("what", ["stats", "peek", "buried", "kick", "delete", "pause", "queues", "purge"])
def test_finding_d7_what_operators_do_can_be_interrupted_anywhere(
    opened: Opened, server: Beanstalkd, what: str
) -> None:
    adapter, other = opened(server.port), opened(server.port)
    consumer = other.consumer(["q"])

    def prepare() -> None:
        other.purge("q")
        other.enqueue(message("job-1"))
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        consumer.settle(held, Bury("error"))

    calls: dict[str, Callable[[], object]] = {
        "stats": lambda: adapter.stats("q"),
        "peek": lambda: adapter.peek("q", JobState.READY, 5),
        "buried": lambda: adapter.buried("q"),
        "kick": lambda: adapter.kick("q", "job-1"),
        "delete": lambda: adapter.delete("q", "job-1"),
        "pause": lambda: adapter.pause("q", NO_PAUSE),
        "queues": adapter.queues,
        "purge": lambda: adapter.purge("q"),
    }

    def work() -> None:
        with suppress(AdapterError):  # the conversation was interrupted
            calls[what]()

    number = 1
    prepare()
    while interrupted_at(number, work):
        assert nothing_is_held(other), number
        with suppress(UnknownJob):  # it was done before the interruption
            calls[what]()
        if what in ("kick", "delete", "purge"):
            prepare()
        number += 1 + number // 20
    assert number > 10


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
        with suppress(AdapterError):
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

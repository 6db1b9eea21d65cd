"""The eleven rules of the adapter (see its README), each against a real server.

Rule 10 needs a full disk: `test_beanstalk_exhausted.py`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kessel_beanstalk import commands
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.options import BeanstalkOptions, number_problem, whole_seconds
from kessel_beanstalk.testing import Beanstalkd
from kessel_conformance import FaultProxy

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    EnqueueRejected,
    EnqueueUnknown,
    InvalidConfig,
    LeaseLost,
)
from kessel_core.contract import COMMIT, NO_PAUSE, Bury, JobState, Message, Rollback, Snooze

Opened = Callable[..., BeanstalkAdapter]
SECOND = timedelta(seconds=1)


def message(number: int = 1, priority: int = 100, **fields: Any) -> Message:
    body = b'{"v":1,"id":"job-%d","type":"t","priority":%d,"payload":null}' % (number, priority)
    return Message(f"job-{number}", "q", fields.pop("body", body), priority, **fields)


def test_rule_1_bodies_are_bytes_and_a_silent_server_times_out(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter
) -> None:
    slow = opened(proxied.port, timeout=SECOND)
    slow.enqueue(message(body=b"\xff\xfe not text"))
    consumer = slow.consumer(["q"])
    found = consumer.reserve(SECOND)
    assert found is not None and found.body == b"\xff\xfe not text"
    consumer.settle(found, COMMIT)
    proxied.drop_down = True
    with pytest.raises(AdapterUnavailable):
        consumer.reserve(NO_PAUSE)
    consumer.close()


def test_rule_2_one_connection_a_slot_and_a_producer_thread(adapter: BeanstalkAdapter) -> None:
    failures: list[BaseException] = []

    def produce(base: int) -> None:
        try:
            for number in range(50):
                adapter.enqueue(message(base + number))
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=produce, args=(base * 100,)) for base in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not failures
    assert adapter.stats("q").ready == 400


def test_rule_2_a_forked_child_leaves_the_parents_lease_alone(adapter: BeanstalkAdapter) -> None:
    adapter.enqueue(message(1))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            adapter.enqueue(message(2))
            consumer.settle(held, COMMIT)
        except LeaseLost:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    following = consumer.settle_and_reserve(held, COMMIT)
    assert following is not None and following.id == "job-2"
    consumer.close()


def test_rule_3_a_surprise_closes_the_connection_and_a_clean_reply_keeps_it(
    adapter: BeanstalkAdapter,
) -> None:
    connection = adapter.shared.server.connect()
    assert connection.ask(commands.peek(999)) is None
    assert connection.is_usable
    connection.send(commands.stats)  # and something is raised before its answer is read
    assert not connection.is_usable and not connection.is_open


def test_rule_4_a_reservation_of_a_lost_connection_is_refused_locally(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter
) -> None:
    behind = opened(proxied.port)
    adapter.enqueue(message())
    consumer = behind.consumer(["q"])
    old = consumer.reserve(SECOND)
    assert old is not None
    proxied.cut()
    with pytest.raises(LeaseLost):
        consumer.settle(old, COMMIT)
    again = consumer.reserve(timedelta(seconds=3))
    assert again is not None and again.attempt == 2
    with pytest.raises(LeaseLost):
        consumer.settle(old, COMMIT)
    consumer.settle(again, COMMIT)
    consumer.close()


def test_rule_4_a_commit_after_the_lease_is_refused_locally(opened: Opened, server: Beanstalkd) -> None:
    adapter = opened(server.port, ttr=2 * SECOND)
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None and held.deadline is not None
    held.deadline = time.monotonic()  # as if the time had passed, with the server unaware
    with pytest.raises(LeaseLost):
        consumer.settle_and_reserve(held, COMMIT)
    assert adapter.stats("q").total == 1
    consumer.close()


def test_rule_5_an_enqueue_without_its_reply_is_unknown_and_not_repeated(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter
) -> None:
    behind = opened(proxied.port, timeout=SECOND)
    behind.enqueue(message(1))
    proxied.drop_down = True
    with pytest.raises(EnqueueUnknown):
        behind.enqueue(message(2))
    outcomes = None
    proxied.drop_down = False
    assert adapter.stats("q").ready == 2
    outcomes = behind.enqueue_many([message(3), message(4)])
    assert outcomes == [None, None]
    assert adapter.stats("q").ready == 4


def test_rule_5_an_enqueue_with_nobody_there_is_not_stored(opened: Opened, server: Beanstalkd) -> None:
    adapter = opened(server.port)
    server.kill()
    with pytest.raises(AdapterUnavailable):
        adapter.enqueue(message())


def test_rule_5_a_draining_server_rejects_and_workers_go_on(
    adapter: BeanstalkAdapter, server: Beanstalkd
) -> None:
    import signal

    adapter.enqueue(message(1))
    server.signal(signal.SIGUSR1)
    time.sleep(0.1)
    with pytest.raises(EnqueueRejected) as caught:
        adapter.enqueue(message(2))
    assert caught.value.reason == "draining"
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    consumer.settle(held, Bury("error", "while draining"))
    assert [job.id for job in adapter.buried("q")] == ["job-1"]
    consumer.close()


@pytest.mark.parametrize("value", [-1, 2**32, True, 0.5, "5", None])
def test_rule_6_numbers_are_refused_never_cut(adapter: BeanstalkAdapter, value: Any) -> None:
    assert number_problem(value) is not None
    with pytest.raises(EnqueueRejected) as caught:
        adapter.enqueue(Message("x", "q", b"{}", value))
    assert caught.value.reason == "out-of-range"
    assert adapter.stats("q").total == 0


def test_rule_6_spans_are_rounded_up(adapter: BeanstalkAdapter) -> None:
    assert [whole_seconds(timedelta(milliseconds=ms)) for ms in (0, 1, 1000, 1001)] == [0, 1, 1, 2]
    adapter.enqueue(message(delay=datetime.now(UTC) + timedelta(milliseconds=200)))
    assert adapter.stats("q").delayed == 1
    with pytest.raises(InvalidConfig):
        BeanstalkOptions(ttr=SECOND)


@pytest.mark.parametrize("name", ["a b", "a\r\ndelete 1", "", "-a", "a" * 201, "ä", "a\n", "kessel.buried.q"])
def test_rule_6_names_that_beanstalkd_refuses_never_reach_it(adapter: BeanstalkAdapter, name: str) -> None:
    with pytest.raises(EnqueueRejected):
        adapter.enqueue(Message("x", name, b"{}", 1))
    with pytest.raises(InvalidConfig):
        adapter.consumer([name])
    with pytest.raises(AdapterError):
        adapter.stats(name)


def test_rule_7_size_is_checked_before_sending(adapter: BeanstalkAdapter) -> None:
    limit = adapter.capabilities.max_body_bytes
    assert limit == 65533
    with pytest.raises(EnqueueRejected) as caught:
        adapter.enqueue(message(1, body=b"x" * (limit + 1)))
    assert caught.value.reason == "too-large"
    adapter.enqueue(message(2, body=b"put 0 0 1 1\r\nx\r\n" + b"x" * (limit - 16)))
    assert adapter.stats("q").total == 1


def test_rule_8_rollback_and_bury_keep_the_priority_and_pause_a_second(
    adapter: BeanstalkAdapter,
) -> None:
    adapter.enqueue(message(priority=7))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None
    consumer.settle(held, Rollback())
    [job] = adapter.peek("q", JobState.DELAYED)
    assert job.priority == 7
    held = consumer.reserve(timedelta(seconds=3))
    assert held is not None and held.attempt == 2
    consumer.settle(held, Bury("error", "because"))
    [job] = adapter.buried("q")
    assert (job.id, job.priority, job.reason, job.message, job.attempt) == ("job-1", 7, "error", "because", 2)
    adapter.kick("q", "job-1")
    held = consumer.reserve(SECOND)
    assert held is not None and held.attempt == 1
    assert consumer.attempt(held) == 1
    consumer.settle(held, COMMIT)
    consumer.close()


def test_rule_9_touch_renews_the_lease_from_another_thread(opened: Opened, server: Beanstalkd) -> None:
    adapter = opened(server.port, ttr=2 * SECOND)
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(SECOND)
    assert held is not None and held.deadline is not None
    before = held.deadline
    thread = threading.Thread(target=consumer.extend, args=(held,))
    thread.start()
    thread.join(5)
    assert held.deadline > before
    consumer.settle(held, COMMIT)
    with pytest.raises(LeaseLost):
        consumer.extend(held)
    consumer.close()


def test_rule_11_facts_are_logged_and_a_server_without_binlog_can_be_refused(
    opened: Opened, server: Beanstalkd, durable: Beanstalkd, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        opened(durable.port, require_durable=True)
    assert "binlog on" in caplog.text and "max job size 65535" in caplog.text
    with pytest.raises(CapabilityMissing):
        opened(server.port, require_durable=True)


@pytest.mark.parametrize("pause", [timedelta(seconds=10**12), timedelta.max])
@pytest.mark.parametrize("kind", [Rollback, Snooze])
def test_finding_d14_an_absurd_pause_is_the_longest_that_the_server_takes(
    adapter: BeanstalkAdapter, pause: timedelta, kind: Any
) -> None:
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    reservation = consumer.reserve(SECOND)
    assert reservation is not None
    consumer.settle(reservation, kind(pause))
    consumer.close()
    (waiting,) = adapter.peek("q", JobState.DELAYED)
    assert waiting.due is not None
    assert waiting.due - datetime.now(UTC) > timedelta(days=49_000)
    adapter.pause("q", pause)
    paused = adapter.stats("q").paused
    assert paused is not None
    assert paused > timedelta(days=49_000)

"""Snoozes on a server that counts every delivery (S21): what it cannot keep on the job is kept beside it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import greenstalk
import pytest
from kessel_beanstalk import commands
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.testing import Beanstalkd
from kessel_conformance import FaultProxy

from kessel_core import LeaseLost
from kessel_core.contract import COMMIT, Bury, Consumer, JobState, Message, Reservation, Rollback, Snooze

Opened = Callable[..., BeanstalkAdapter]
SECOND = timedelta(seconds=1)
SOON = 3 * SECOND


def message(number: int = 1) -> Message:
    body = b'{"v":1,"id":"job-%d","type":"t","priority":7,"payload":null}' % number
    return Message(f"job-{number}", "q", body, 7)


def taken(consumer: Consumer) -> Reservation:
    found = consumer.reserve(SOON)
    assert found is not None
    return found


def counted(consumer: Consumer, held: Reservation) -> tuple[int, int]:
    """Return attempts and snoozes as the server and the records have them."""
    return consumer.attempt(held), held.snoozes


def records(server: Beanstalkd, kind: str = "snoozed") -> int:
    """Return how many records are alive."""
    with greenstalk.Client(("127.0.0.1", server.port)) as client:
        try:
            return client.stats_tube(f"kessel.{kind}.q")["current-jobs-ready"]
        except greenstalk.NotFoundError:
            return 0


def test_s21_a_snoozed_delivery_does_not_count_whoever_takes_the_job_next(
    opened: Opened, server: Beanstalkd
) -> None:
    """Each adapter stands for a process: it knows nothing of what the other did."""
    here, there = opened(server.port), opened(server.port)
    here.enqueue(message())
    mine, other = here.consumer(["q"]), there.consumer(["q"])
    held = taken(mine)
    assert counted(mine, held) == (1, 0)
    mine.settle(held, Snooze())
    held = taken(other)
    assert counted(other, held) == (1, 1)
    other.settle(held, Rollback())
    held = taken(mine)
    assert counted(mine, held) == (2, 1)
    mine.settle(held, Snooze())
    held = taken(mine)
    assert counted(mine, held) == (2, 2)
    mine.settle(held, Snooze())
    held = taken(other)
    assert counted(other, held) == (2, 3)
    other.settle(held, COMMIT)
    assert here.stats("q").total == 0


def test_s21_a_snoozed_job_keeps_its_priority_and_waits_in_whole_seconds_rounded_up(
    adapter: BeanstalkAdapter,
) -> None:
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    consumer.settle(taken(consumer), Snooze(timedelta(seconds=1.2)))
    [job] = adapter.peek("q", JobState.DELAYED)
    assert (job.priority, job.attempt, job.snoozes) == (7, 0, 1)
    assert consumer.reserve(SECOND) is None
    held = taken(consumer)
    [job] = adapter.peek("q", JobState.RESERVED)
    assert (job.attempt, job.snoozes) == (1, 1)
    consumer.settle(held, COMMIT)


def test_s21_snoozes_survive_a_restart_with_binlog(opened: Opened, durable: Beanstalkd) -> None:
    adapter = opened(durable.port)
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    consumer.settle(taken(consumer), Rollback())
    for _ in range(2):
        consumer.settle(taken(consumer), Snooze())
    durable.kill()
    durable.start()
    fresh = opened(durable.port)
    for attempt, consumer in ((2, fresh.consumer(["q"])), (3, adapter.consumer(["q"]))):
        held = taken(consumer)
        assert counted(consumer, held) == (attempt, 2)
        consumer.close()  # as if it died: this delivery counts


def test_s21_one_record_a_job_is_alive_and_none_after_its_end(opened: Opened, server: Beanstalkd) -> None:
    here, there = opened(server.port), opened(server.port)
    here.enqueue_many([message(1), message(2)])
    mine, other = here.consumer(["q"]), there.consumer(["q"])
    for consumer in (mine, mine, other, mine):
        for _ in range(2):
            consumer.settle(taken(consumer), Snooze())
        assert records(server) == 2
    first, second = taken(mine), taken(other)
    assert mine.settle_and_reserve(first, COMMIT) is None
    assert records(server) == 1
    other.settle(second, COMMIT)
    assert records(server) == 0


def test_s21_a_job_that_was_snoozed_and_kicked_starts_anew(opened: Opened, server: Beanstalkd) -> None:
    adapter = opened(server.port)
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    consumer.settle(taken(consumer), Snooze())
    consumer.settle(taken(consumer), Bury("error", "why"))
    [job] = adapter.buried("q")
    assert (job.attempt, job.snoozes, job.reason) == (1, 1, "error")
    assert (records(server), records(server, "buried")) == (0, 1)
    for operator in (adapter, opened(server.port)):
        operator.kick("q", "job-1")
        held = taken(consumer)
        assert counted(consumer, held)[0] == 1
        consumer.settle(held, Snooze())
        held = taken(consumer)
        assert counted(consumer, held)[0] == 1
        consumer.settle(held, Bury("error"))
    assert (records(server), records(server, "buried")) == (0, 1)


def test_s21_a_snooze_that_the_server_keeps_no_record_of_counts_and_says_so(
    adapter: BeanstalkAdapter, server: Beanstalkd, caplog: pytest.LogCaptureFixture
) -> None:
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = taken(consumer)
    server.signal(signal.SIGUSR1)
    time.sleep(0.1)
    consumer.settle(held, Snooze())
    assert "keeps no record (DRAINING) of job job-1" in caplog.text
    held = taken(consumer)
    assert counted(consumer, held) == (2, 0)
    consumer.close()


def test_s21_a_snooze_that_the_server_refuses_leaves_no_record_by_which_a_later_attempt_would_not_count(
    opened: Opened, server: Beanstalkd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S10: the record would be taken for that of the next release, which is a retry."""
    here, release = opened(server.port), commands.release
    here.enqueue(message())
    consumer = here.consumer(["q"])
    held = taken(consumer)
    with monkeypatch.context() as patched:
        patched.setattr(commands, "release", lambda number, *rest: release(number + 1000, *rest))
        with pytest.raises(LeaseLost):
            consumer.settle(held, Snooze())
    assert records(server) == 0
    consumer.settle(taken(consumer), Rollback())
    consumer.close()
    with closing(opened(server.port).consumer(["q"])) as other:
        assert counted(other, taken(other)) == (3, 0)


def test_s21_a_record_whose_snooze_did_not_come_about_changes_nothing(
    opened: Opened, proxied: FaultProxy, adapter: BeanstalkAdapter, server: Beanstalkd
) -> None:
    """As when a worker dies between the record and the release."""
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    consumer.settle(taken(consumer), Snooze())
    body = b'{"server_id":1,"body":"%s","reserves":2,"releases":1,"kicks":0,"uncounted":2,"snoozes":2,'
    body += b'"attempt":1,"id":"job-1","reason":null,"message":null,"at":null}'
    held = taken(consumer)
    consumer.close()  # its delivery counts
    with greenstalk.Client(("127.0.0.1", server.port), encoding=None, use="kessel.snoozed.q") as client:
        mark = client.peek_ready().body.split(b'"body":"')[1].split(b'"')[0]
        client.put(body.replace(b"%s", mark), 1)
    assert records(server) == 2
    consumer = opened(server.port).consumer(["q"])
    held = taken(consumer)
    assert counted(consumer, held) == (2, 1)
    consumer.settle(held, COMMIT)


def test_s21_a_job_is_given_back_for_a_slot_whose_thread_is_in_its_handler(
    opened: Opened, server: Beanstalkd
) -> None:
    adapter = opened(server.port)
    adapter.enqueue_many([message(1), message(2)])
    consumer = adapter.consumer(["q"])
    held = taken(consumer)
    stopping = threading.Thread(target=adapter.give_back, args=(held,))
    stopping.start()
    stopping.join(5)
    for settlement in (COMMIT, Rollback(), Snooze(), Bury("error")):
        with pytest.raises(LeaseLost):
            consumer.settle(held, settlement)
    with pytest.raises(LeaseLost):
        consumer.settle_and_reserve(held, COMMIT)
    with pytest.raises(LeaseLost):
        consumer.extend(held)
    with pytest.raises(LeaseLost):
        adapter.give_back(held)
    other = taken(consumer)  # the slot goes on
    assert other.id == "job-2"
    consumer.settle(other, COMMIT)
    again = taken(consumer)
    assert (again.id, *counted(consumer, again)) == ("job-1", 1, 1)
    consumer.settle(again, COMMIT)


def test_s21_of_a_settle_and_a_give_back_at_once_exactly_one_is_done(
    opened: Opened, server: Beanstalkd
) -> None:
    adapter = opened(server.port)
    numbers = range(40)
    adapter.enqueue_many([message(number) for number in numbers])
    consumer = adapter.consumer(["q"])
    committed = given_back = 0
    for _ in numbers:
        held = taken(consumer)
        outcomes: list[bool] = []

        def give_back(held: Reservation = held, outcomes: list[bool] = outcomes) -> None:
            try:
                adapter.give_back(held)
            except LeaseLost:
                outcomes.append(False)
            else:
                outcomes.append(True)

        stopping = threading.Thread(target=give_back)
        stopping.start()
        try:
            consumer.settle(held, COMMIT)
        except LeaseLost:
            given_back += 1
            done = False
        else:
            committed += 1
            done = True
        stopping.join(5)
        assert outcomes == [not done]
        if consumer.reserve(timedelta(0)) is not None:
            consumer.close()
            consumer = adapter.consumer(["q"])
    assert committed + given_back == len(numbers)


def test_s21_many_snoozed_jobs_are_taken_by_another_process_in_few_readings(
    opened: Opened, server: Beanstalkd, proxied: FaultProxy
) -> None:
    here = opened(server.port)
    here.enqueue_many([message(number) for number in range(100)])
    consumer = here.consumer(["q"])
    for _ in range(100):
        consumer.settle(taken(consumer), Snooze())
    there = opened(proxied.port)
    other = there.consumer(["q"])
    for _ in range(100):
        held = taken(other)
        assert counted(other, held) == (1, 1)
        other.settle(held, Rollback())
    assert proxied.traffic.connections <= 6
    for _ in range(100):
        held = taken(consumer)
        assert counted(consumer, held) == (2, 1)
        consumer.settle(held, COMMIT)
    assert records(server) == 0

"""What is known of a server and its jobs beyond one connection: restarts, forks, other slots (rules 2, 4)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from typing import Any, cast

import attrs
import greenstalk
import pytest
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.attempts import FirstDeliveries, Suspects
from kessel_beanstalk.commands import Command, StoredBody, TubeStats
from kessel_beanstalk.connection import Connection
from kessel_beanstalk.operations import Operations
from kessel_beanstalk.records import BURIED_PREFIX, SNOOZED_PREFIX, side_tube
from kessel_beanstalk.sidetubes import SideTubes
from kessel_beanstalk.testing import Beanstalkd

from kessel_core import AdapterUnavailable, EnqueueUnknown
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Bury,
    Consumer,
    Message,
    QueueStats,
    Reservation,
    Snooze,
)

Opened = Callable[..., BeanstalkAdapter]
SECOND = timedelta(seconds=1)
LONG = timedelta(seconds=20)


def message(number: int, priority: int = 9) -> Message:
    body = b'{"v":1,"id":"job-%d","type":"t","priority":%d,"payload":null}' % (number, priority)
    return Message(f"job-{number}", "q", body, priority)


def taken(consumer: Consumer, timeout: timedelta = LONG) -> Reservation:
    found = consumer.reserve(timeout)
    assert found is not None
    return found


HOLDER = """
import os, signal, sys
from datetime import timedelta
from kessel_beanstalk.adapter import BeanstalkAdapter
from kessel_beanstalk.options import BeanstalkOptions
from kessel_core import SystemClock
from kessel_core.contract import AdapterContext
adapter = BeanstalkAdapter(BeanstalkOptions(host="127.0.0.1", port=int(sys.argv[1])), AdapterContext(clock=SystemClock()))
consumer = adapter.consumer(["q"])
assert consumer.reserve(timedelta(seconds=20)) is not None
child = os.fork()
if child:
    print(child, flush=True)
signal.pause()
"""  # noqa: E501


def test_rule_2_a_forked_child_does_not_keep_the_jobs_of_a_parent_that_died(
    adapter: BeanstalkAdapter, server: Beanstalkd
) -> None:
    """A socket that stays open in the child keeps them reserved, for two minutes here."""
    adapter.enqueue(message(1))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HOLDER, str(server.port)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert adapter.stats("q").reserved == 1
            parent.kill()
            parent.wait(30)
            with closing(adapter.consumer(["q"])) as consumer:
                assert taken(consumer).id == "job-1"
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def test_rule_4_after_a_restart_nothing_is_believed_of_earlier_jobs(
    adapter: BeanstalkAdapter, server: Beanstalkd
) -> None:
    """Without a binlog the server uses their numbers again, for other jobs."""
    shared = adapter.shared
    adapter.enqueue_many([message(1), message(2)])
    with closing(adapter.consumer(["q"])) as consumer:
        consumer.settle(taken(consumer), Snooze())
        consumer.settle(taken(consumer), Bury("error"))
    assert shared.suspects.ids
    assert shared.side_tubes._known
    assert shared.names.numbers("job-1")
    epoch = shared.suspects.epoch
    server.kill()
    server.start()
    with suppress(AdapterUnavailable):
        adapter.stats("q")  # over the old connection
    adapter.stats("q")
    assert shared.suspects.ids == set()
    assert shared.suspects.epoch == epoch + 1
    assert shared.side_tubes._known == {}
    assert shared.names.numbers("job-1") == []
    assert shared.names.name_by(1, "") == "@1"


def test_rule_11_a_server_that_comes_back_without_its_binlog_is_not_used_if_jobs_must_be_durable(
    opened: Opened, durable: Beanstalkd
) -> None:
    adapter = opened(durable.port, require_durable=True)
    adapter.enqueue(message(1))
    binlog = durable.arguments
    durable.kill()
    durable.arguments = ()
    durable.start()
    with pytest.raises(EnqueueUnknown):
        adapter.enqueue(message(2))  # over the old connection
    with closing(adapter.consumer(["q"])) as consumer:
        for _ in range(2):
            with pytest.raises(AdapterUnavailable, match="without a binlog"):
                adapter.enqueue(message(2))
            with pytest.raises(AdapterUnavailable, match="without a binlog"):
                consumer.reserve(NO_PAUSE)
    durable.kill()
    durable.arguments = binlog
    durable.start()
    adapter.enqueue(message(3))
    assert adapter.stats("q").ready == 2


def test_rule_11_the_loss_of_a_connection_of_before_says_nothing_of_the_server_now(
    adapter: BeanstalkAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    """Each slot meets its own loss when it next asks: one line tells of all, and the server stays up."""
    server = adapter.shared.server
    caplog.set_level("INFO", "kessel.beanstalk")
    old = [server.connect() for _ in range(3)]
    old[0].broken(ConnectionError("gone"))
    with closing(server.connect()):
        for one in old[1:]:
            one.broken(ConnectionError("gone, too"))
        with closing(server.connect()):
            pass
    said = [record.getMessage().partition(" to ")[0] for record in caplog.records]
    assert said == ["lost the connection", "connected again"]


def test_s10_after_each_connect_the_server_is_asked_how_often_the_first_job_was_delivered(
    opened: Opened, server: Beanstalkd
) -> None:
    """Its number is larger than all that this slot saw before, and nobody here knows who had it meanwhile."""
    here, there = opened(server.port), opened(server.port)
    here.enqueue_many([message(n) for n in (1, 2)])
    with closing(here.consumer(["q"])) as mine:
        mine.settle(taken(mine), COMMIT)
        mine._connection.close()  # type: ignore[attr-defined]
        with closing(there.consumer(["q"])) as other:
            assert taken(other).id == "job-2"
        again = taken(mine)
        assert (again.id, again.attempt) == ("job-2", 2)


def test_s21_once_something_is_forgotten_a_reading_is_not_taken_for_complete(
    adapter: BeanstalkAdapter,
) -> None:
    """What was forgotten may be a record that a job, delivered in the next moment, is counted by."""
    side_tubes, tube = adapter.shared.side_tubes, side_tube(SNOOZED_PREFIX, "q")
    adapter.enqueue_many([message(1), message(2)])
    with closing(adapter.consumer(["q"])) as consumer:
        consumer.settle(taken(consumer), Snooze(LONG))
        side_tubes.prune("q")
        assert side_tubes.readings.age(tube, time.monotonic()) < LONG.total_seconds()
        side_tubes._most_known = len(side_tubes._known)
        consumer.settle(taken(consumer), Snooze(LONG))
        assert side_tubes.readings.age(tube, time.monotonic()) > LONG.total_seconds()


@pytest.mark.parametrize("how", ["closed", "given up", "released"])
def test_s10_a_job_that_another_slot_let_go_is_not_taken_for_a_first_delivery(
    adapter: BeanstalkAdapter, how: str
) -> None:
    """Its number is larger than all that this slot has seen, which is what a new job looks like."""
    adapter.enqueue_many([message(n) for n in (1, 2)])
    with closing(adapter.consumer(["q"])) as mine, closing(adapter.consumer(["q"])) as other:
        mine.settle(taken(mine), COMMIT)
        held = taken(other)
        assert held.id == "job-2"
        if how == "closed":
            other.close()
        elif how == "given up":
            other._give_up(held)  # type: ignore[attr-defined]
        else:
            other.settle(held, Snooze())
        again = taken(mine)
        assert (again.id, again.attempt, again.snoozes) == (
            ("job-2", 1, 1) if how == "released" else ("job-2", 2, 0)
        )


def test_a_pause_of_an_empty_queue_lasts_although_nobody_uses_its_tube(
    opened: Opened, server: Beanstalkd
) -> None:
    """The server forgets an unused tube, and its pause with it."""
    adapter = opened(server.port)
    adapter.pause("q", timedelta(minutes=5))
    adapter.stats("other")  # and what the operations use meanwhile changes nothing
    paused = adapter.stats("q").paused
    assert paused is not None
    assert timedelta(minutes=4) < paused <= timedelta(minutes=5)
    other = opened(server.port)
    other.enqueue(message(1))
    with closing(other.consumer(["q"])) as consumer:
        assert consumer.reserve(NO_PAUSE) is None
    adapter.pause("q", NO_PAUSE)
    assert adapter.stats("q").paused is None
    with closing(other.consumer(["q"])) as consumer:
        assert consumer.reserve(NO_PAUSE) is not None


@pytest.mark.parametrize(("pause", "left", "shown"), [(5, 3, 3), (5, 1, 1), (5, 0, 1), (None, 0, None)])
def test_the_last_second_of_a_pause_shows_as_one_that_is_left(
    opened: Opened, server: Beanstalkd, pause: int | None, left: int, shown: int | None
) -> None:
    """The server cuts the rest off to whole seconds: a queue would be paused for no time at all."""
    adapter = opened(server.port)
    adapter.enqueue(message(1))
    told = server_says(
        adapter, "q", pause=None if pause is None else pause * SECOND, pause_left=left * SECOND
    )
    assert told.paused == (None if shown is None else shown * SECOND)


def server_says(adapter: BeanstalkAdapter, tube: str, **changes: Any) -> QueueStats:
    """Return what is shown of a tube when the server says something else of it than it does."""

    class Told:
        def ask(self, command: Command[TubeStats | None]) -> TubeStats:
            with closing(adapter.shared.server.connect()) as connection:
                stats = connection.ask(command)
            assert stats is not None
            return attrs.evolve(stats, **changes)

    return Operations._stats(cast("Connection", Told()), tube)


class Readings:
    """Comes between a reading of records and their reservation."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: list[Callable[[], object]] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        real = SideTubes._reserve_all

        def reserve_all(connection: Connection) -> list[StoredBody]:
            with self._lock:
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
                act = self.before.pop(0) if self.before else None
            if act is not None:
                act()
            try:
                return real(connection)
            finally:
                with self._lock:
                    self._now -= 1

        monkeypatch.setattr(SideTubes, "_reserve_all", staticmethod(reserve_all))


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Readings:
    return Readings(monkeypatch)


def with_buried_jobs(adapter: BeanstalkAdapter, count: int) -> list[tuple[str, str]]:
    """Bury jobs; return their ids and reasons."""
    adapter.enqueue_many([message(number) for number in range(count)])
    with closing(adapter.consumer(["q"])) as consumer:
        for _ in range(count):
            consumer.settle(taken(consumer), Bury("error", "why"))
    return [(f"job-{number}", "error") for number in range(count)]


def listed(adapter: BeanstalkAdapter) -> list[tuple[str | None, str | None]]:
    return [(job.id, job.reason) for job in adapter.buried("q", 100)]


def test_who_lists_the_buried_while_another_does_reads_again_until_he_has_seen_all(
    opened: Opened, server: Beanstalkd, readings: Readings, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading reserves the records for a moment, so two who read at once would each get only some."""
    buried = with_buried_jobs(opened(server.port), 3)
    adapter = opened(server.port)
    with greenstalk.Client(("127.0.0.1", server.port), watch=side_tube(BURIED_PREFIX, "q")) as other:
        later = threading.Timer(0.1, other.close)
        # Between the look that sees nobody and the reservation; the next reading waits until it is over.
        readings.before = [lambda: (other.reserve(5), later.start()), lambda: None]
        assert listed(adapter) == buried
        later.join()
    assert readings.before == [], "it has read again"
    assert "held by another client" not in caplog.text


def test_of_one_process_one_reads_at_a_time(adapter: BeanstalkAdapter, readings: Readings) -> None:
    buried = with_buried_jobs(adapter, 3)
    seen: list[list[tuple[str | None, str | None]]] = []
    readings.before = [lambda: threading.Event().wait(0.1)] * 3
    threads = [threading.Thread(target=lambda: seen.append(listed(adapter))) for _ in range(3)]
    # Operations have one caller at a time, so the other two come as slots do.
    side_tubes = adapter.shared.side_tubes
    threads += [threading.Thread(target=side_tubes.burials, args=("q",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [buried] * 3
    assert readings.most_at_once == 1


# --- the guess, without a server -----------------------------------------------------------------------


def test_s10_a_job_is_probably_new_if_its_number_is_larger_than_all_of_its_priority() -> None:
    firsts = FirstDeliveries(Suspects())
    assert not firsts.is_probably_first(5, 9), "nothing was seen yet"
    firsts.asked(5, 9)
    assert not firsts.is_probably_first(5, 9)
    assert firsts.is_probably_first(6, 9)
    assert not firsts.is_probably_first(6, 9), "it was seen a moment ago"
    assert not firsts.is_probably_first(4, 9)
    assert not firsts.is_probably_first(7, 8), "nothing of this priority was seen"
    firsts.asked(3, 9)
    assert not firsts.is_probably_first(6, 9), "asking about an old one forgets nothing"
    firsts.forget()
    assert not firsts.is_probably_first(100, 9)


def test_s10_a_suspect_is_never_taken_for_new() -> None:
    suspects = Suspects()
    firsts = FirstDeliveries(suspects)
    firsts.asked(5, 9)
    suspects.add(7)
    assert not firsts.is_probably_first(7, 9)
    assert firsts.is_probably_first(8, 9)
    suspects.add(9)
    suspects.discard(9)
    suspects.discard(9)
    assert firsts.is_probably_first(9, 9)


def test_s10_when_suspects_are_forgotten_every_slot_forgets_what_it_has_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a job that came back would look new to all of them."""
    monkeypatch.setattr(Suspects, "_MOST", 3)
    suspects = Suspects()
    firsts = FirstDeliveries(suspects)
    firsts.asked(5, 9)
    for number in (10, 11, 12):
        suspects.add(number)
    assert firsts.is_probably_first(6, 9)
    suspects.add(13)
    assert suspects.ids == {13}
    assert not firsts.is_probably_first(7, 9)
    firsts.asked(7, 9)
    suspects.clear()
    assert (suspects.ids, firsts.is_probably_first(8, 9)) == (set(), False)


def test_s10_a_slot_does_not_remember_priorities_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FirstDeliveries, "_MOST", 2)
    firsts = FirstDeliveries(Suspects())
    for priority in (1, 2):
        firsts.asked(5, priority)
    assert firsts.is_probably_first(6, 1)
    firsts.asked(5, 3)
    assert not firsts.is_probably_first(7, 1)
    assert firsts.is_probably_first(6, 3)

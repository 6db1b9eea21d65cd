"""The clock is set while leases run (F34)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.edge import Written
from kessel_sqlite.hostclock import HostClock
from kessel_sqlite.link import Link

from kessel_core import AdapterUnavailable, JobManager, SystemClock
from kessel_core.contract import COMMIT, NO_PAUSE, JobState, Message, Rollback, Snooze

Opener = Callable[..., SqliteAdapter]


def message(name: str, body: bytes = b"x") -> Message:
    return Message(name, "q", body, 5)


def test_F34_of_several_adapters_one_moves_the_leases_after_a_jump_and_once(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They see the same clock as other processes of the machine do."""
    first, second = opened(), opened()
    first.enqueue(message("a"))
    with closing(first.consumer(["q"])) as holder, closing(second.consumer(["q"])) as other:
        taken = holder.reserve(NO_PAUSE)
        assert taken is not None
        before = first.peek("q", JobState.RESERVED)[0].due
        assert before is not None
        hour = timedelta(hours=1)
        monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + hour)
        third = opened()
        with closing(third.consumer(["q"])) as newcomer:
            for consumer in (newcomer, other, holder):
                assert consumer is holder or consumer.reserve(NO_PAUSE) is None
        due = first.peek("q", JobState.RESERVED)[0].due
        assert due is not None
        assert abs(due - before - hour) < timedelta(seconds=1)
        holder.extend(taken)
        holder.settle(taken, COMMIT)
    assert first.stats("q").total == 0


@pytest.mark.parametrize("step", [timedelta(seconds=-40), timedelta(hours=1)])
def test_F34_who_has_missed_a_jump_moves_the_leases_by_the_next_one_alone(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    """Another process has followed the first; both together would end a lease, or make it last for hours."""
    ahead = [timedelta()]
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + ahead[0])
    first, second = opened(lease=timedelta(seconds=30)), opened(lease=timedelta(seconds=30))
    first.enqueue(message("a"))
    with closing(first.consumer(["q"])) as holder, closing(second.consumer(["q"])) as other:
        taken = holder.reserve(NO_PAUSE)
        assert taken is not None
        ahead[0] += step
        holder.extend(taken)
        ahead[0] += step
        assert other.reserve(NO_PAUSE) is None
        due = first.peek("q", JobState.RESERVED)[0].due
        assert due is not None
        assert timedelta(seconds=20) < due - first.clock.now() <= timedelta(seconds=31)
        holder.extend(taken)
        holder.settle(taken, COMMIT)


def test_F34_a_clock_that_a_time_server_corrects_bit_by_bit_is_never_taken_for_one_that_was_set(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In sum it is minutes after some weeks; a warning of each second would hide the one that matters."""
    ahead = [timedelta()]
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + ahead[0])
    adapter = opened()
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as holder, closing(adapter.consumer(["q"])) as other:
        assert holder.reserve(NO_PAUSE) is not None
        (before,) = adapter.peek("q", JobState.RESERVED)
        for _ in range(8):
            ahead[0] += timedelta(seconds=0.4)
            assert other.reserve(NO_PAUSE) is None
        assert adapter.peek("q", JobState.RESERVED)[0].due == before.due
        assert "the wall clock was set" not in caplog.text
        ahead[0] += timedelta(hours=1)
        assert other.reserve(NO_PAUSE) is None
        assert "the wall clock was set by +3600" in caplog.text


class Setting:
    """Sets the wall clock of all adapters an hour on, just before one next asks for the file's lock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hours = 0
        self._patch = monkeypatch
        monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + timedelta(hours=self._hours))

    def while_waiting(self, adapter: SqliteAdapter, then: Callable[[], object] = lambda: None) -> None:
        run = adapter.engine.file.run

        def waiting(link: Link, work: Any, *, writes: bool = True, written: Written = None) -> Any:
            if writes and not self._hours:
                self._hours = 1
                then()
            return run(link, work, writes=writes, written=written)

        self._patch.setattr(adapter.engine.file, "run", waiting)


@pytest.mark.parametrize("way", ["reserve", "settle_and_reserve"])
def test_F34_a_clock_that_is_set_while_a_claim_waits_takes_no_job_from_its_holder(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """S7: the look before the lock knew nothing of the jump."""
    first, second = opened(), opened()
    setting = Setting(monkeypatch)
    first.enqueue_many([message("a"), message("b"), message("c")])
    with closing(first.consumer(["q"])) as holder, closing(second.consumer(["q"])) as other:
        held = holder.reserve(NO_PAUSE)
        assert held is not None
        taken = other.reserve(NO_PAUSE) if way == "settle_and_reserve" else None
        setting.while_waiting(second)
        taken = other.reserve(NO_PAUSE) if taken is None else other.settle_and_reserve(taken, COMMIT)
        assert taken is not None
        assert {held.id, taken.id} == {job.id for job in first.peek("q", JobState.RESERVED, 9)}
        holder.settle(held, COMMIT)


def test_F34_a_clock_that_is_set_while_a_lease_is_extended_does_not_end_it(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S7: another process had moved the lease already; the time from before the jump must not undo that."""
    first, second = opened(), opened()
    setting = Setting(monkeypatch)
    first.enqueue(message("a"))
    with closing(first.consumer(["q"])) as holder, closing(second.consumer(["q"])) as other:
        held = holder.reserve(NO_PAUSE)
        assert held is not None
        setting.while_waiting(first, then=lambda: other.reserve(NO_PAUSE))
        holder.extend(held)
        assert other.reserve(NO_PAUSE) is None
        holder.settle(held, COMMIT)


def test_F34_a_jump_whose_move_could_not_be_stored_is_seen_again(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise sqlite3.OperationalError("the disk is full")

    adapter = opened()
    setting = Setting(monkeypatch)
    adapter.enqueue(message("a"))
    with closing(adapter.consumer(["q"])) as holder:
        held = holder.reserve(NO_PAUSE)
        assert held is not None
        setting.while_waiting(adapter)
        with monkeypatch.context() as patch:
            patch.setattr(HostClock, "_write", refused)
            with pytest.raises(AdapterUnavailable):
                holder.extend(held)
        holder.extend(held)
        with closing(adapter.consumer(["q"])) as other:
            assert other.reserve(NO_PAUSE) is None
        holder.settle(held, COMMIT)


@pytest.mark.parametrize("pause", [timedelta(seconds=10**12), timedelta.max])
@pytest.mark.parametrize("kind", [Rollback, Snooze])
def test_finding_d14_an_absurd_pause_ends_with_the_calendar_and_can_be_looked_at(
    tmp_path: Path, pause: timedelta, kind: Any
) -> None:
    with JobManager(f"sqlite:///{tmp_path}/jobs.db", handlers={"a": print}) as manager:
        adapter: Any = manager.adapter
        manager.request("a")
        manager.request("a", delay=datetime.max.replace(tzinfo=UTC))
        consumer = adapter.consumer(["default"])
        reservation = consumer.reserve(NO_PAUSE)
        consumer.settle(reservation, kind(pause))
        consumer.close()
        assert [job.due.year for job in adapter.peek("default", JobState.DELAYED, 5)] == [9999, 9999]
        adapter.pause("default", pause)
        assert adapter.stats("default").paused > timedelta(days=365_000)


def test_F34_the_clock_of_another_boot_is_not_compared_with_this_one(
    opened: Opener, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Monotonic clocks begin anew at each boot, and in each container: leases would end, or never."""
    first = opened()
    first.enqueue(message("a"))
    with closing(first.consumer(["q"])) as holder, closing(sqlite3.connect(path)) as plain:
        assert holder.reserve(NO_PAUSE) is not None
        due = plain.execute("SELECT due FROM kessel_jobs").fetchone()
        own = plain.execute("SELECT value FROM kessel_meta WHERE key = 'clock'").fetchone()[0]
        plain.execute("UPDATE kessel_meta SET value = 'another/1 1234567' WHERE key = 'clock'")
        plain.commit()
        with closing(opened().consumer(["q"])) as newcomer:
            assert newcomer.reserve(NO_PAUSE) is None
        assert plain.execute("SELECT due FROM kessel_jobs").fetchone() == due
        now = plain.execute("SELECT value FROM kessel_meta WHERE key = 'clock'").fetchone()[0]
        assert now.partition(" ")[0] == own.partition(" ")[0], "it is the one to compare with from now on"
    assert "the wall clock was set" not in caplog.text

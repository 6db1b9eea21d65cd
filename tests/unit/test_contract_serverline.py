"""The line of those who wait for an adapter over a network: what is told wakes whom it concerns (E8, S4)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace

import pytest

from kessel_core import AdapterUnavailable
from kessel_core.contract import (
    EVERY_WAITER,
    NO_PAUSE,
    Listener,
    Outlook,
    ServerLine,
    Waiter,
    serverline,
    told_delayed,
    told_entry,
    told_ready,
)
from tests.descriptors import is_open, numbers
from tests.until import until

HOUR = timedelta(hours=1)


class Wire(Listener):
    """Listens at a pipe, on which a test speaks."""

    def __init__(self, line: Line, pipe: int) -> None:
        super().__init__(line, pipe)
        self._of = line
        self.turns = 0
        self.ends: tuple[int, int] | None = None

    def connect(self) -> int:
        if self._of.fails:
            raise self._of.fails.pop()
        self.ends = os.pipe()
        os.set_blocking(self.ends[0], False)
        self._of.connected.append(self)
        return self.ends[0]

    def ask(self) -> None:
        self._of.asked += 1
        if self._of.answers:
            self.say("pong")

    def say(self, text: str) -> None:
        assert self.ends is not None
        os.write(self.ends[1], f"{text}\n".encode())

    def turn(self) -> None:
        self.turns += 1
        super().turn()

    def hear(self, *, is_readable: bool) -> bool:
        if not is_readable or self.ends is None:
            return False
        told = os.read(self.ends[0], 4096).decode().splitlines()
        for one in told:
            self._of.hear(one)
        return "pong" in told

    def disconnect(self) -> None:
        ends, self.ends = self.ends, None
        for end in ends or ():
            os.close(end)


class Line(ServerLine):
    linger = 3600.0

    def __init__(self) -> None:
        super().__init__("test")
        self.connected: list[Wire] = []
        self.fails: list[Exception] = []
        self.asked = 0
        self.answers = True
        self.seen: dict[str, Outlook] = {}
        self.looks = 0
        self.has_woken = self.has_looked = False

    def look(self) -> bool:
        found = super().look()
        self.has_looked = True
        return found

    def wake_all(self) -> None:
        super().wake_all()
        self.has_woken = True

    def ear(self, pipe: int) -> Wire:
        return Wire(self, pipe)

    def outlooks(self, queues: Sequence[str]) -> Iterable[Outlook]:
        self.looks += 1
        return [self.seen.get(queue, Outlook(queue, None, False, None)) for queue in queues]

    def close(self) -> None:
        self.shut()


@pytest.fixture
def line() -> Iterator[Line]:
    with closing(Line()) as made:
        yield made


def listening(line: Line) -> Wire:
    """Wait until it listens, and has woken all who waited before; return what it listens with."""
    until(lambda: line.has_woken and (line.has_looked or line.is_idle))  # the first look wakes them as well
    for waiter in [*line._waiters, *line.entries._waiters]:
        waiter.woken = False
    return line.connected[-1]


@pytest.mark.parametrize(
    ("paused", "is_ready", "due", "change"),
    [
        (None, False, None, None),
        (None, True, HOUR, HOUR),
        (HOUR, True, None, HOUR),
        (HOUR, False, None, None),
        (HOUR, False, 2 * HOUR, 2 * HOUR),
        (2 * HOUR, False, HOUR, 2 * HOUR),
        (2 * HOUR, True, HOUR, 2 * HOUR),
    ],
)
def test_s4_time_alone_makes_a_job_ready_at_the_end_of_its_delay_and_of_the_pause(
    paused: timedelta | None, is_ready: bool, due: timedelta | None, change: timedelta | None
) -> None:
    assert Outlook("q", paused, is_ready, due).next_change == change


def test_what_is_told_wakes_whom_it_concerns(line: Line) -> None:
    one, two, other = line.join(frozenset({"q"})), line.join(frozenset({"q"})), line.join(frozenset({"r"}))
    entry, another = line.join_entry("s", "k:1"), line.join_entry("s", "k:2")
    wire = listening(line)
    wire.say(told_ready("q"))
    until(lambda: one.woken)
    wire.say(told_entry("s", "k:1"))
    until(lambda: entry.woken)
    assert (two.woken, other.woken, another.woken) == (False, False, False)
    wire.say(told_ready("r", EVERY_WAITER))
    until(lambda: other.woken)
    assert not two.woken


@pytest.mark.parametrize("told", ["", "x", "r:", "r:many:q", "d:-1:q", "d:9" + 30 * "9" + ":q", "e"])
def test_what_others_say_on_its_channel_is_ignored(line: Line, told: str) -> None:
    waiter = line.join(frozenset({"q"}))
    listening(line)
    line.hear(told)
    assert not waiter.woken
    assert line.planned is None


def test_s4_it_looks_when_a_delay_that_was_told_is_over(line: Line) -> None:
    waiter = line.join(frozenset({"q"}))
    wire = listening(line)
    line.seen["q"] = Outlook("q", None, True, None)
    wire.say(told_delayed("q", timedelta(milliseconds=30)))
    until(lambda: waiter.woken)


def test_s4_a_plan_is_kept_by_one_that_listens_already(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter plans in the thread of who has seen the delay: it has to end the long wait of the other."""
    for name in ("LOOK", "BEAT", "BEAT_TAKES"):
        monkeypatch.setattr(serverline, name, 3600.0)
    waiter = line.join(frozenset({"q"}))
    listening(line)
    line.seen["q"] = Outlook("q", None, True, None)
    line.plan(timedelta(milliseconds=1))
    until(lambda: waiter.woken)


def test_s19_a_look_is_for_those_who_wait_for_entries_as_well(line: Line) -> None:
    entry = line.join_entry("s", "k")
    listening(line)
    line.look()
    assert entry.woken


def test_an_earlier_plan_counts_and_a_later_one_does_not(line: Line) -> None:
    line.plan(2 * HOUR)
    line.plan(HOUR)
    line.plan(3 * HOUR)
    assert line.planned is not None
    assert 3590 < line.planned - time.monotonic() <= 3600


def test_a_listener_that_is_not_answered_is_replaced_and_all_look_once(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that listens is the one that dies unseen."""
    monkeypatch.setattr(serverline, "BEAT_TAKES", 0.05)
    monkeypatch.setattr(serverline, "LOOK", 3600.0)
    line.answers = False
    waiter = line.join(frozenset({"q"}))
    listening(line)
    line.answers = True
    until(lambda: len(line.connected) > 1)
    until(lambda: waiter.woken)


def test_a_listener_that_is_answered_is_asked_again_and_stays(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serverline, "BEAT", 0.01)
    line.join(frozenset({"q"}))
    listening(line)
    until(lambda: line.asked > 5)
    assert len(line.connected) == 1


@pytest.mark.parametrize("error", [AdapterUnavailable("away"), RuntimeError("a bug")])
def test_who_cannot_listen_wakes_all_who_wait_and_tries_again(line: Line, error: Exception) -> None:
    """They meet the same error, and report it; a line without a listener would leave them asleep."""
    line.fails += [error] * 1000
    waiter, entry = line.join(frozenset({"q"})), line.join_entry("s", "k")
    until(lambda: waiter.woken and entry.woken)
    line.fails.clear()
    until(lambda: line.connected)


@pytest.mark.parametrize("way", ["thread", "descriptor"])
@pytest.mark.parametrize("for_entry", [False, True])
def test_s9_where_nobody_can_listen_for_a_moment_the_next_who_waits_tries_again(
    line: Line, monkeypatch: pytest.MonkeyPatch, way: str, for_entry: bool
) -> None:
    """A process at its limit of threads was deaf for the rest of its life, and waiters stayed in the line."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread") if way == "thread" else OSError("too many open files")

    def join() -> Waiter:
        return line.join_entry("s", "k") if for_entry else line.join(frozenset({"q"}))

    before = numbers()
    with monkeypatch.context() as patch:
        if way == "thread":
            patch.setattr(threading.Thread, "start", refuse)
        else:
            patch.setattr("kessel_core.contract.pipes.os.pipe", refuse)
        with pytest.raises(AdapterUnavailable, match="nobody can listen"):
            join()
    assert line.is_idle
    assert numbers() == before
    waiter = join()
    listening(line).say(told_entry("s", "k") if for_entry else told_ready("q"))
    until(lambda: waiter.woken)


def test_it_looks_now_and_then_in_case_that_something_was_not_heard(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serverline, "LOOK", 0.01)
    line.seen["q"] = Outlook("q", None, True, None)
    waiter = line.join(frozenset({"q"}))
    listening(line)
    until(lambda: waiter.woken)


def test_what_a_look_plans_wakes_nobody_because_its_own_thread_looks() -> None:
    """An ear that looks whenever it wakes up would never rest."""

    class Looking:
        def __init__(self, line: ServerLine, pipe: int) -> None:
            self.line, self.pipe = line, pipe

        def turn(self) -> None:
            self.line.look()
            serverline.nap(self.pipe, 0.1)

        def close(self) -> None: ...

    class Polling(Line):
        def ear(self, pipe: int) -> Looking:  # type: ignore[override]  # another kind of ear
            return Looking(self, pipe)

    with closing(Polling()) as line:
        line.seen["q"] = Outlook("q", None, False, HOUR)
        line.join(frozenset({"q"}))
        until(lambda: line.looks)
        before = line.looks
        time.sleep(0.4)
        assert line.looks - before < 10


@pytest.mark.parametrize("due", [None, timedelta(milliseconds=20)])
def test_while_nobody_waits_an_overdue_look_keeps_no_core_busy(
    line: Line, monkeypatch: pytest.MonkeyPatch, due: timedelta | None
) -> None:
    """Its slots run jobs, for longer than the time between two looks; also when a planned moment is over."""
    monkeypatch.setattr(serverline, "LOOK", 0.05)
    waiter = line.join(frozenset({"q"}))
    wire = listening(line)
    line.leave(waiter)
    if due is not None:
        line.plan(due)
    time.sleep(0.1)
    before = wire.turns
    time.sleep(0.4)
    assert wire.turns - before < 10
    assert line.connected == [wire]


def test_s4_a_plan_ends_the_rest_of_a_line_in_which_nobody_waited(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serverline, "_IDLE", 3600.0)
    line.leave(line.join(frozenset({"q"})))
    wire = listening(line)
    before = wire.turns
    line.plan(timedelta(milliseconds=300))
    until(lambda: wire.turns > before)
    time.sleep(0.05)  # it rests again, and somebody waits by the time when the job is due
    line.seen["q"] = Outlook("q", None, True, None)
    waiter = line.join(frozenset({"q"}))
    until(lambda: waiter.woken)


def test_s4_a_look_plans_the_next_one_for_what_it_sees(line: Line) -> None:
    line.seen["q"] = Outlook("q", None, False, timedelta(milliseconds=60))
    waiter = line.join(frozenset({"q"}))
    listening(line)
    line.plan(NO_PAUSE)
    until(lambda: line.looks)
    line.seen["q"] = Outlook("q", None, True, None)
    until(lambda: waiter.woken, seconds=serverline.LOOK / 2)


def test_it_looks_as_often_as_it_is_said_to(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serverline, "LOOK", 0.02)
    monkeypatch.setattr(serverline, "_IDLE", 3600.0)
    line.join(frozenset({"q"}))
    listening(line)
    until(lambda: line.looks > 4)


def test_the_first_look_is_at_once_also_where_the_monotonic_clock_has_just_begun(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux it counts from the start of the machine."""
    begun = time.monotonic()
    monkeypatch.setattr(serverline, "time", SimpleNamespace(monotonic=lambda: time.monotonic() - begun))
    line.join(frozenset({"q"}))
    until(lambda: line.has_looked, seconds=serverline.LOOK / 2)


def test_the_thread_ends_once_nobody_waits_and_another_wait_starts_one(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Line, "linger", 0.01)
    monkeypatch.setattr(serverline, "LOOK", 0.01)
    waiter = line.join(frozenset({"q"}))
    wire, pipe = listening(line), line._pipe
    assert pipe is not None
    line.leave(waiter)
    until(lambda: line._thread is None)
    until(lambda: wire.ends is None)
    until(lambda: not any(is_open(end) for end in pipe))
    line.join(frozenset({"q"}))
    until(lambda: len(line.connected) == 2)


def test_shutting_ends_the_thread_and_wakes_who_waits_for_entries(line: Line) -> None:
    entry = line.join_entry("s", "k")
    listening(line)
    line.shut()
    assert entry.woken
    assert not [thread for thread in threading.enumerate() if thread.name == "kessel-test"]

"""The watcher of a file: who waits is woken by commits of others; an idle file costs nothing (S18, S19)."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest
from kessel_sqlite import pace, wake
from kessel_sqlite.entryline import EntryWaiter
from kessel_sqlite.pace import Seen
from kessel_sqlite.wake import FileLine
from kessel_sqlite.writes import Writes

from kessel_core.contract import AdapterUnavailable, Waiter
from tests.threadless import no_thread

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives notice of writes")

LONG = 30.0


class Told:
    """A source that sees a change when it is told to, so many looks later."""

    def __init__(self) -> None:
        self.looks = 0
        #: At which look the next change is seen; None: at none.
        self.at: int | None = None
        self.ready = True
        self.version = 1
        self.error: Exception | None = None
        self.is_closed = False

    def has_changed(self) -> bool:
        self.looks += 1
        if self.error is not None:
            raise self.error
        if self.at is None or self.looks < self.at:
            return False
        self.at = None
        return True

    def outlook(self, queues: Sequence[str]) -> Iterable[tuple[str, bool, datetime | None]]:
        return [(queue, self.ready, None) for queue in queues]

    def versions(self, entries: Sequence[tuple[str, str]]) -> Iterable[tuple[str, str, int]]:
        return [(space, key, self.version) for space, key in entries]

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "jobs.db-wal").write_bytes(b"")
    return tmp_path / "jobs.db"


@pytest.fixture
def source() -> Told:
    return Told()


@pytest.fixture
def line(path: Path, source: Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileLine]:
    """A line of this file that looks only where there is notice of a write."""
    monkeypatch.setattr(pace, "_SURE", 3600.0)
    monkeypatch.setattr(pace, "_SETTLING", 0.01)
    made = FileLine(str(path))
    made.open(lambda: source)
    yield made
    made.close()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def resting(source: Told) -> int:
    """Wait until the watcher has looked and rests; return how often it looked."""
    until(lambda: source.looks)
    while True:
        looks = source.looks
        time.sleep(0.06)
        if looks == source.looks:
            return looks


def written(path: Path) -> None:
    with path.with_name(path.name + "-wal").open("ab") as log:
        log.write(b"x")


@linux
def test_the_commit_that_follows_a_write_wakes_who_waits_however_late_it_is_seen(
    line: FileLine, source: Told, path: Path
) -> None:
    """The log is written before the commit can be seen; there is no second notice."""
    waiter = line.join(frozenset({"q"}))
    source.at = resting(source) + 4
    written(path)
    until(lambda: waiter.woken)
    line.leave(waiter)


@linux
def test_who_waits_for_an_entry_is_woken_by_a_write(line: FileLine, source: Told, path: Path) -> None:
    waiter = EntryWaiter(("s", "k"), 0, line.lock)
    line.join_entry(waiter)
    source.at = resting(source) + 1
    written(path)
    until(lambda: waiter.woken)
    line.entries.leave(waiter)


@linux
def test_nothing_is_looked_at_where_nothing_is_written(line: FileLine, source: Told) -> None:
    waiter = line.join(frozenset({"q"}))
    looks = resting(source)
    time.sleep(0.2)
    assert source.looks == looks
    line.leave(waiter)


@linux
def test_a_lost_notice_is_made_up_for_by_a_look_now_and_then(
    line: FileLine, source: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_SURE", 0.01)
    waiter = line.join(frozenset({"q"}))
    until(lambda: source.looks)
    source.at = source.looks + 20
    until(lambda: waiter.woken)
    line.leave(waiter)


def test_where_there_are_no_notices_the_file_is_polled(
    line: FileLine, source: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "watch", lambda path: None)
    waiter = line.join(frozenset({"q"}))
    until(lambda: source.looks)
    source.at = source.looks + 20
    until(lambda: waiter.woken)
    line.leave(waiter)


def test_a_log_that_is_not_there_yet_is_polled(line: FileLine, source: Told, path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()
    waiter = line.join(frozenset({"q"}))
    until(lambda: source.looks)
    source.at = source.looks + 20
    until(lambda: waiter.woken)
    line.leave(waiter)


def descriptors() -> set[str]:
    """What the descriptors of this process refer to."""
    found = set()
    for number in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            found.add(f"{number.name} {number.readlink()}")
    return found


@linux
def test_closing_ends_a_watcher_that_rests_and_gives_its_descriptors_back(
    line: FileLine, source: Told
) -> None:
    gc.collect()
    before = {found for found in descriptors() if "anon_inode" in found}
    waiter = line.join(frozenset({"q"}))
    resting(source)
    watcher = line._watcher
    assert watcher is not None
    during = {found for found in descriptors() if "anon_inode" in found}
    assert len(during - before) == 2
    line.close()
    watcher.join(LONG)
    assert not watcher.is_alive()
    assert source.is_closed
    assert not descriptors() & (during - before)
    line.leave(waiter)


@linux
def test_a_forked_child_closes_its_copies_of_the_descriptors(line: FileLine, source: Told) -> None:
    waiter = line.join(frozenset({"q"}))
    resting(source)
    assert any("inotify" in found for found in descriptors())
    if (child := os.fork()) == 0:
        os._exit(sum("inotify" in found for found in descriptors()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    line.leave(waiter)


def test_an_error_of_a_look_wakes_all_who_wait_and_the_watcher_goes_on(
    line: FileLine, source: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They meet the same error, and report it."""
    monkeypatch.setattr(wake, "_ERROR_SECONDS", 0.001)
    entry = EntryWaiter(("s", "k"), 1, line.lock)
    line.join_entry(entry)
    waiter = line.join(frozenset({"q"}))
    source.error = OSError("the disk is gone")
    until(lambda: waiter.woken and entry.woken)
    source.error, source.looks = None, 0
    until(lambda: source.looks)
    line.entries.leave(entry)
    line.leave(waiter)


@pytest.mark.parametrize(
    ("ready", "known", "expected"),
    [(True, 1, Seen.WANTED), (False, 1, Seen.CHANGED), (False, 0, Seen.WANTED)],
)
def test_a_look_says_whether_anybody_waits_for_what_was_committed(
    path: Path, source: Told, ready: bool, known: int, expected: Seen
) -> None:
    line = FileLine(str(path))  # without a watcher
    waiter, entry = line.join(frozenset({"q"})), EntryWaiter(("s", "k"), known, line.lock)
    line.join_entry(entry)
    source.ready = ready
    assert line._look(source) is Seen.NOTHING
    source.at = 0
    assert line._look(source) is expected
    assert (waiter.woken, entry.woken) == (ready, known != source.version)


def test_the_watcher_is_there_only_while_somebody_waits(
    line: FileLine, source: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "_LINGER_SECONDS", 0.01)
    monkeypatch.setattr(pace, "_SURE", 0.01)
    waiter = line.join(frozenset({"q"}))
    until(lambda: source.looks)
    watcher = line._watcher
    assert watcher is not None
    line.leave(waiter)
    watcher.join(LONG)
    assert line._watcher is None
    source.looks = 0
    again = line.join(frozenset({"q"}))
    until(lambda: source.looks)
    line.leave(again)


@pytest.mark.parametrize("for_entry", [False, True])
def test_s9_where_no_thread_is_left_for_a_moment_the_next_who_waits_tries_again(
    line: FileLine, source: Told, monkeypatch: pytest.MonkeyPatch, for_entry: bool
) -> None:
    """A process at its limit of threads was deaf for the rest of its life, and waiters stayed in the line."""

    def join() -> EntryWaiter | Waiter:
        if not for_entry:
            return line.join(frozenset({"q"}))
        entry = EntryWaiter(("s", "k"), 0, line.lock)
        line.join_entry(entry)
        return entry

    with monkeypatch.context() as patch:
        no_thread(patch, "kessel-sqlite-watcher")
        with pytest.raises(AdapterUnavailable, match="nobody can look for the jobs of others"):
            join()
    assert line.is_empty
    assert line.entries.is_empty
    waiter = join()
    source.at = 1
    until(lambda: waiter.woken)


@pytest.mark.parametrize("what", ["watch", "connect"])
def test_a_watcher_that_fails_lets_all_look_once_and_is_replaced(
    line: FileLine, source: Told, path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whoever waits would sleep on otherwise, alive but deaf to other processes."""

    def fails(*_: object) -> Writes | None:
        raise AttributeError("half a module")

    with monkeypatch.context() as broken:
        if what == "watch":
            broken.setattr(wake, "watch", fails)
        else:
            line.open(fails)
        waiter, entry = line.join(frozenset({"q"})), EntryWaiter(("s", "k"), 0, line.lock)
        line.join_entry(entry)
        until(lambda: waiter.woken and entry.woken)
        line.entries.leave(entry)
        line.leave(waiter)
    line.open(lambda: source)
    waiter = line.join(frozenset({"q"}))
    source.at = 1
    until(lambda: waiter.woken)
    line.leave(waiter)

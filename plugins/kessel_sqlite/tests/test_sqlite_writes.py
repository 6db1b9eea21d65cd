"""Notices of writes to a file, and how often a watcher looks (S18, speed: an idle worker costs nothing)."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from kessel_sqlite import writes
from kessel_sqlite.pace import POLL_SECONDS, Pace, Rest, Seen
from kessel_sqlite.writes import Writes, watch

from tests.descriptors import on_standard_numbers

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives notice of writes")

#: Long enough for any machine; a wait that ends sooner was ended by something.
LONG = 60.0


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(b"")
    return path


@pytest.fixture
def notices(written: Path) -> Iterator[Writes]:
    made = watch(str(written))
    assert made is not None
    assert made.wait(0)  # from now on
    yield made
    made.close()


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


@linux
def test_the_first_wait_asks_for_a_look_because_earlier_writes_are_not_told(written: Path) -> None:
    made = watch(str(written))
    assert made is not None
    append(written)
    assert made.wait(LONG)
    assert not made.wait(0.01)
    made.close()


@linux
def test_a_write_ends_a_wait_and_is_told_once(notices: Writes, written: Path) -> None:
    assert not notices.wait(0.01)
    writer = threading.Timer(0.05, append, [written])
    writer.start()
    assert notices.wait(LONG)
    writer.join()
    assert not notices.wait(0.01)


@linux
def test_writes_before_a_wait_are_told_all_at_once(notices: Writes, written: Path) -> None:
    append(written)
    append(written)
    assert notices.wait(LONG)
    assert not notices.wait(0.01)


@linux
def test_reading_a_file_is_no_write(notices: Writes, written: Path) -> None:
    written.read_bytes()
    assert not notices.wait(0.01)


@linux
def test_a_file_that_took_the_name_is_looked_at_and_watched(notices: Writes, written: Path) -> None:
    (written.parent / "other").write_bytes(b"")
    (written.parent / "other").replace(written)
    assert notices.wait(LONG)
    while notices.wait(0.01):  # the end of the old one is told as well
        pass
    append(written)
    assert notices.wait(LONG)


@linux
def test_a_file_that_is_not_there_is_an_error_and_watched_once_it_is(tmp_path: Path) -> None:
    path = tmp_path / "later"
    made = watch(str(path))
    assert made is not None
    with pytest.raises(OSError, match="not watched"):
        made.wait(LONG)
    append(path)
    assert made.wait(LONG)
    append(path)
    assert made.wait(LONG)
    made.close()


@linux
def test_waking_ends_one_wait_of_another_thread(notices: Writes) -> None:
    waker = threading.Timer(0.05, notices.wake)
    waker.start()
    assert notices.wait(LONG)
    waker.join()
    assert not notices.wait(0.01)
    notices.wake()
    assert notices.wait(LONG)


@linux
def test_fault_45_a_foreign_file_under_its_number_is_neither_read_nor_closed(
    notices: Writes, written: Path
) -> None:
    """A job may close all descriptors; the next file gets the number."""
    number = notices._notices
    kept = os.dup(number)
    foreign = os.open(written, os.O_RDWR)
    os.write(foreign, b"content")
    os.lseek(foreign, 0, os.SEEK_SET)
    os.dup2(foreign, number)
    with pytest.raises(OSError):
        notices.wait(LONG)
    notices.close()
    assert os.lseek(number, 0, os.SEEK_CUR) == 0
    assert os.read(number, 7) == b"content"
    os.close(foreign)
    os.dup2(kept, number)
    os.close(kept)


@linux
def test_closing_gives_both_descriptors_back(written: Path) -> None:
    made = watch(str(written))
    assert made is not None
    mine = (made._notices, made._alarm)
    made.close()
    for number in mine:
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(number)


@linux
def test_without_ctypes_or_another_system_there_are_no_notices(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert watch(str(written)) is None
    monkeypatch.undo()
    monkeypatch.setattr(writes.sys, "platform", "darwin")
    assert watch(str(written)) is None


# --- how often a watcher looks -----------------------------------------------------------------------------


def settling(pace: Pace) -> list[Rest]:
    """Look, in vain, until the pace asks for a rest until there is notice of a write."""
    found = []
    while (rest := pace.after(Seen.NOTHING)).seconds < 1:
        found.append(rest)
    assert rest.is_cut_short
    return found


def test_a_commit_is_looked_for_soon_after_the_notice_of_its_write_then_less_often() -> None:
    found = [rest.seconds for rest in settling(Pace())]
    assert found[0] <= 0.0002
    assert found == sorted(found)
    assert max(found) == POLL_SECONDS
    for so_far, pause in enumerate(found):
        assert pause <= max(found[0], 2 * sum(found[:so_far]))  # no later than three times as late
    assert 0.3 < sum(found) < 1


def test_notice_of_another_commit_ends_a_long_pause_and_is_looked_for_soon() -> None:
    pace = Pace()
    while not (rest := pace.after(Seen.NOTHING)).is_cut_short or rest.seconds < 0.01:
        assert not (rest.is_cut_short and rest.seconds <= 0.001)
    pace.noticed()
    assert pace.after(Seen.NOTHING).seconds <= 0.0002


def test_notices_of_the_parts_of_one_large_commit_do_not_make_the_looks_more_frequent() -> None:
    pace = Pace()
    settling(pace)
    pace.noticed()
    for _ in range(50):
        pace.after(Seen.NOTHING)
        pace.noticed()
        rest = pace.after(Seen.NOTHING)
        assert rest.seconds >= 0.001
        pace.noticed()


def test_who_sees_nothing_for_long_rests_until_there_is_a_notice() -> None:
    pace = Pace()
    settling(pace)
    assert pace.after(Seen.NOTHING) == (1.0, True)
    pace.noticed()
    assert pace.after(Seen.NOTHING).seconds <= 0.0002


def test_a_commit_may_hide_another_so_the_looks_after_it_do_not_wait_for_a_notice() -> None:
    pace = Pace()
    settling(pace)
    assert pace.after(Seen.CHANGED) == (0.001, False)
    assert sum(rest.seconds for rest in settling(pace)) > 0.3


def test_commits_that_concern_nobody_are_looked_at_less_often_until_one_does() -> None:
    """No notice of them shortens those pauses."""
    pace = Pace()
    found = [pace.after(Seen.CHANGED) for _ in range(30)]
    assert found[0] == (0.001, False)
    assert found[-1] == (POLL_SECONDS, False)
    assert found == sorted(found)
    assert pace.after(Seen.WANTED) == (0.001, False)
    assert pace.after(Seen.CHANGED) == (0.001, False)


def test_commits_of_long_ago_do_not_slow_the_next_look_down() -> None:
    pace = Pace()
    for _ in range(30):
        pace.after(Seen.CHANGED)
    settling(pace)
    pace.after(Seen.NOTHING)
    assert pace.after(Seen.CHANGED).seconds == 0.001


def test_f45_what_is_watched_has_no_number_of_a_standard_stream(tmp_path: Path) -> None:
    """Nor has the file itself, or what a `print` of anybody writes would be in the database."""
    notices = f"from kessel_sqlite.writes import watch; notices = watch('{tmp_path}/jobs.db')"
    assert on_standard_numbers(f"sqlite:///{tmp_path}/jobs.db", tmp_path, also=notices) <= {"/dev/null"}

"""What the doctor finds."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from kessel_sqlite import doctor
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core.contract import DoctorContext, Level, Message

Opener = Callable[..., SqliteAdapter]
Found = Callable[[str], list[tuple[Level, str]]]


def message(name: str, body: bytes = b"x") -> Message:
    return Message(name, "q", body, 5)


def test_doctor_finds_a_sound_file_sound(opened: Opener) -> None:
    adapter = opened()
    adapter.enqueue(message("a"))
    context = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(seconds=1))
    assert {finding.level for finding in adapter.doctor(context)} <= {Level.OK}
    assert {"integrity", "durability", "disk", "jobs"} <= {f.subject for f in adapter.doctor(context)}


def test_doctor_finds_a_file_that_cannot_be_written(path: Path, opened: Opener) -> None:
    adapter = opened(timeout=timedelta(milliseconds=10))
    context = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(0))
    with closing(sqlite3.connect(path)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        findings = adapter.doctor(context)
    assert [f.subject for f in findings if f.level is Level.ERROR] == ["writing"]
    assert adapter.doctor(context)[0].level is Level.OK


def test_doctor_finds_damage_and_raises_nothing(path: Path, opened: Opener) -> None:
    adapter = opened()
    adapter.enqueue_many([message(f"{n}", bytes(300)) for n in range(500)])
    adapter.close()
    content = bytearray(path.read_bytes())
    content[8192 : len(content) - 8192] = b"\x55" * (len(content) - 16384)
    path.write_bytes(content)
    context = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(seconds=1))
    findings = opened().doctor(context)
    assert Level.ERROR in {finding.level for finding in findings}


@pytest.fixture(params=[False, True])
def found(request: pytest.FixtureRequest, path: Path, opened: Opener) -> Found:
    """Examine a file in its own directory, and one that a link in another one leads to; returns findings."""
    if request.param:
        target = path.parent / "elsewhere" / "jobs.db"
        target.parent.mkdir()
        path.symlink_to(target)
    adapter = opened(lease=timedelta(seconds=4))
    adapter.enqueue(message("a"))

    def examine(subject: str) -> list[tuple[Level, str]]:
        context = DoctorContext(queues=(), types=frozenset(), grace=timedelta(0))
        return [(one.level, one.detail) for one in adapter.doctor(context) if one.subject == subject]

    return examine


def test_doctor_finds_a_disk_that_is_nearly_full(
    found: Found, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the file and its log, and not that of a link to it."""

    def usage(folder: Path) -> SimpleNamespace:
        return SimpleNamespace(free=free if folder.samefile(path.resolve().parent) else 2**40)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    free = 64 * 1024 * 1024 - 1
    [(level, detail)] = found("disk")
    assert level is Level.WARNING and "free on its disk 67 MB" in detail
    free += 1
    assert found("disk")[0][0] is Level.OK


def test_doctor_finds_a_log_that_is_never_emptied(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("log") == []
    monkeypatch.setattr(doctor, "_LONG_LOG", 1000)
    [(level, detail)] = found("log")
    assert level is Level.WARNING and "has grown" in detail


def test_doctor_finds_another_journal_mode(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = opened()
    monkeypatch.setattr(adapter.engine, "read", lambda _: ("ok", "delete"))
    context = DoctorContext(queues=(), types=frozenset(), grace=timedelta(0))
    assert [one.subject for one in adapter.doctor(context) if one.level is Level.ERROR] == ["journal"]


def test_doctor_finds_a_short_lease(found: Found) -> None:
    assert [level for level, _ in found("lease")] == [Level.WARNING]

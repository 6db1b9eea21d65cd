"""What the doctor finds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from kessel_sqlite.adapter import SqliteAdapter

from kessel_core.contract import DoctorContext, Level, Message

Opener = Callable[..., SqliteAdapter]


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

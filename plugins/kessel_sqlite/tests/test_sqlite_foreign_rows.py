"""What others have written into the file by SQL: never the end of a queue."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core import JobManager
from kessel_core.contract import JobState, Message, StoredJob

Opener = Callable[..., SqliteAdapter]
#: What an application, a tool or a defect of the disk may have left; SQLite takes any type in any column.
ODD = [
    """body = '{"type":"good","id":"bad","payload":1}'""", "body = CAST(x'ff7b7d' AS TEXT)", "body = 5",
    "body = 5.5", "id = CAST(x'ff41' AS TEXT)", "id = x'ff41'", "id = 5", "attempts = 'many'",
    "attempts = 1.5", "attempts = -9", "attempts = 9223372036854775807", "snoozes = 'x'",
    "priority = 'x'", "priority = -5",
    "enqueued_at = 'x'", "enqueued_at = 9223372036854775807", "state = 1, due = 'x'", "state = 1, due = NULL",
    "state = 'x'", "state = 9", "queue = 'a b'", "queue = CAST(x'ff41' AS TEXT)", "token = 'x'",
    "state = 3, buried_at = 'x'", "state = 3, buried_at = 5, reason = CAST(x'ff' AS TEXT), message = x'ff'",
]  # fmt: skip


def is_sound(job: StoredJob) -> bool:
    texts = (job.reason or "", job.message or "", job.id, job.queue)
    return type(job.body) is bytes and type(job.attempt) is int and all(type(text) is str for text in texts)


@pytest.mark.parametrize("change", ODD)
def test_finding_d4_whatever_others_wrote_into_a_row_the_jobs_behind_it_run(
    path: Path, opened: Opener, change: str
) -> None:
    """A body that is text and not UTF-8 stopped its queue: each reserve failed, and the next one, too."""
    done: list[object] = []
    with JobManager(f"sqlite:///{path}", handlers={"good": done.append}) as manager:
        adapter = manager.adapter
        adapter.enqueue(Message("bad", "default", b'{"type":"good","id":"bad","payload":1}', 1))
        adapter.enqueue(Message("after", "default", b'{"type":"good","id":"after","payload":2}', 2))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"UPDATE kessel_jobs SET {change} WHERE id = 'bad'")
        seen = opened()
        for queue in seen.queues():
            assert seen.stats(queue).total >= 0
            assert all(is_sound(job) for state in JobState for job in seen.peek(queue, state, 5))
        manager.worker(slots=1).drain()
        assert 2 in done
        assert all(is_sound(job) for job in seen.buried("default"))


def test_finding_d4_a_body_that_was_written_as_text_is_run(path: Path, adapter: SqliteAdapter) -> None:
    done: list[object] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO kessel_jobs (id, queue, state, priority, enqueued_at, body)"
            """ VALUES ('mine', 'default', 0, 9, 0, '{"type":"good","payload":"ü"}')"""
        )
    with JobManager(f"sqlite:///{path}", handlers={"good": done.append}) as manager:
        assert manager.worker(slots=1).drain() == {"success": 1}
    assert done == ["ü"]

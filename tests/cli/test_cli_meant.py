"""Commands do what was meant and no more, and their exit code says whether it was done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core import AdapterUnavailable, SystemClock, UnknownJob, build_plugins
from kessel_core.cli.choosing import Choice
from kessel_core.client.moving import Moved
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterContext, JobState, Message, StoredJob
from tests.until import until


@pytest.fixture
def failing_jobs(kessel: Any) -> list[str]:
    """The ids of two buried jobs; results are kept."""
    kessel.write("meant_fail.py", "def fail(payload):\n    raise LookupError('no such card')\n")
    kessel.write(
        "kessel.toml", '[kessel.results]\nkeep = "1d"\n[kessel.handlers]\n"fail" = "meant_fail:fail"\n'
    )
    ids = [kessel.ok("request", "fail", str(number), "--json").json["id"] for number in range(2)]
    kessel.ok("drain")
    return ids


def test_s26_result_of_a_job_that_failed_is_shown_and_exit_code_1(
    kessel: Any, failing_jobs: list[str]
) -> None:
    done = kessel("result", failing_jobs[0], "--json")
    assert (done.code, done.json["status"], done.json["reason"]) == (1, "failed", "error")
    assert "no such card" in kessel("result", failing_jobs[0]).out


def test_s26_job_that_has_not_ended_is_pending_for_programs_as_well(
    kessel: Any, failing_jobs: list[str]
) -> None:
    job_id = kessel.ok("request", "fail", "--delay", "1h", "--json").json["id"]
    done = kessel("result", job_id, "--json")
    assert (done.code, done.json["status"], done.json["state"]) == (1, "pending", "delayed")


@pytest.mark.parametrize(("command", "done"), [("kick", "kicked"), ("delete", "deleted")])
def test_job_that_somebody_else_was_quicker_with_is_named_with_exit_code_1(
    kessel: Any, failing_jobs: list[str], monkeypatch: pytest.MonkeyPatch, command: str, done: str
) -> None:
    real = getattr(SqliteAdapter, f"{command}_shown")

    def operate(adapter: SqliteAdapter, job: StoredJob) -> None:
        if job.id == failing_jobs[0]:
            raise UnknownJob(job.id, job.queue)
        real(adapter, job)

    monkeypatch.setattr(SqliteAdapter, f"{command}_shown", operate)
    yes = ["--yes"] if command == "delete" else []
    found = kessel("buried", command, "--all", "--json", *yes)
    assert (found.code, found.json[done], found.json["missing"]) == (1, [failing_jobs[1]], [failing_jobs[0]])
    assert failing_jobs[0] in found.err


def test_burial_of_unknown_time_is_nobodys_to_call_old() -> None:
    """Else `buried delete --older-than` would remove what may be of this minute."""
    job = StoredJob(id="j", queue="q", state=JobState.BURIED, body=b"")
    assert not Choice(older_than=timedelta(0)).takes(job)


def test_ref_is_meant_whole(kessel: Any) -> None:
    for ref in ("order-1", "order-10"):
        kessel.ok("request", "t", "--ref", ref)
    assert [job["ref"] for job in kessel.ok("find", "--ref", "order-1", "--json").json] == ["order-1"]


def test_job_is_looked_for_only_in_the_queue_that_is_named(kessel: Any) -> None:
    job_id = kessel.ok("request", "t", "--queue", "mail", "--json").json["id"]
    kessel.ok("show", job_id)
    kessel.ok("show", job_id, "--queue", "mail")
    assert f"no job '{job_id}' in other" in kessel("show", job_id, "--queue", "other").err


def test_job_that_a_worker_holds_is_not_deleted_and_that_is_said(kessel: Any) -> None:
    job_id = kessel.ok("request", "t", "--json").json["id"]
    chosen = build_plugins().chosen_adapter("sqlite:///kessel.db")
    with closing(chosen.open(AdapterContext(clock=SystemClock()))) as adapter:
        consumer = adapter.consumer(["default"])
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        for text in (job_id, job_id[:-1]):
            done = kessel("delete", text)
            assert (done.code, f"job {job_id} is held by a worker" in done.err) == (1, True)
        consumer.settle(held, COMMIT)
        consumer.close()


def test_oldest_ready_job_may_wait_behind_a_more_urgent_one(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kessel.ok("request", "t", "--priority", "9")
    kessel.ok("request", "t", "--priority", "1")
    listed, now = SqliteAdapter.each, datetime.now(UTC)
    stored = {1: now, 9: now - timedelta(hours=2)}

    def each(adapter: SqliteAdapter, *given: Any) -> Iterator[StoredJob]:
        return (attrs.evolve(job, enqueued_at=stored[job.priority]) for job in listed(adapter, *given))

    monkeypatch.setattr(SqliteAdapter, "each", each)
    done = kessel("stats", "--max-age", "1h")
    assert (done.code, "the oldest ready job waits for 2 h" in done.err) == (1, True)


def test_alarm_of_age_goes_through_the_ready_jobs_a_page_at_a_time(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing of all of them takes memory for every body."""
    kessel.ok("request", "t")
    listed, most = SqliteAdapter.peek, [0]

    def peek(adapter: SqliteAdapter, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        most.append(limit)
        return listed(adapter, queue, state, limit)

    monkeypatch.setattr(SqliteAdapter, "peek", peek)
    assert kessel("stats", "--max-age", "0s").code == 1
    assert max(most) <= 1


def test_s9_a_job_is_ready_since_its_delay_was_over_for_alarms_and_for_doctor(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for a month ago, for now."""
    kessel.ok("request", "t", "--delay", (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat())
    listed, long_ago = SqliteAdapter.peek, datetime.now(UTC) - timedelta(days=30)
    until(lambda: kessel.ok("stats", "default", "--json").json[0]["ready"])

    def peek(adapter: SqliteAdapter, *given: Any) -> list[StoredJob]:
        return [attrs.evolve(job, enqueued_at=long_ago) for job in listed(adapter, *given)]

    monkeypatch.setattr(SqliteAdapter, "peek", peek)
    monkeypatch.setattr(SqliteAdapter, "each", lambda adapter, *given: iter(peek(adapter, *given, 100)))
    shown = kessel.ok("stats", "--max-age", "1d", "--json").json[0]
    assert 0 <= shown["oldest_ready"] < 3600
    assert "has waited for" not in kessel("doctor").out


@pytest.mark.parametrize("words", [("delete",), ("show",), ("buried", "kick"), ("explain",), ("history",)])
def test_an_id_that_is_no_text_is_no_job(kessel: Any, words: tuple[str, ...]) -> None:
    """A shell passes on whatever bytes it is given."""
    kessel.ok("request", "t")
    done = kessel(*words, "abc\udcff")
    assert (done.code, "Traceback" in done.out + done.err) == (1, False)


def test_option_before_a_command_that_has_it_itself_is_wrong_usage(kessel: Any) -> None:
    done = kessel("buried", "--json", "list")
    assert (done.code, "write --json behind the command" in done.err) == (2, True)


def test_queue_of_the_command_goes_before_those_of_the_lines(kessel: Any) -> None:
    lines = [{"type": "t", "queue": "mail"}, {"type": "t"}]
    kessel.write("jobs.jsonl", "\n".join(map(json.dumps, lines)))
    kessel.ok("request", "--from", "jobs.jsonl", "--queue", "ops")
    counts = {one["queue"]: one["total"] for one in kessel.ok("stats", "--json").json}
    assert (counts["ops"], counts.get("mail", 0)) == (2, 0)


def test_s14_lines_whose_ids_are_held_are_named_with_exit_code_1_and_the_others_stored(kessel: Any) -> None:
    kessel.write("jobs.jsonl", '{"type": "t", "id": "a"}\n{"type": "t", "id": "b"}\n')
    kessel.ok("request", "--from", "jobs.jsonl")
    kessel.write("jobs.jsonl", '{"type": "t", "id": "b"}\n{"type": "t", "id": "c"}\n')
    done = kessel("request", "--from", "jobs.jsonl", "--json")
    assert (done.code, done.json["ids"], done.json["held"]) == (1, ["c"], {"b": "ready"})


def test_header_needs_a_name(kessel: Any) -> None:
    done = kessel("request", "t", "--header", " =x")
    assert (done.code, "expected KEY=VALUE" in done.err) == (2, True)


def test_interrupted_move_names_what_may_be_in_both(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(source: object, target: object, queues: object, moved: Moved) -> None:
        moved.pending["on-its-way"] = Message("on-its-way", "q", b"", 1)
        raise AdapterUnavailable("nobody answers")

    kessel.ok("request", "t")
    monkeypatch.setattr("kessel_core.cli.move.move_jobs", away)
    done = kessel("move", "sqlite:///kessel.db", "sqlite:///new.db", "--json")
    assert (done.code, done.json["double"]) == (1, ["on-its-way"])
    assert "these may be in both, and run twice: on-its-way" in done.err


def test_kind_of_buried_jobs_is_meant_in_the_configured_queues_only(
    kessel: Any, failing_jobs: list[str]
) -> None:
    """Whoever names an id means that job wherever it is; `--all` must not reach into other queues."""
    job_id = kessel.ok("request", "fail", "--queue", "mail", "--json").json["id"]
    kessel.ok("drain", "--queue", "mail")
    assert job_id not in kessel.ok("buried", "delete", "--all", "--yes", "--json").json["deleted"]
    kessel.ok("buried", "show", job_id)
    assert kessel.ok("buried", "delete", job_id, "--json").json["deleted"] == [job_id]


def test_drain_tells_programs_every_number(kessel: Any, failing_jobs: list[str]) -> None:
    done = kessel.ok("drain", "--json")
    assert done.json == {"success": 0, "failed": 0, "failed-transient": 0, "lost": 0}

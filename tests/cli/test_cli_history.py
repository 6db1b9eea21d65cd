"""`kessel history`, and what commands write into it (S39)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core import AdapterUnavailable, Event, EventKind, JobManager, UnknownJob
from kessel_core.cli.noting import noted
from kessel_core.contract import JobState, StoredJob
from kessel_core.wire.events import encode_events


@pytest.fixture
def kept(kessel: Any) -> Any:
    """A configuration that keeps histories."""
    kessel.write("kessel.toml", '[kessel.history]\nkeep = "7d"\n')
    return kessel


def kinds(kessel: Any, job_id: str) -> list[str]:
    return [event["kind"] for event in kessel.ok("history", job_id, "--json").json["events"]]


def buried(kessel: Any) -> str:
    kessel.ok("request", "shop.unheard-of")
    kessel.ok("drain")
    return str(kessel.ok("list", "buried", "--json").json[-1]["id"])


def test_s39_what_commands_do_to_a_job_is_in_its_history(kept: Any) -> None:
    job_id = buried(kept)
    kept.ok("buried", "kick", job_id)
    kept.ok("drain")
    kept.ok("buried", "delete", "--all", "--yes")
    assert kinds(kept, job_id) == [
        "requested", "settled", "finished", "kicked", "settled", "finished", "deleted",
    ]  # fmt: skip
    out = kept.ok("history", job_id[:34]).out
    assert out.startswith(f"{job_id}\n")
    assert "buried: no-handler: no handler for type 'shop.unheard-of'" in out
    assert "failed: no-handler" in out
    assert "gap" not in out
    assert "it was deleted" in kept.ok("explain", job_id).out


def test_s39_a_cancelled_job_and_a_mended_one_are_noted_as_deleted(kept: Any) -> None:
    waiting = kept.ok("request", "later", "--delay", "1h", "--json").json["id"]
    kept.ok("delete", waiting[:35])
    assert kinds(kept, waiting) == ["requested", "deleted"]
    job_id = buried(kept)
    kept.ok("buried", "kick", job_id, "--payload", "1")
    assert kinds(kept, job_id) == ["requested", "settled", "finished", "deleted"]


def test_s39_what_was_not_done_is_not_noted(kept: Any) -> None:
    kept.ok("request", "later", "--delay", "1h")
    assert kept("delete", "no-such-job").code == 1
    assert kept("buried", "kick", "no-such-job").code == 1
    assert kept("history", "no-such-job").code == 1


def test_s39_gaps_are_said(kept: Any) -> None:
    kept.write("kessel.toml", "")
    job_id = kept.ok("request", "shop.unheard-of", "--json").json["id"]
    kept.write("kessel.toml", '[kessel.history]\nkeep = "7d"\n')
    kept.ok("drain")
    assert "gap: nothing is known from before" in kept.ok("history", job_id).out
    assert len(kept.ok("history", job_id, "--json").json["gaps"]) == 1


def test_s39_what_a_job_carries_moves_no_cursor(kept: Any) -> None:
    job_id = buried(kept)
    odd = Event(kind=EventKind.SETTLED, at=datetime.now(UTC), message="\udcff\x1b[2J", worker="\x1b]0;x\x07")
    with JobManager("sqlite:///kessel.db", only_requests=True) as manager:
        manager.store.put("events", f"{job_id}/odd", encode_events([odd]))
    for out in (kept.ok("history", job_id).out, kept.ok("explain", job_id).out):
        assert "\x1b" not in out
        assert "\x07" not in out


def test_s39_without_a_history_it_is_said_what_to_set(kessel: Any) -> None:
    job_id = kessel.ok("request", "work", "--json").json["id"]
    done = kessel("history", job_id)
    assert (done.code, done.out) == (1, "")
    assert "none are written while history.keep is unset" in done.err
    assert str(kessel.directory / "kessel.db") in done.err
    assert kessel("history", job_id, "--json").json == {"id": job_id, "events": [], "gaps": []}


def test_s39_several_histories_that_begin_alike_are_listed(kept: Any) -> None:
    kept.write("jobs.jsonl", '{"type": "a", "id": "order-12-a"}\n{"type": "a", "id": "order-12-b"}\n')
    kept.ok("request", "--from", "jobs.jsonl")
    assert "order-12-a, order-12-b" in kept("history", "order-12").err
    assert kept("history", "order-1").code == 1


def test_s39_more_kicks_than_may_wait_are_all_noted(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """S39: a command waits for the store instead of dropping what it did."""
    from kessel_core.cli import noting
    from kessel_core.features import history

    kept.write("jobs.jsonl", '{"type": "shop.unheard-of"}\n' * 30)
    kept.ok("request", "--from", "jobs.jsonl")
    kept.ok("drain")
    ids = [job["id"] for job in kept.ok("list", "buried", "--json").json]
    monkeypatch.setattr(history, "MOST_WAITING", 10)
    monkeypatch.setattr(noting, "_EVERY", 5)
    kept.ok("buried", "kick", "--all")
    assert all(kinds(kept, one)[-1] == "kicked" for one in ids)


@pytest.mark.parametrize("ends", [AdapterUnavailable("the disk is gone"), KeyboardInterrupt()])
def test_s39_what_a_command_did_before_it_failed_is_in_the_history_of_the_jobs(
    kept: Any, monkeypatch: pytest.MonkeyPatch, ends: BaseException
) -> None:
    kept.write("jobs.jsonl", '{"type": "shop.unheard-of"}\n' * 3)
    kept.ok("request", "--from", "jobs.jsonl")
    kept.ok("drain")
    ids = [job["id"] for job in kept.ok("buried", "list", "--json").json]
    kick = SqliteAdapter.kick_shown

    def fail(adapter: SqliteAdapter, job: StoredJob) -> None:
        if job.id == ids[2]:
            raise ends
        kick(adapter, job)

    monkeypatch.setattr(SqliteAdapter, "kick_shown", fail)
    assert kept("buried", "kick", "--all").out == "kicked 2 buried jobs\n"
    assert [kinds(kept, one)[-1] for one in ids] == ["kicked", "kicked", "finished"]


def test_s39_an_operation_is_noted_if_it_succeeds_with_the_time_before_it() -> None:
    """A worker may begin a job at once that was kicked."""
    seen: list[datetime] = []
    written: list[tuple[str, EventKind, datetime]] = []

    def note(*event: Any) -> None:
        written.append(event)

    def kick(job: StoredJob) -> None:
        if job.id == "gone":
            raise UnknownJob(job.id, job.queue)
        seen.append(datetime.now(UTC))

    jobs = [StoredJob(id=one, queue="q", state=JobState.BURIED, body=b"") for one in ("there", "gone")]
    do = noted(kick, EventKind.KICKED, note)
    do(jobs[0])
    with pytest.raises(UnknownJob):
        do(jobs[1])
    assert [event[:2] for event in written] == [("there", EventKind.KICKED)]
    assert written[0][2] <= seen[0]


def test_s39_the_doctor_says_that_histories_are_kept(kept: Any) -> None:
    kept.ok("request", "work")
    (store,) = [one for one in kept.ok("doctor", "--json").json if one["subject"] == "store"]
    assert "progress, histories for 7d, entries of workers" in store["detail"]


@pytest.mark.parametrize("keep", ["soon", "0s", "-1d"])
def test_s39_a_wrong_time_is_refused_with_its_place(kessel: Any, keep: str) -> None:
    kessel.write("kessel.toml", f'[kessel.history]\nkeep = "{keep}"\n')
    done = kessel("request", "work")
    assert done.code == 2
    assert "history.keep" in done.err

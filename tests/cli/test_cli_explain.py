"""`kessel explain`: what is printed, what it exits with, and what it leaves alone (S39)."""

from __future__ import annotations

import shlex
from typing import Any


def requested(kessel: Any, *arguments: str) -> str:
    done = kessel.ok("request", *arguments, "--json")
    return str(done.json["id"])


def test_s39_the_first_cause_is_marked_and_its_command_does_what_it_says(kessel: Any) -> None:
    job_id = requested(kessel, "work")
    kessel.ok("pause", "default")
    out = kessel.ok("explain", job_id[:34], "--adapter", "sqlite:///kessel.db").out
    assert out.startswith(f"work {job_id} in default: ready, stored ")
    assert out.count("✗") == 1
    assert "✗ the queue 'default' is paused until" in out
    assert "also: no worker serves the queue 'default'" in out
    (typed,) = [line.strip() for line in out.splitlines() if line.strip().startswith("kessel ")]
    assert typed == "kessel resume default --adapter sqlite:///kessel.db"
    kessel.ok(*shlex.split(typed)[1:])
    assert "✗ no worker serves" in kessel.ok("explain", job_id).out


def test_s39_a_queue_that_waits_for_resume_is_paused_until_resumed(kessel: Any) -> None:
    """As `kessel stats` says it, and not until a day in ten years."""
    job_id = requested(kessel, "work")
    kessel.ok("pause", "default")
    assert "until resumed" in kessel.ok("stats").out
    assert "✗ the queue 'default' is paused until resumed\n" in kessel.ok("explain", job_id).out
    assert kessel.ok("explain", job_id, "--json").json["causes"][0]["at"] is None
    kessel.ok("pause", "default", "1h")
    assert "is paused until 2" in kessel.ok("explain", job_id).out


def test_s39_json_has_every_cause_by_name_with_its_command(kessel: Any) -> None:
    job_id = requested(kessel, "work", "--delay", "1h", "--expiration", "2h")
    found = kessel.ok("explain", job_id, "--json").json
    assert [cause["name"] for cause in found["causes"]] == ["delayed", "unserved"]
    assert found["causes"][0]["at"] == found["job"]["due"]
    assert found["causes"][1]["command"] == "kessel worker --queue default"
    assert (found["id"], found["state"], found["unseen"]) == (job_id, "delayed", [])
    assert found["notes"][0].startswith("expires at")


def test_s39_an_id_that_nobody_knows_exits_with_1_and_says_what_it_may_be(kessel: Any) -> None:
    requested(kessel, "work")
    done = kessel("explain", "no-such-job")
    assert done.code == 1
    assert "✗ no such job" in done.out
    assert kessel("explain", "no-such-job", "--json").json["state"] is None


def test_s39_several_jobs_whose_ids_begin_alike_are_listed(kessel: Any) -> None:
    kessel.write("jobs.jsonl", '{"type": "a", "id": "order-12-a"}\n{"type": "a", "id": "order-12-b"}\n')
    kessel.ok("request", "--from", "jobs.jsonl")
    done = kessel("explain", "order-12")
    assert done.code == 1
    assert "the ids of 2 jobs begin so: order-12-a, order-12-b" in done.out


def test_s39_a_store_that_is_not_there_is_not_made_and_said(kessel: Any) -> None:
    """S17: what was not seen is said with its reason; looking makes no file."""
    job_id = requested(kessel, "work")
    kessel.write("kessel.toml", '[kessel]\nstore = "sqlite:///store.db"\n')
    out = kessel.ok("explain", job_id).out
    assert "✗ nothing that was seen keeps it" in out
    assert "not seen: the workers: there is no store: " in out
    assert str(kessel.directory / "store.db") in out
    assert not (kessel.directory / "store.db").exists()


def test_s39_a_buried_job_is_advised_by_its_reason(kessel: Any) -> None:
    job_id = requested(kessel, "shop.unheard-of")
    kessel.ok("drain")
    out = kessel.ok("explain", job_id).out
    assert "(no-handler): no handler for type 'shop.unheard-of'" in out
    assert "what changes it: start a worker that has a handler for its type" in out
    assert f"kessel buried kick {job_id}\n" in out


def test_s39_the_queue_is_chosen_by_its_name(kessel: Any) -> None:
    job_id = requested(kessel, "work", "--queue", "mail")
    assert " in mail: ready" in kessel.ok("explain", job_id).out
    assert kessel("explain", job_id, "--queue", "default").code == 1
    assert kessel("explain", job_id, "--queue", "no good name").code == 2

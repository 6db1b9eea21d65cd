"""`kessel explain`: what is printed, what it exits with, and what it leaves alone (S39)."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from kessel_core.cli.app import App
from kessel_core.cli.next_command import next_command


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


@pytest.mark.parametrize("job_id", ["--all", "-12345678", "--"])
def test_s39_a_command_that_is_shown_takes_no_id_for_an_option(kessel: Any, job_id: str) -> None:
    """Of a job whose id is `--all` the command kicked every buried job."""
    jobs = [json.dumps({"type": "shop.unheard-of", "id": one}) for one in ("another-one", job_id)]
    kessel.write("jobs.jsonl", "\n".join(jobs))
    kessel.ok("request", "--from", "jobs.jsonl")
    kessel.ok("drain")
    (shown,) = [line for line in kessel.ok("buried").out.splitlines() if line.startswith("look at one:")]
    assert f"{job_id}\n" in kessel.ok(*shlex.split(shown.partition("kessel ")[2])).out
    out = kessel.ok("explain", "--adapter", "sqlite:///kessel.db", "--", job_id).out
    (typed,) = [line.strip() for line in out.splitlines() if line.strip().startswith("kessel ")]
    assert kessel.ok(*shlex.split(typed)[1:]).out == "kicked 1 buried job\n"
    assert [job["id"] for job in kessel.ok("buried", "list", "--json").json] == ["another-one"]


def test_s39_a_command_that_is_shown_acts_on_no_other_queue_and_has_no_secret() -> None:
    """Without the adapter, typed as it was shown, it acted on the jobs of the configured one."""
    app = App()
    app.argument("adapter", "postgresql://me:hunter2@db.example/shop?schema=a", "--adapter")
    line = next_command(app, ["buried", "kick"], ["a b"], ["--queue", "mail"])
    assert line == (
        "kessel buried kick 'a b' --adapter 'postgresql://***@db.example/shop?schema=a' --queue mail"
    )


def test_s39_a_command_that_is_shown_acts_by_the_same_file(kessel: Any) -> None:
    """Without the file, typed as it was shown, it acted on the jobs of another adapter."""
    kessel.write("shop.toml", '[kessel]\nadapter = "sqlite:///shop.db"\n')
    job_id = requested(kessel, "work", "--config", "shop.toml")
    kessel.ok("pause", "default", "--config", "shop.toml")
    out = kessel.ok("explain", job_id, "--config", "shop.toml").out
    (typed,) = [line.strip() for line in out.splitlines() if line.strip().startswith("kessel ")]
    assert typed == "kessel resume default --config shop.toml"
    assert kessel.ok(*shlex.split(typed)[1:]).out == "resumed queue default\n"


def test_s39_the_queue_is_chosen_by_its_name(kessel: Any) -> None:
    job_id = requested(kessel, "work", "--queue", "mail")
    assert " in mail: ready" in kessel.ok("explain", job_id).out
    assert kessel("explain", job_id, "--queue", "default").code == 1
    assert kessel("explain", job_id, "--queue", "no good name").code == 2

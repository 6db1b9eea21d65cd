"""Requests from the command line: ids that are held, misspelt types, queues of a whole file, mended jobs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kessel_core import SystemClock, build_plugins
from kessel_core.contract import AdapterContext, Message


@pytest.fixture
def lines(kessel: Any) -> Any:
    def write(*texts: str) -> str:
        path: Path = kessel.directory / "jobs.jsonl"
        path.write_text("\n".join(texts))
        return str(path)

    return write


def buried(kessel: Any) -> Any:
    return kessel.ok("buried", "list", "--json").json


def test_finding_b1_a_mended_job_under_the_id_of_a_buried_one_is_no_success(kessel: Any, lines: Any) -> None:
    kessel.ok("request", "--from", lines('{"id": "one", "type": "nobody.knows", "payload": 1}'))
    kessel("drain")
    mended = lines('{"id": "one", "type": "nobody.knows", "payload": 2}', '{"id": "two", "type": "addition"}')
    done = kessel("request", "--from", mended)
    assert done.code == 1
    assert "requested 1 job" in done.out
    assert (
        "job one: not stored again, its id is held by a buried job; kick or delete that job first" in done.err
    )
    as_json = kessel("request", "--from", mended, "--json")
    held = {"requested": 0, "ids": [], "held": {"one": "buried", "two": "ready"}}
    assert as_json.json == held | {"rejected": {}, "unknown": {}, "not_attempted": 0}


def test_finding_b1_a_buried_job_is_kicked_with_a_mended_payload(kessel: Any) -> None:
    kessel.ok("request", "addition", '{"operands": "x"}', "--ref", "r", "--priority", "7", "--queue", "mail")
    kessel("drain", "--queue", "mail")
    [old] = kessel.ok("buried", "list", "--queue", "mail", "--json").json
    done = kessel.ok("buried", "kick", old["id"][:30], "--payload", '{"operands": [1, 2]}', "--json").json
    assert done["instead_of"] == old["id"]
    [job] = kessel.ok("peek", "mail", "--json").json
    assert [job["id"]] == done["kicked"] != [old["id"]]
    assert (job["body"]["payload"], job["body"]["ref"], job["priority"]) == ({"operands": [1, 2]}, "r", 7)
    assert kessel.ok("buried", "list", "--queue", "mail", "--json").json == []
    kessel.ok("drain", "--queue", "mail")


def test_s8_a_mended_job_stays_in_the_queue_where_the_buried_one_lay(kessel: Any) -> None:
    """A body of other software names no queue, and may name another one: where it lies counts."""
    context = AdapterContext(clock=SystemClock())
    body = b'{"type": "addition", "payload": {"operands": "x"}}'
    with closing(build_plugins().chosen_adapter("sqlite:///kessel.db").open(context)) as adapter:
        adapter.enqueue(Message(id="foreign", queue="mail", body=body, priority=1))
    kessel("drain", "--queue", "mail")
    kessel.ok("buried", "kick", "foreign", "--payload", '{"operands": [1, 2]}')
    [job] = kessel.ok("peek", "mail", "--json").json
    assert job["payload"] == {"operands": [1, 2]}
    assert kessel.ok("peek", "default", "--json").json == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("ID", "--payload", "{x"), 2, "is not JSON"),
        (("--all", "--payload", "1"), 2, "--payload mends one job: give its id"),
        (("ID", "other", "--payload", "1"), 2, "--payload mends one job: give its id"),
        (("nobody", "--payload", "1"), 1, "no buried job 'nobody'"),
    ],
)
def test_finding_b1_a_wrong_mending_is_one_clear_error_and_changes_nothing(
    kessel: Any, arguments: tuple[str, ...], code: int, says: str
) -> None:
    kessel.ok("request", "addition", "5")
    kessel("drain")
    [old] = buried(kessel)
    done = kessel("buried", "kick", *(old["id"] if one == "ID" else one for one in arguments))
    assert (done.code, says in done.err) == (code, True), done.err
    assert [job["id"] for job in buried(kessel)] == [old["id"]]


def test_finding_b6_a_type_that_nobody_has_is_warned_about_with_the_nearest(kessel: Any) -> None:
    done = kessel.ok("request", "additon")
    assert (
        "warning: TYPE: this installation has no handler for 'additon'; did you mean 'addition'?" in done.err
    )
    assert kessel.ok("stats", "--json").json[0]["total"] == 1
    assert kessel.ok("request", "addition").err == ""


def test_finding_b6_a_strict_type_is_refused_and_nothing_stored(kessel: Any, lines: Any) -> None:
    done = kessel("request", "additon", "--strict-type")
    assert done.code == 2
    assert "did you mean 'addition'?" in done.err
    source = lines('{"type": "addition"}', '{"type": "multiplicaton"}')
    done = kessel("request", "--from", source, "--strict-type")
    assert done.code == 2
    assert "jobs.jsonl:2: this installation has no handler for 'multiplicaton'; did you mean" in done.err
    assert not (kessel.directory / "kessel.db").exists()


def test_finding_b6_types_of_the_configuration_are_known(kessel: Any) -> None:
    (kessel.directory / "kessel.toml").write_text(
        '[kessel.handlers]\n"mail.send" = "nowhere:send"\n[kessel.routes]\n"mail.read" = { queue = "slow" }\n'
    )
    for kind in ("mail.send", "mail.read"):
        assert kessel.ok("request", kind).err == ""
    assert "did you mean 'mail.send'?" in kessel.ok("request", "mail.sent").err


def test_finding_c14_routes_of_the_configuration_serve_the_command(kessel: Any, lines: Any) -> None:
    (kessel.directory / "kessel.toml").write_text(
        '[kessel.routes]\naddition = { queue = "slow", priority = 9 }\n'
    )
    assert kessel.ok("request", "addition", "--json").json["queue"] == "slow"
    kessel.ok("request", "--from", lines('{"type": "addition"}', '{"type": "addition", "queue": "default"}'))
    jobs = kessel.ok("peek", "slow", "--limit", "9", "--json").json
    assert [job["priority"] for job in jobs] == [9, 9]
    assert len(kessel.ok("peek", "default", "--json").json) == 1


def test_finding_c14_all_jobs_of_a_file_go_into_one_queue(kessel: Any, lines: Any) -> None:
    source = lines('{"type": "addition", "queue": "mail"}', '{"type": "addition"}')
    kessel.ok("request", "--from", source, "--queue", "ops")
    assert len(kessel.ok("peek", "ops", "--limit", "9", "--json").json) == 2
    done = kessel("request", "--from", source, "--priority", "5")
    assert done.code == 2
    assert "everything but --queue" in done.err

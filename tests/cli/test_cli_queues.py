"""`kessel stats`, `peek`, `buried`, `purge`, `drain`: looking after queues."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest


@pytest.fixture
def buried(kessel: Any) -> list[str]:
    """Two buried jobs of unknown type, oldest first."""
    ids = [kessel.ok("request", f"shop.unheard-of-{n}", "--json").json["id"] for n in range(2)]
    kessel.ok("drain")
    return ids


def test_stats_counts_by_state(kessel: Any) -> None:
    kessel.ok("request", "x")
    kessel.ok("request", "x", "--delay", "1h")
    kessel.ok("request", "x", "--queue", "mail")
    counts = {queue["queue"]: queue for queue in kessel.ok("stats", "--json").json}
    assert (counts["default"]["ready"], counts["default"]["delayed"]) == (1, 1)
    assert counts["mail"]["total"] == 1
    assert "mail" in kessel.ok("stats").out
    assert [queue["queue"] for queue in kessel.ok("stats", "mail", "--json").json] == ["mail"]


@pytest.mark.parametrize("command", ["stats", "peek", "purge"])
def test_impossible_name_of_a_queue_is_wrong_usage(kessel: Any, command: str) -> None:
    done = kessel(command, "a b")
    assert done.code == 2
    assert "'a b'" in done.err


def test_peek_shows_the_next_job_first_and_reserves_nothing(kessel: Any) -> None:
    kessel.ok("request", "late", "--priority", "9")
    kessel.ok("request", "urgent", "--priority", "1")
    assert [job["body"]["type"] for job in kessel.ok("peek", "--json").json] == ["urgent", "late"]
    assert len(kessel.ok("peek", "--limit", "1", "--json").json) == 1
    out = kessel.ok("peek").out
    assert out.index("urgent") < out.index("late")
    assert "no buried job in queue default" in kessel.ok("peek", "--state", "buried").out


def test_text_of_a_job_cannot_move_the_cursor(kessel: Any) -> None:
    kessel.ok("request", "[red]x\\u001b", '"\\u001b[2J"')
    out = kessel.ok("peek").out
    assert "\x1b[2J" not in out
    assert "[red]" in out


def test_buried_jobs_are_listed_with_their_reasons(kessel: Any, buried: list[str]) -> None:
    jobs = kessel.ok("buried", "list", "--json").json
    assert [(job["id"], job["reason"]) for job in jobs] == [(id_, "no-handler") for id_ in buried]
    out = kessel.ok("buried", "list").out
    assert "shop.unheard-of-0" in out
    assert "no-handler" in out


def test_one_buried_job_is_shown_whole(kessel: Any, buried: list[str]) -> None:
    out = kessel.ok("buried", "show", buried[0]).out
    assert "no-handler" in out
    assert '"type": "shop.unheard-of-0"' in out
    assert kessel.ok("buried", "show", buried[0], "--json").json["id"] == buried[0]


def test_kicked_job_is_ready_again(kessel: Any, buried: list[str]) -> None:
    """S8: only the one that was named."""
    assert "kicked 1 buried job\n" in kessel.ok("buried", "kick", buried[0]).out
    assert [job["id"] for job in kessel.ok("peek", "--json").json] == [buried[0]]
    assert [job["id"] for job in kessel.ok("buried", "list", "--json").json] == [buried[1]]


def test_all_buried_jobs_are_kicked(kessel: Any, buried: list[str]) -> None:
    assert kessel.ok("buried", "kick", "--all", "--json").json == {"kicked": buried, "missing": []}


def test_deleted_job_is_gone_and_a_missing_one_is_named_with_exit_code_1(
    kessel: Any, buried: list[str]
) -> None:
    done = kessel("buried", "delete", buried[0], "no-such-id")
    assert done.code == 1
    assert "deleted 1 buried job\n" in done.out
    assert "no-such-id" in done.err
    assert [job["id"] for job in kessel.ok("buried", "list", "--json").json] == [buried[1]]


def test_delete_of_all_asks_unless_told_not_to(kessel: Any, buried: list[str]) -> None:
    assert kessel("buried", "delete", "--all").code == 2
    assert kessel.ok("buried", "delete", "--all", "--yes", "--json").json["deleted"] == buried
    assert "no buried job" in kessel.ok("buried", "list").out


@pytest.fixture
def mixed(kessel: Any) -> list[str]:
    """Buried jobs of two types and two reasons."""
    kessel.ok("request", "addition", '{"operands": "none"}')
    for kind in ("test.unknown", "test.other", "test.unknown"):
        kessel.ok("request", kind)
    kessel.ok("drain")
    return [job["id"] for job in kessel.ok("buried", "list", "--json").json]


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (("--type", "test.unknown"), [1, 3]),
        (("--reason", "bad-payload"), [0]),
        (("--reason", "no-handler", "--type", "test.other"), [2]),
        (("--reason", "error"), []),
        (("--type", "test.unknown", "--limit", "1"), [1]),
    ],
)
def test_buried_jobs_are_chosen_by_type_and_reason(
    kessel: Any, mixed: list[str], options: tuple[str, ...], chosen: list[int]
) -> None:
    listed = kessel.ok("buried", "list", *options, "--json").json
    assert [job["id"] for job in listed] == [mixed[index] for index in chosen]


def test_buried_jobs_of_a_kind_are_kicked_or_deleted_and_no_others(kessel: Any, mixed: list[str]) -> None:
    kicked = kessel.ok("buried", "kick", "--reason", "no-handler", "--type", "test.other", "--json").json
    assert kicked == {"kicked": [mixed[2]], "missing": []}
    refused = kessel("buried", "delete", "--type", "test.unknown")
    assert refused.code == 2
    deleted = kessel.ok("buried", "delete", "--type", "test.unknown", "--yes", "--json").json
    assert deleted == {"deleted": [mixed[1], mixed[3]], "missing": []}
    assert [job["id"] for job in kessel.ok("buried", "list", "--json").json] == [mixed[0]]


def test_an_empty_choice_of_buried_jobs_says_what_was_chosen(kessel: Any, buried: list[str]) -> None:
    out = kessel.ok("buried", "list", "--type", "a", "--reason", "error").out
    assert "no buried job of type 'a' and of reason 'error' in default" in out


def test_buried_delete_never_takes_a_waiting_job(kessel: Any) -> None:
    id_ = kessel.ok("request", "x", "--json").json["id"]
    assert kessel("buried", "delete", id_).code == 1
    assert len(kessel.ok("peek", "--json").json) == 1


@pytest.mark.parametrize(
    "arguments", [("kick",), ("delete",), ("kick", "--all", "some-id"), ("kick", "--all", "--type", "a")]
)
def test_ids_or_all_but_not_both_nor_neither(kessel: Any, arguments: tuple[str, ...]) -> None:
    assert kessel("buried", *arguments).code == 2


def test_unknown_id_is_exit_code_1(kessel: Any) -> None:
    assert kessel("buried", "show", "no-such-id").code == 1


def test_purge_removes_ready_delayed_and_buried_jobs(kessel: Any, buried: list[str]) -> None:
    kessel.ok("request", "x", "--delay", "1h")
    kessel.ok("request", "x")
    assert kessel.ok("purge", "default", "--yes", "--json").json == {"queue": "default", "removed": 4}
    assert kessel.ok("stats", "default", "--json").json[0]["total"] == 0


def test_purge_without_yes_is_refused_where_nobody_can_be_asked(kessel: Any) -> None:
    kessel.ok("request", "x")
    assert kessel("purge", "default").code == 2
    assert kessel.ok("stats", "default", "--json").json[0]["total"] == 1


def test_drain_works_until_the_queues_are_empty(kessel: Any) -> None:
    kessel.write("handlers.py", "def double(payload):\n    return payload * 2\n")
    kessel.write("kessel.toml", '[kessel.handlers]\ndouble = "handlers:double"\n')
    for number in range(20):
        kessel.ok("request", "double", str(number))
    kessel.ok("request", "double", "1", "--delay", "1h")
    done = kessel.ok("drain", "--slots", "2", "--json")
    assert done.json["success"] == 20
    counts = kessel.ok("stats", "default", "--json").json[0]
    assert (counts["ready"], counts["delayed"]) == (0, 1)


def test_drain_logs_json_lines_when_told_so(kessel: Any) -> None:
    import json

    kessel.ok("request", "shop.unheard-of")
    lines = kessel.ok("drain", "--log-json").err.splitlines()
    assert any(json.loads(line)["logger"].startswith("kessel") for line in lines)


class Asked(io.StringIO):
    """Somebody who answers at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["n\n", "\n"])
@pytest.mark.parametrize("words", [("purge", "default"), ("buried", "delete", "--all")])
def test_a_question_that_is_answered_with_no_changes_nothing_and_is_no_interruption(
    kessel: Any, buried: list[str], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], answer: str
) -> None:
    before = kessel.ok("stats", "--json").json
    monkeypatch.setattr("sys.stdin", Asked(answer))
    done = kessel(*words)
    assert (done.code, done.out) == (1, "")
    assert "for good? [y/N]: " in done.err
    assert done.err.endswith("nothing was done\n")
    assert kessel.ok("stats", "--json").json == before


def test_a_question_is_no_part_of_what_programs_read(
    kessel: Any, buried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", Asked("y\n"))
    done = kessel("buried", "delete", "--all", "--json")
    assert done.code == 0
    assert json.loads(done.out)
    assert "[y/N]" in done.err


SLOW = """
from kessel_core import AdapterUnavailable, hookimpl
from kessel_core.contract import AdapterSpec
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

tries = 0

def later(options, context):
    global tries
    tries += 1
    if tries < 4:
        raise AdapterUnavailable(f"try {tries}: nobody answers")
    return MemoryAdapter(options, context)

@hookimpl
def kessel_adapters():
    return [AdapterSpec(name="slow", schemes=("slow",), options=MemoryOptions, open=later)]
"""


def test_drain_waits_as_long_as_its_patience_for_a_queue_that_is_away_at_the_start(
    kessel: Any, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cron job may begin while the server restarts."""
    monkeypatch.setattr("kessel_core.cli.worker._PAUSE", 0.0)
    site.install("slow", SLOW)
    done = kessel.ok("drain", "--adapter", "slow://")
    assert "no job was ready" in done.out
    assert done.err.count("trying again") == 1
    assert "try 1: nobody answers" in done.err


def test_drain_without_patience_gives_up_at_once(kessel: Any, unreachable: None) -> None:
    done = kessel("drain", "--adapter", "moon://base", "--patience", "0s")
    assert (done.code, "trying again" in done.err) == (1, False)
    assert "nobody answers" in done.err


def test_drain_logs_its_end_last_and_no_stop_that_nobody_asked_for(kessel: Any) -> None:
    kessel.ok("request", "x")
    lines = kessel.ok("drain").err.splitlines()
    assert "worker: stopped (1 failed)" in lines[-1]
    assert not [line for line in lines if "stopping" in line]


@pytest.mark.parametrize("statement", ["CREATE TABLE customers (name)", "SELECT 1"])
def test_commands_that_look_change_no_file_in_which_nobody_requested_a_job(
    kessel: Any, statement: str
) -> None:
    """S9: looking into an application's own file, or an empty one, made tables in it and set its journal."""
    file = kessel.directory / "shop.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
    file.touch()
    before = file.read_bytes()
    url = f"sqlite:///{file}"
    for command in (("stats",), ("buried",), ("pause", "default"), ("workers",), ("result", "x"), ("top",)):
        done = kessel(*command, "--adapter", url)
        assert done.code == 1
        assert f"there is no queue of kessel in {file}; nothing was made" in done.err
    assert f"there is no queue of kessel in {file}" in kessel("doctor", "--adapter", url).out
    assert kessel("move", url, "sqlite:///other.db").code == 2
    assert [path.name for path in kessel.directory.glob("*.db*")] == ["shop.db"]
    assert file.read_bytes() == before
    kessel.ok("request", "x", "--adapter", url)
    assert "default" in kessel.ok("stats", "--adapter", url).out

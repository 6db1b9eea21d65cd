"""What operators do: find, show, delete, pause, resume, the summary of `kessel buried`, alarms."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core import AdapterUnavailable, UnknownJob
from kessel_core.cli.choosing import is_since
from kessel_core.cli.jobs import by_id
from kessel_core.cli.root import CAREFUL, COMMANDS
from kessel_core.contract import JobState, StoredJob


@pytest.fixture
def many(kessel: Any) -> list[str]:
    """A hundred and twenty buried jobs of two kinds; the last one has a message of its own."""
    kessel.write(
        "mails.py",
        "def send(payload):\n    raise RuntimeError(f'mailbox {payload} is full')\n"
        "def charge(payload):\n    raise LookupError('no such card')\n",
    )
    kessel.write(
        "kessel.toml", '[kessel.handlers]\n"mail.send" = "mails:send"\n"card.charge" = "mails:charge"\n'
    )
    lines = [{"type": "mail.send", "payload": n, "ref": f"order-{n}"} for n in range(100)]
    lines += [{"type": "card.charge", "payload": n} for n in range(20)]
    kessel.write("jobs.jsonl", "\n".join(map(json.dumps, lines)))
    kessel.ok("request", "--from", "jobs.jsonl")
    kessel.ok("drain")
    return [job["id"] for job in kessel.ok("buried", "list", "--limit", "1000", "--json").json]


def test_finding_c3_buried_alone_sums_up_by_kind_and_message_with_the_next_commands(
    kessel: Any, many: list[str]
) -> None:
    found = kessel.ok("buried", "--json").json
    assert [(cause["type"], cause["count"]) for cause in found] == [("mail.send", 100), ("card.charge", 20)]
    assert found[0]["message"] == "RuntimeError: mailbox # is full"
    out = kessel.ok("buried").out
    assert "mailbox # is full" in out
    typed = [line.partition("kessel ")[2] for line in out.splitlines() if ": " in line and "kessel " in line]
    assert [line.split()[1] for line in typed] == ["show", "kick", "kick", "delete"]
    for line in typed[:3]:  # each of them does what it says
        kessel.ok(*shlex.split(line))
    assert kessel.ok("stats", "--json").json[0]["ready"] == 100


@pytest.mark.parametrize(
    ("first", "second", "proposed"),
    [
        ("the long-lost card {} was refused", "the long-lost card {} was stolen", "was refused"),
        ("refused", "refused again by the bank", None),
    ],
)
def test_s39_a_proposed_command_acts_on_the_jobs_that_it_stands_for_and_no_others(
    kessel: Any, first: str, second: str, proposed: str | None
) -> None:
    """It took the longest part of a message, which others may have too, and every configured queue."""
    kessel.write("cards.py", "def charge(payload): raise RuntimeError(payload)\n")
    kessel.write(
        "kessel.toml",
        '[kessel]\nqueues = ["default", "mail"]\n[kessel.handlers]\n"card.charge" = "cards:charge"\n',
    )
    texts = [*(first.format(number) for number in range(5)), *(second.format(number) for number in range(3))]
    lines = [{"type": "card.charge", "payload": text} for text in texts]
    lines += [{"type": "card.charge", "payload": first, "queue": "mail"}]
    kessel.write("jobs.jsonl", "\n".join(map(json.dumps, lines)))
    kessel.ok("request", "--from", "jobs.jsonl")
    kessel.ok("drain")
    out = kessel.ok("buried").out
    assert "look at one:" in out
    if proposed is None:
        assert "remove them:" not in out
        return
    (line,) = [line for line in out.splitlines() if line.startswith("remove them:")]
    typed = shlex.split(line.partition("kessel ")[2])
    assert typed[-4:] == ["--message", proposed, "--queue", "default"]
    assert kessel.ok(*typed, "--yes").out.startswith("deleted 5 buried jobs")


@pytest.mark.parametrize(
    ("configured", "options", "named"),
    [
        ([], [], []),
        ([], ["--queue", "mail"], ["--queue", "mail"]),
        (["mail"], [], []),
        (["mail"], ["--queue", "mail"], ["--queue", "mail"]),
        (["mail", "default"], [], ["--queue", "mail"]),
    ],
    ids=["another one is not looked at", "typed", "configured", "typed and configured", "one of two"],
)
def test_s39_a_proposed_command_acts_on_the_queue_that_was_typed(
    kessel: Any, configured: list[str], options: list[str], named: list[str]
) -> None:
    """Typed as it was shown, it went to the configured queues."""
    kessel.write("kessel.toml", f"[kessel]\nqueues = {json.dumps(configured or ['default'])}\n")
    queue = "mail" if configured or options else "default"
    kessel.ok("request", "shop.unheard-of", "--queue", queue)
    kessel.ok("drain", "--queue", queue)
    (line,) = [row for row in kessel.ok("buried", *options).out.splitlines() if row.startswith("remove")]
    typed = shlex.split(line.partition("kessel ")[2])
    assert typed[6:] == named
    assert kessel.ok(*typed, "--yes").out.startswith("deleted 1 buried job")


def test_finding_c3_lists_say_how_many_there_are_in_all(kessel: Any, many: list[str]) -> None:
    assert "100 of 120" in kessel.ok("buried", "list").out
    done = kessel.ok("buried", "list", "--limit", "5", "--json")
    assert [job["id"] for job in done.json] == many[:5]
    assert "5 of 120" in done.err
    newest = kessel.ok("buried", "list", "--newest", "--limit", "5", "--json")
    assert [job["id"] for job in newest.json] == many[:-6:-1]
    assert "5 of 120" in newest.err
    assert "of" not in kessel.ok("buried", "list", "--limit", "1000").out.splitlines()[-1].split()
    assert "3 of 120" in kessel.ok("peek", "--state", "buried", "--limit", "3").out
    assert "2 of 20" in kessel.ok("find", "--type", "card.charge", "--limit", "2").out


def test_finding_c3_json_has_type_ref_and_payload_on_top(kessel: Any, many: list[str]) -> None:
    job = kessel.ok("buried", "list", "--json").json[7]
    assert (job["type"], job["ref"], job["payload"]) == ("mail.send", "order-7", 7)
    assert list(job)[:6] == ["id", "queue", "state", "type", "ref", "payload"]


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (("--message", "no such card"), slice(100, 120)),
        (("--type", "mail.send", "--limit", "10"), slice(0, 10)),
        (("--newest", "--limit", "3"), slice(117, 120)),
        (("--oldest", "--limit", "3"), slice(0, 3)),
        (("--older-than", "1h"), slice(0, 0)),
        (("--older-than", "0s", "--reason", "error"), slice(0, 120)),
    ],
)
@pytest.mark.parametrize("command", ["kick", "delete"])
def test_finding_c3_kick_and_delete_choose_by_message_age_end_and_number(
    kessel: Any, many: list[str], command: str, options: tuple[str, ...], chosen: slice
) -> None:
    more = ["--yes"] if command == "delete" else []
    done = kessel.ok("buried", command, *options, *more, "--json").json
    assert sorted(done["kicked" if command == "kick" else "deleted"]) == sorted(many[chosen])


@pytest.mark.parametrize("command", ["kick", "delete"])
def test_s39_a_dry_run_says_which_ones_and_changes_nothing(
    kessel: Any, many: list[str], command: str
) -> None:
    before = kessel.ok("stats", "--json").json
    done = kessel.ok("buried", command, "--type", "card.charge", "--limit", "3", "--dry-run", "--json").json
    assert done == {f"would_{command}": many[100:103], "missing": []}
    assert kessel.ok("buried", command, "--all", "--dry-run").out == f"would {command} 120 buried jobs\n"
    assert kessel.ok("buried", command, many[5], "--dry-run").out == f"would {command} 1 buried job\n"
    assert kessel("buried", command, "no-such-job", "--dry-run").code == 1
    assert kessel.ok("stats", "--json").json == before
    assert kessel("buried", "kick", many[5], "--payload", "1", "--dry-run").code == 2


def test_finding_c7_the_start_of_an_id_serves_if_it_is_unique(kessel: Any, many: list[str]) -> None:
    assert kessel.ok("show", many[3][:34], "--json").json["id"] == many[3]
    assert kessel.ok("buried", "show", many[3][:34], "--json").json["id"] == many[3]
    ambiguous = kessel("buried", "kick", many[3][:8])
    assert ambiguous.code == 1
    assert re.search(r"ids of \d+ jobs start with", ambiguous.err)
    assert "no buried job" in kessel("buried", "kick", many[3][:7]).err
    for command in ("show", "delete"):
        assert "the start of an id has at least 8 characters" in kessel(command, many[3][:7]).err
    assert kessel.ok("buried", "kick", many[3][:34], "--json").json["kicked"] == [many[3]]
    assert kessel.ok("delete", many[3][:34], "--json").json["deleted"] == [many[3]]


def test_job_that_is_named_twice_is_deleted_once_and_nothing_is_wrong(kessel: Any, many: list[str]) -> None:
    """As `kessel buried delete` does; it told that there is no such job, or that a worker holds it."""
    named = [many[3], many[3], many[4][:34], many[4][:35]]
    assert kessel.ok("delete", *named, "--json").json == {"deleted": many[3:5], "problems": []}


def test_finding_c7_ids_are_never_folded_and_narrow_tables_are_cards(
    kessel: Any, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kessel_core.cli import output

    for width in (40, 79, 80, 100, 132, 240):
        monkeypatch.setattr(output, "_PIPE_WIDTH", width)
        out = kessel.ok("buried", "list").out
        assert all(id_ in out for id_ in many[:100]), width
    monkeypatch.setattr(output, "_PIPE_WIDTH", 79)
    assert f"id       {many[0]}\n" in kessel.ok("buried", "list").out


def test_finding_c7_times_are_told_from_now_and_one_job_is_one_job(kessel: Any) -> None:
    kessel.ok("request", "shop.unheard-of")
    kessel.ok("drain")
    assert "0 s ago" in (out := kessel.ok("buried", "list").out) or "1 s ago" in out
    kessel.ok("request", "x", "--delay", "3h")
    assert "in 2 h" in kessel.ok("peek", "--state", "delayed").out
    assert "removed 2 jobs of" in kessel.ok("purge", "default", "--yes").out


def test_finding_c5_a_queue_is_paused_and_resumed(kessel: Any) -> None:
    kessel.ok("request", "shop.unheard-of")
    assert "paused queue default for 10 min, with 1 ready job\n" in kessel.ok("pause", "default", "10m").out
    assert "no job was ready" in kessel.ok("drain").out
    assert "resumed queue default" in kessel.ok("resume", "default").out
    assert "was not paused" in kessel.ok("resume", "default").out
    kessel.ok("pause", "default")
    assert "until resumed" in kessel.ok("stats").out
    assert kessel("pause", "default", "soon").code == 2
    assert kessel("pause", "default", "0").code == 2


def test_finding_c5_a_waiting_job_is_found_shown_and_cancelled(kessel: Any) -> None:
    first = kessel.ok("request", "mail.send", "1", "--ref", "order-1", "--delay", "2h", "--json").json["id"]
    kessel.ok("request", "mail.send", "2", "--ref", "order-2", "--queue", "other")
    (found,) = kessel.ok("find", "--ref", "order-1", "--json").json
    assert (found["id"], found["state"]) == (first, "delayed")
    assert [job["queue"] for job in kessel.ok("find", "--type", "mail.send", "--json").json] == [
        "default",
        "other",
    ]
    assert [job["id"] for job in kessel.ok("find", first[:30], "--state", "delayed", "--json").json] == [
        first
    ]
    assert "order-1" in kessel.ok("show", first).out
    assert "deleted 1 job\n" in kessel.ok("delete", first).out
    nothing = kessel("find", "--ref", "order-1")
    assert (nothing.code, nothing.err) == (1, "no such job in default, other\n")
    assert kessel("find").code == 2
    gone = kessel("delete", first)
    assert (gone.code, gone.err) == (1, f"error: no job '{first}' in default, other\n")


def test_s39_jobs_in_a_state_are_listed_with_what_matters_there(kessel: Any, many: list[str]) -> None:
    out = kessel.ok("list", "buried", "--limit", "2").out
    assert f"2 of 120; the next page: --after {sorted(many)[1]}" in out
    assert "mailbox" in out
    kessel.ok("request", "later", "--delay", "2h", "--ref", "r-1")
    out = kessel.ok("list", "delayed").out
    assert "later" in out
    assert "r-1" in out
    assert "in 119 min" in out
    assert "65,536" in out
    assert kessel.ok("list", "ready").out == "no such ready job in default\n"
    assert len(kessel.ok("list", "buried", "--type", "card.charge", "--json").json) == 20
    assert kessel("list", "lost").code == 2
    assert kessel("list", "buried", "--since", "soon").code == 2
    rest = kessel("list", "buried", "--limit", "5", "--json", "--after", sorted(many)[9])
    assert [job["id"] for job in rest.json] == sorted(many)[10:15]
    assert rest.err == f"5 of 110; the next page: --after {sorted(many)[14]}\n"


def test_s39_jobs_are_found_by_their_age(kessel: Any) -> None:
    first = kessel.ok("request", "mail.send", "--json").json["id"]
    assert [job["id"] for job in kessel.ok("find", "--since", "1h", "--json").json] == [first]
    assert kessel("find", "--since", "0s").code == 1
    assert kessel("find", "--since", "1h", "--type", "other").code == 1


@pytest.mark.parametrize(
    "typed", ["purrge", "drian", "demoo", "pauze", "dran", "remove", "clear", "stop", "empty"]
)
def test_finding_c5_nothing_that_removes_or_runs_jobs_is_proposed_for_another_word(
    kessel: Any, typed: str
) -> None:
    done = kessel(typed)
    assert done.code == 2
    near = {"purrge": "purge", "drian": "drain", "dran": "drain", "demoo": "demo"}.get(typed)
    proposed = {name for name in COMMANDS if f"'{name}'?" in done.err}
    assert proposed & CAREFUL <= {near}


@pytest.mark.parametrize(
    "arguments",
    [
        ("stats",),
        ("peek",),
        ("find", "--type", "x"),
        ("list", "buried"),
        ("show", "some-id"),
        ("explain", "some-id"),
        ("delete", "some-id"),
        ("buried",),
        ("buried", "list"),
        ("buried", "kick", "--all"),
        ("pause", "default"),
        ("purge", "default", "--yes"),
        ("result", "some-id"),
        ("history", "some-id"),
    ],
)
def test_finding_c6_looking_makes_no_file_and_names_the_place(
    kessel: Any, arguments: tuple[str, ...]
) -> None:
    done = kessel(*arguments)
    assert done.code == 1
    assert str(kessel.directory / "kessel.db") in done.err
    assert list(kessel.directory.glob("kessel.db*")) == []


def test_finding_c6_doctor_makes_no_file_and_says_that_there_is_none(kessel: Any) -> None:
    found = kessel.ok("doctor", "--json").json
    assert any(str(kessel.directory / "kessel.db") in finding["detail"] for finding in found)
    assert list(kessel.directory.glob("kessel.db*")) == []


def test_finding_c6_request_worker_and_stats_name_the_absolute_place(kessel: Any) -> None:
    place = str(kessel.directory / "kessel.db")
    assert place in kessel.ok("request", "addition", '{"operands": [1]}').out
    assert place in kessel.ok("drain").err
    assert place in kessel.ok("stats").out


def test_finding_c4_alarms_exit_with_1(kessel: Any) -> None:
    kessel.ok("request", "x", "--delay", "1h")
    kessel.ok("stats", "--max-ready", "0", "--max-buried", "0", "--max-age", "0s")
    kessel.ok("request", "x")
    assert "1 ready job, at most 0" in kessel("stats", "--max-ready", "0").err
    assert "oldest ready job" in kessel("stats", "--max-age", "0s", "--json").err
    assert kessel("stats", "--max-age", "0s").code == 1
    kessel.ok("stats", "--max-ready", "1", "--max-age", "1h")
    kessel.ok("doctor", "--strict")
    assert kessel("drain", "--fail").code == 1
    assert kessel("stats", "--max-buried", "0").code == 1
    doctor = kessel("doctor", "--strict")
    assert doctor.code == 1
    assert "1 buried" in doctor.out
    kessel.ok("doctor")
    kessel.ok("drain", "--fail")  # nothing failed this time


def test_finding_b1_a_buried_job_is_kicked_with_a_mended_payload(kessel: Any, many: list[str]) -> None:
    kessel.write("mails.py", "def send(payload):\n    assert payload == {'to': 'ann'}\ncharge = send\n")
    done = kessel.ok("buried", "kick", many[3][:34], "--payload", '{"to": "ann"}', "--json").json
    assert done["instead_of"] == many[3]
    (job,) = kessel.ok("peek", "--json").json
    assert (job["id"], job["payload"], job["ref"]) == (done["kicked"][0], {"to": "ann"}, "order-3")
    assert kessel("buried", "show", many[3]).code == 1


@pytest.mark.parametrize("payload", ["{", "NaN", "[" * 100_000])
def test_finding_b1_a_payload_that_is_no_json_changes_nothing(
    kessel: Any, many: list[str], payload: str
) -> None:
    assert kessel("buried", "kick", many[3], "--payload", payload).code == 2
    assert kessel("buried", "kick", many[3], many[4], "--payload", "1").code == 2
    assert kessel("buried", "kick", "no-such-id", "--payload", "1").code == 1
    assert kessel.ok("stats", "--json").json[0]["buried"] == 120


def test_finding_d6_the_start_of_a_number_of_the_server_names_no_job() -> None:
    """A queue that holds @12345 and no @1234 any more: it is another job's number."""
    job = StoredJob(id="@12345", queue="q", state=JobState.BURIED, body=b"")
    assert by_id([job], "@1234") is None
    assert by_id([job], "@12345") is job


def test_s39_a_whole_id_is_meant_also_where_it_is_the_start_of_others() -> None:
    jobs = [
        StoredJob(id=one, queue="q", state=JobState.BURIED, body=b"")
        for one in ("order-123", "order-12", "order-124")
    ]
    for some in (jobs, jobs[::-1]):
        found = by_id(some, "order-12")
        assert found is not None
        assert found.id == "order-12"


@pytest.mark.parametrize(
    ("state", "stored", "buried", "is_new"),
    [
        (JobState.BURIED, 120, 5, True),
        (JobState.BURIED, 5, 120, False),
        (JobState.BURIED, 5, None, False),
        (JobState.READY, 5, None, True),
        (JobState.READY, 120, None, False),
        (JobState.DELAYED, None, None, False),
    ],
)
def test_s39_a_job_is_new_by_its_burial_or_by_when_it_was_stored(
    state: JobState, stored: int | None, buried: int | None, is_new: bool
) -> None:
    now = datetime.now(UTC)
    at = [None if minutes is None else now - timedelta(minutes=minutes) for minutes in (stored, buried)]
    job = StoredJob(id="a", queue="q", state=state, body=b"", enqueued_at=at[0], buried_at=at[1])
    assert is_since(job, timedelta(hours=1)) is is_new


def test_of_many_jobs_with_which_others_were_faster_some_are_named_and_json_has_all(
    kessel: Any, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S39: as `kessel request --from` does; two who kick the same read thousands of lines."""

    def gone(self: object, job: StoredJob) -> None:
        raise UnknownJob(job.id, job.queue)

    monkeypatch.setattr(SqliteAdapter, "kick_shown", gone)
    done = kessel("buried", "kick", "--all")
    assert (done.code, done.out) == (1, "kicked 0 buried jobs\n")
    assert done.err.count("error: no buried job ") == 20
    assert done.err.endswith("error: ... and 100 more; --json lists all\n")
    assert kessel("buried", "kick", "--all", "--json").json["missing"] == many


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_done_before_an_interrupt_is_told(
    kessel: Any, many: list[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """S39: of thousands of jobs somebody has to know how many were kicked, and which were deleted."""
    calls = []

    def interrupted(operation: Callable[..., None]) -> Callable[..., None]:
        def do(*arguments: Any) -> None:
            if len(calls) == 3:
                signal.raise_signal(number)
            calls.append(arguments)
            operation(*arguments)

        return do

    for name in ("kick_shown", "delete"):
        monkeypatch.setattr(SqliteAdapter, name, interrupted(getattr(SqliteAdapter, name)))
    done = kessel("buried", "kick", "--all")
    assert (done.code, done.out) == (130, "kicked 3 buried jobs\n")
    assert done.err.endswith("interrupted\n")
    calls.clear()
    done = kessel("delete", *many[:5], "--json")
    assert (done.code, done.json) == (130, {"deleted": many[:3], "problems": ["interrupted"]})
    assert kessel.ok("stats", "--json").json[0]["buried"] == 117


def test_s8_a_job_that_was_kicked_since_it_was_listed_is_not_deleted(
    kessel: Any, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S8: it is somebody's work again, and he was told that it is kicked."""
    listed = SqliteAdapter.each_buried

    def each(adapter: SqliteAdapter, queue: str) -> Iterator[StoredJob]:
        for job in listed(adapter, queue):
            if job.id == many[1]:
                adapter.kick(queue, job.id)
            yield job

    monkeypatch.setattr(SqliteAdapter, "each_buried", each)
    done = kessel("buried", "delete", "--limit", "3", "--yes", "--json")
    assert (done.code, done.json) == (1, {"deleted": [many[0], many[2]], "missing": [many[1]]})
    assert [job["id"] for job in kessel.ok("peek", "--json").json] == [many[1]]


def _kicked_by_another(monkeypatch: pytest.MonkeyPatch, job_id: str) -> None:
    """Let somebody else kick a buried job while the mended one is being stored."""
    enqueue = SqliteAdapter.enqueue

    def slowly(adapter: SqliteAdapter, message: Any) -> None:
        adapter.kick("default", job_id)
        enqueue(adapter, message)

    monkeypatch.setattr(SqliteAdapter, "enqueue", slowly)


def test_s8_a_mended_job_goes_again_if_somebody_else_was_faster(
    kessel: Any, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S8: what exits with 1 has left nothing behind that runs."""
    _kicked_by_another(monkeypatch, many[3])
    done = kessel("buried", "kick", many[3], "--payload", "7")
    assert (done.code, done.out) == (1, "")
    assert f"job {many[3]!r} is no longer buried in default" in done.err
    assert "the mended job was removed again" in done.err
    assert [job["id"] for job in kessel.ok("peek", "--json").json] == [many[3]]


@pytest.mark.parametrize("was_kicked", [True, False])
def test_s8_a_mended_job_that_stays_is_named(
    kessel: Any, many: list[str], monkeypatch: pytest.MonkeyPatch, was_kicked: bool
) -> None:
    def delete(adapter: SqliteAdapter, queue: str, job_id: str) -> None:
        raise AdapterUnavailable("the disk is gone")

    if was_kicked:
        _kicked_by_another(monkeypatch, many[3])
    monkeypatch.setattr(SqliteAdapter, "delete", delete)
    if not was_kicked:
        monkeypatch.setattr(SqliteAdapter, "delete_shown", lambda self, job: self.delete(job.queue, job.id))
    done = kessel("buried", "kick", many[3], "--payload", "7")
    (mended,) = [job["id"] for job in kessel.ok("peek", "--json").json if job["payload"] == 7]
    assert (done.code, "the disk is gone" in done.err) == (1, True)
    assert f"the mended job {mended!r} is stored" in done.err


@pytest.fixture
def alike(kessel: Any) -> list[str]:
    """Three jobs without a handler, of which two have ids that begin alike."""
    ids = ["single-123", "double-1231", "double-1232"]
    kessel.write("alike.jsonl", "\n".join(json.dumps({"type": "x", "id": one}) for one in ids))
    kessel.ok("request", "--from", "alike.jsonl")
    return ids


def test_s39_an_id_that_may_mean_two_jobs_hides_nothing_of_what_was_done(
    kessel: Any, alike: list[str]
) -> None:
    done = kessel("delete", "single-123", "double-123", "--json")
    assert (done.code, done.json["deleted"]) == (1, ["single-123"])
    (problem,) = done.json["problems"]
    assert problem.startswith("the ids of 2 jobs start with 'double-123': double-123")
    assert f"error: {problem}" in done.err
    assert len(kessel.ok("peek", "--json").json) == 2


@pytest.mark.parametrize(("word", "done"), [("kick", "kicked"), ("delete", "deleted")])
def test_s39_buried_jobs_of_other_ids_are_kicked_or_deleted_beside_one_that_may_mean_two(
    kessel: Any, alike: list[str], word: str, done: str
) -> None:
    kessel.ok("drain")
    found = kessel("buried", word, "double-123", "single-123", "--json")
    assert (found.code, found.json) == (1, {done: ["single-123"], "missing": ["double-123"]})
    assert "error: the ids of 2 jobs start with 'double-123'" in found.err


def test_s39_what_was_done_is_told_also_where_the_adapter_fails_then(
    kessel: Any, alike: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kessel.ok("drain")
    delete = SqliteAdapter.delete

    def fail(adapter: SqliteAdapter, queue: str, job_id: str) -> None:
        if job_id != "single-123":
            raise AdapterUnavailable("the disk is gone")
        delete(adapter, queue, job_id)

    monkeypatch.setattr(SqliteAdapter, "delete", fail)
    monkeypatch.setattr(SqliteAdapter, "delete_shown", lambda self, job: self.delete(job.queue, job.id))
    found = kessel("buried", "delete", "--all", "--yes", "--json")
    assert (found.code, found.json["deleted"]) == (1, ["single-123"])
    assert "the disk is gone" in found.err
    kessel.ok("request", "--from", kessel.write("one.jsonl", '{"type": "x", "id": "single-123"}').name)
    found = kessel("delete", "single-123", "double-1231", "--json")
    assert (found.code, found.json) == (1, {"deleted": ["single-123"], "problems": ["the disk is gone"]})
    assert found.err.count("error: the disk is gone") == 1
    for command in (["delete", "double-1231"], ["buried", "delete", "double-1231"]):
        found = kessel(*command)
        assert (found.code, found.out) == (1, ""), "nothing was done, so nothing is told as done"
        assert found.err.count("the disk is gone") == 1


def test_s39_ids_and_types_that_look_like_addresses_are_told_as_they_are_typed(kessel: Any) -> None:
    """With something hidden they would name nothing; and a shell must not change them."""
    ids = [f"mail://me:pw@example.org/{number}?token=a b" for number in range(2)]
    kessel.write("urls.jsonl", "\n".join(json.dumps({"type": "mail://a:b@c/d", "id": one}) for one in ids))
    kessel.ok("request", "--from", "urls.jsonl")
    page = kessel.ok("list", "ready", "--limit", "1").out
    after = shlex.split(page.partition("the next page: ")[2])
    assert [job["id"] for job in kessel.ok("list", "ready", *after, "--json").json] == [ids[1]]
    assert ids[0] in kessel.ok("explain", ids[0]).out
    kessel.ok("drain")
    out = kessel.ok("buried").out
    for text, said in (("look at one", "show"), ("kick the rest", "kick")):
        typed = shlex.split(out.partition(f"{text}:")[2].partition("\n")[0])
        assert typed[:3] == ["kessel", "buried", said]
        kessel.ok(*typed[1:])
    assert kessel.ok("stats", "--json").json[0]["ready"] == 2


@pytest.mark.parametrize(
    ("other", "proposed"),
    [("error", ["show"]), (None, ["show", "kick", "kick", "delete"])],
    ids=["another reason", "the same"],
)
def test_what_is_proposed_for_jobs_without_a_reason_means_no_job_of_another_reason(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, other: str | None, proposed: list[str]
) -> None:
    """They were buried by other software; without --reason a kick takes those of every reason."""
    kessel.ok("request", "t")
    reasons = [None, None, other]
    jobs = [
        StoredJob(
            id=f"job-{number}", queue="default", state=JobState.BURIED, body=b'{"type": "t"}', reason=reason
        )
        for number, reason in enumerate(reasons)
    ]
    monkeypatch.setattr("kessel_core.cli.buried.buried_jobs", lambda *_: iter(jobs))
    typed = [line.partition("kessel ")[2] for line in kessel.ok("buried").out.splitlines()]
    assert [line.split()[1] for line in typed if line] == proposed

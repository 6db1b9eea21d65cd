"""`kessel request`: one job from the arguments, many from a file."""

from __future__ import annotations

import io
import json
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    EnqueueRejected,
    EnqueueUnknown,
    IdHeld,
    InvalidRequest,
    Outcome,
    Problem,
    Status,
)
from kessel_core.cli.app import sigterm_as_ctrl_c
from kessel_core.client.manager import JobManager


def stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


def total(kessel: Any) -> int:
    if not (kessel.directory / "kessel.db").exists():
        return 0
    return sum(int(queue["total"]) for queue in kessel.ok("stats", "--json").json)


def test_job_is_stored_with_all_its_fields(kessel: Any) -> None:
    done = kessel.ok(
        "request", "addition", '{"operands": [1, 2]}', "--priority", "7", "--delay", "5m",
        "--expiration", "3h", "--ref", "r", "--queue", "mail", "--header", "trace=a=b", "--json",
    )  # fmt: skip
    fields = done.json
    assert fields["payload"] == {"operands": [1, 2]}
    assert (fields["priority"], fields["ref"], fields["queue"]) == (7, "r", "mail")
    assert fields["headers"] == {"trace": "a=b"}
    span = datetime.fromisoformat(fields["delay"]) - datetime.fromisoformat(fields["requested_at"])
    assert span == timedelta(minutes=5)
    [job] = kessel.ok("peek", "mail", "--state", "delayed", "--json").json
    assert job["body"] == fields


def test_people_see_the_id_and_the_queue(kessel: Any) -> None:
    out = kessel.ok("request", "addition").out
    assert out.startswith("requested ")
    assert "(addition) in queue default" in out


def test_payload_is_read_from_standard_input(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b'{"a": [1]}')
    assert kessel.ok("request", "x", "-", "--json").json["payload"] == {"a": [1]}


def test_payload_from_standard_input_is_utf_8_whatever_the_locale(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON is; a locale of Latin-1 stored other letters, and said nothing."""
    for encoding in ("latin-1", "ascii", "utf-8"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO('"é"'.encode()), encoding=encoding))
        assert kessel.ok("request", "x", "-", "--json").json["payload"] == "é"
    stdin(monkeypatch, b'"\xe9"')
    done = kessel("request", "x", "-")
    assert done.code == 2
    assert "PAYLOAD: is not JSON: not UTF-8 at byte 1" in done.err


def test_time_with_a_zone_is_taken(kessel: Any) -> None:
    fields = kessel.ok("request", "x", "--delay", "2999-01-01T00:00:00+02:00", "--json").json
    assert fields["delay"].startswith("2998-12-31T22:00:00")


def test_payload_may_begin_with_a_byte_order_mark(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file of requests may: programs of Windows write one into what another one reads."""
    stdin(monkeypatch, b'\xef\xbb\xbf{"a": 1}')
    assert kessel.ok("request", "x", "-", "--json").json["payload"] == {"a": 1}


def test_s1_header_that_is_given_twice_is_refused(kessel: Any) -> None:
    """One of the two was dropped in silence; in a file the same is refused."""
    done = kessel("request", "x", "--header", "a=1", "--header", "b=1", "--header", " a =2")
    assert done.code == 2
    assert "--header: 'a' is given more than once" in done.err


def test_every_mistake_is_reported_at_once_and_nothing_is_stored(kessel: Any) -> None:
    """S1: everything wrong with a request is reported together, before anything is sent."""
    done = kessel(
        "request", " ", "{nope", "--priority", "high", "--delay", "soon",
        "--expiration", "2000-01-01T00:00:00Z", "--header", "novalue", "--queue", "a b",
    )  # fmt: skip
    assert done.code == 2
    for place in ("PAYLOAD", "--priority", "--delay", "--expiration", "--header", "--queue", "TYPE"):
        assert place in done.err, place
    assert total(kessel) == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["x", "NaN"], "NaN"),
        (["x", "1e999"], "PAYLOAD: is not JSON: 1e999 is beyond"),
        (["x", '{"a": 1, "a": 2}'], "twice"),
        (["x", '"\\ud800"'], "surrogate"),
        (["x", "[" * 100_000], "PAYLOAD"),
        (["x", "--delay", "2030-01-01T00:00:00"], "naive"),
        (["x", "--delay", "1h", "--expiration", "5m"], "after the delay"),
        (["x", "--delay", "9999999d"], "--delay"),
        (["x", "--callback", ":nowhere"], "callback"),
    ],
)
def test_bad_input_is_one_clear_error(kessel: Any, arguments: list[str], expected: str) -> None:
    """S2, S5: refused with its place, exit code 2, no traceback, nothing stored."""
    done = kessel("request", *arguments)
    assert done.code == 2
    assert expected in done.err
    assert "Traceback" not in done.err
    assert total(kessel) == 0


def test_without_type_and_file_it_is_wrong_usage(kessel: Any) -> None:
    assert kessel("request").code == 2


def test_file_and_fields_together_are_wrong_usage(kessel: Any) -> None:
    assert kessel("request", "--from", "x.jsonl", "--priority", "3").code == 2


def test_adapter_that_lives_in_one_process_is_refused(kessel: Any) -> None:
    done = kessel("request", "x", "--adapter", "memory://")
    assert done.code == 2
    assert "--adapter" in done.err
    assert "sqlite:///kessel.db" in done.err


# --- many ----------------------------------------------------------------------------------


def test_every_line_of_a_file_is_requested(kessel: Any) -> None:
    lines = [json.dumps({"type": "x", "payload": number}) for number in range(1200)]
    kessel.write("jobs.jsonl", "\n".join(lines) + "\n\n")
    done = kessel.ok("request", "--from", "jobs.jsonl", "--json")
    assert done.json["requested"] == 1200
    assert len(set(done.json["ids"])) == 1200
    assert total(kessel) == 1200


def test_lines_are_read_from_standard_input(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b'\xef\xbb\xbf{"type": "x"}\r\n{"type": "y"}')
    assert "requested 2 jobs from standard input" in kessel.ok("request", "--from", "-").out


@pytest.mark.parametrize("odd", [b"\x0c", b"\x0b", b"\x1c"])
def test_white_space_that_json_has_not_is_a_mistake_of_its_line(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, odd: bytes
) -> None:
    stdin(monkeypatch, b' {"type": "x"} \n' + odd + b'{"type": "y"}\n{"type": "z"}' + odd)
    done = kessel("request", "--from", "-")
    assert done.code == 2
    assert "nothing was stored" in done.err
    assert "standard input:2: $: not JSON" in done.err
    assert "standard input:3: $: not JSON" in done.err
    assert "Traceback" not in done.err


def test_one_bad_line_stops_all_and_every_bad_line_is_named(kessel: Any) -> None:
    kessel.write(
        "jobs.jsonl",
        '{"type": "x"}\n{"typ": "x"}\n\nnot json\n{"type": "x", "priority": "high", "delay": "soon"}\n'
        '{"type": "x", "expiration": "2000-01-01T00:00:00Z"}\n',
    )
    done = kessel("request", "--from", "jobs.jsonl")
    assert done.code == 2
    for place in (
        "jobs.jsonl:2",
        "jobs.jsonl:4",
        "jobs.jsonl:5: $.priority",
        "jobs.jsonl:5: $.delay",
        "jobs.jsonl:6",
    ):
        assert place in done.err, place
    assert "nothing was stored" in done.err
    assert "jobs.jsonl:1:" not in done.err
    assert total(kessel) == 0


def test_key_that_looks_like_a_misspelt_field_is_warned_of(kessel: Any) -> None:
    """Unknown keys are kept (F53), but a misspelt priority must not pass without a word."""
    kessel.write("jobs.jsonl", '{"type": "x", "trace": 1}\n{"type": "x", "prioritty": 1}\n')
    done = kessel("request", "--from", "jobs.jsonl")
    assert done.code == 0
    assert "jobs.jsonl:2: 'prioritty' is not a field" in done.err
    assert "did you mean 'priority'?" in done.err
    assert "trace" not in done.err
    assert total(kessel) == 2


def test_very_many_bad_lines_are_counted(kessel: Any) -> None:
    kessel.write("jobs.jsonl", "nonsense\n" * 500)
    done = kessel("request", "--from", "jobs.jsonl")
    assert done.code == 2
    assert "and 400 more" in done.err


def test_missing_file_is_one_clear_error(kessel: Any) -> None:
    done = kessel("request", "--from", "missing.jsonl")
    assert done.code == 2
    assert "missing.jsonl: cannot be read" in done.err


def test_empty_file_requests_nothing(kessel: Any) -> None:
    kessel.write("jobs.jsonl", "")
    assert "requested 0 jobs" in kessel.ok("request", "--from", "jobs.jsonl").out


def test_help_shows_each_example_on_its_own_line(kessel: Any) -> None:
    text = kessel("request", "--help").out
    assert "\\b" not in text
    assert "\n    kessel request --from jobs.jsonl --queue ops\n" in text


def test_s26_request_says_that_the_time_is_over(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel]\nadapter = "sqlite:///jobs.db"\n')
    done = kessel("request", "double", "21", "--wait", "10ms")
    assert done.code == 1
    assert "no result within the time to wait; it is ready" in done.err
    assert kessel("request", "--from", "-", "--wait", "1s").code == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_come_together_interrupt_a_command_once(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """`timeout` signals a process and its group; the second one cut off what the first one let be told."""
    now = [5.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    before = signal.getsignal(number)
    with sigterm_as_ctrl_c():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(number)
        now[0] += 1.0
        with pytest.raises(KeyboardInterrupt):  # somebody insists
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_s26_who_waits_no_longer_is_told_which_job_is_stored(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Otherwise it is requested again, and runs twice."""
    kessel.write("kessel.toml", '[kessel]\nadapter = "sqlite:///jobs.db"\n')

    def interrupted(self: object, job_id: str, timeout: object) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr("kessel_core.client.manager.JobManager.result", interrupted)
    done = kessel("request", "double", "21", "--wait", "30s")
    assert done.code == 130
    (job,) = kessel.ok("list", "ready", "--json").json
    assert f"job {job['id']} is stored; `kessel result {job['id']} --wait 30s` waits on" in done.err


def test_s2_a_line_that_is_too_large_for_the_queue_stops_a_file_before_the_first_is_stored(
    kessel: Any,
) -> None:
    """It was seen with its batch, after others were stored, and was named by its place there."""
    lines = [
        json.dumps({"type": "x", "payload": "x" * (2000 if number == 600 else 1)}) for number in range(700)
    ]
    kessel.write("jobs.jsonl", "\n".join(lines))
    done = kessel("request", "--from", "jobs.jsonl", "--adapter", "sqlite:///jobs.db?max_body_bytes=1000")
    assert (done.code, done.out) == (2, "")
    assert "error: nothing was stored: jobs.jsonl:601: the request takes 2" in done.err
    assert kessel.ok("stats", "--json", "--adapter", "sqlite:///jobs.db").json[0]["total"] == 0


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_s26_who_waits_while_the_queue_goes_away_is_told_which_job_is_stored(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """S26: the error alone looked as if nothing was stored; the command names the queue that was typed."""

    def gone(self: object, job_id: str, timeout: object) -> None:
        raise AdapterUnavailable("connection refused")

    monkeypatch.setattr("kessel_core.client.manager.JobManager.result", gone)
    kessel.write("kessel.toml", "[kessel]\n")
    typed = ("--adapter", "sqlite:///jobs.db")
    done = kessel("request", "double", "21", "--wait", "30s", *options, *typed)
    (job,) = kessel.ok("list", "ready", "--json", *typed).json
    waits = f"kessel result {job['id']} --adapter sqlite:///jobs.db --wait 30s"
    assert done.code == 1
    assert done.err.endswith(f"job {job['id']} is stored; `{waits}` waits on\nerror: connection refused\n")
    if options:
        assert done.json == {"id": job["id"], "status": "pending", "state": None, "progress": None}
    else:
        assert not done.out


def test_s26_a_value_that_was_left_out_is_not_shown_as_null(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S25: what is too large for the store is left out of what is kept; the job did not return nothing."""
    kessel.write("kessel.toml", '[kessel]\nadapter = "sqlite:///jobs.db"\n')
    outcome = Outcome(id="a", status=Status.SUCCESS, value_omitted=True)
    monkeypatch.setattr("kessel_core.client.manager.JobManager.result", lambda *given: outcome)
    done = kessel("request", "double", "21", "--wait", "30s")
    assert done.code == 1
    assert "succeeded; what it returned is too large for the store" in done.err
    done = kessel("request", "double", "21", "--wait", "30s", "--json")
    assert (done.code, done.json["value_omitted"]) == (0, True)


def test_s26_nothing_is_stored_where_nobody_could_wait_for_the_result(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S26: without a store there is no result to wait for, which is said before the job is there."""
    monkeypatch.setattr(SqliteAdapter, "facet", lambda self, kind: None)
    done = kessel("request", "double", "21", "--wait", "10ms")
    assert (done.code, done.out) == (2, "")
    assert "store" in done.err
    assert total(kessel) == 0


@pytest.mark.parametrize("error", [EnqueueUnknown("x", "the disk"), EnqueueRejected("x", "full")])
def test_s14_a_file_whose_jobs_may_not_be_stored_is_no_success(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, error: AdapterError
) -> None:
    """S14: which jobs they are is said, and the command ends with 1."""
    kessel.write("jobs.jsonl", '{"type": "x"}\n{"type": "y"}\n')
    monkeypatch.setattr(SqliteAdapter, "enqueue_many", lambda self, messages: [None, error])
    done = kessel("request", "--from", "jobs.jsonl")
    assert (done.code, done.out) == (1, "")
    assert f"1 stored, {int('full' in str(error))} not stored" in done.err
    assert str(error) in done.err


@pytest.fixture
def small_batches(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of seven lines, of which two are requested at once."""
    kessel.write("jobs.jsonl", "\n".join(json.dumps({"type": "x", "id": f"job-{n}"}) for n in range(7)))
    monkeypatch.setattr("kessel_core.cli.request.BATCH", 2)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    ("error", "key"), [(EnqueueUnknown("job-3", "x"), "unknown"), (EnqueueRejected("job-3", "x"), "rejected")]
)
def test_s14_every_line_of_a_file_is_accounted_for_where_a_later_batch_fails(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, error: AdapterError, key: str
) -> None:
    """S14: what earlier batches have stored, what failed, and what was never attempted; also as JSON."""
    outcomes = [[None, IdHeld("job-1", "ready")], [None, error]] * 2
    monkeypatch.setattr(SqliteAdapter, "enqueue_many", lambda self, messages: outcomes.pop(0))
    done = kessel("request", "--from", "jobs.jsonl", "--json")
    assert done.code == 1
    counts = {"rejected": {}, "unknown": {}, key: {"job-3": str(error)}, "not_attempted": 3}
    assert done.json == {"requested": 2, "ids": ["job-0", "job-2"], "held": {"job-1": "ready"}} | counts
    done = kessel("request", "--from", "jobs.jsonl")
    assert (done.code, done.out) == (1, "")
    failed = f"{int(key == 'rejected')} not stored, {int(key == 'unknown')} unknown"
    assert f"error: 2 stored, {failed}, 1 held already, 3 not attempted\n" in done.err
    assert f"error: {error}\n" in done.err


def test_s14_lines_with_one_id_are_accounted_for_one_by_one(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kessel.write("jobs.jsonl", "\n".join(json.dumps({"type": "x", "id": one}) for one in "aaab"))
    outcomes = [None, IdHeld("a", "ready"), IdHeld("a", "ready"), EnqueueUnknown("b", "x")]
    monkeypatch.setattr(SqliteAdapter, "enqueue_many", lambda self, messages: outcomes)
    done = kessel("request", "--from", "jobs.jsonl")
    assert "error: 1 stored, 0 not stored, 1 unknown, 2 held already, 0 not attempted\n" in done.err


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize(
    ("error", "code"), [(InvalidRequest([Problem(("$",), "too large")]), 1), (KeyboardInterrupt(), 130)]
)
def test_s14_what_is_stored_of_a_file_is_told_where_a_later_batch_cannot_be_requested(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    request_many, calls = JobManager.request_many, iter(range(9))

    def request(manager: JobManager, requests: Any) -> Any:
        if next(calls):
            raise error
        return request_many(manager, requests)

    monkeypatch.setattr(JobManager, "request_many", request)
    done = kessel("request", "--from", "jobs.jsonl", "--json")
    assert (done.code, done.json["ids"], done.json["not_attempted"]) == (code, ["job-0", "job-1"], 5)
    assert (
        "error: 2 stored, 0 not stored, 0 unknown, 0 held already, 5 not attempted; of the next 2" in done.err
    )
    assert total(kessel) == 2


@pytest.fixture
def japan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A zone that is ahead of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("japan")
def test_a_moment_that_has_no_local_time_is_told_as_it_is(kessel: Any) -> None:
    """The job is stored by then."""
    out = kessel.ok("request", "x", "--delay", "9999-12-31T23:59:59Z").out
    assert "not before 9999-12-31 23:59:59+0000" in out
    assert (
        "not before 2999-01-01 09:00:00+0900" in kessel.ok("request", "x", "--delay", "2999-01-01T00:00Z").out
    )


def test_a_wait_whose_time_is_over_tells_programs_which_job_it_was(kessel: Any) -> None:
    done = kessel("request", "x", "--wait", "10ms", "--json")
    assert done.code == 1
    assert (done.json["status"], done.json["state"]) == ("pending", "ready")
    assert kessel.ok("peek", "default", "--json").json[0]["id"] == done.json["id"]

"""One flat JSON object, and back: S2, S13, S16."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kessel_core import DecodeError, InvalidRequest, Job, JobRequest, JobResult, Reason, Status
from kessel_core.errors import MOST_PROBLEMS
from kessel_core.model.checks import job_from
from kessel_core.model.outcome import Outcome
from kessel_core.testing import VirtualClock
from kessel_core.testing.strategies import job_requests
from kessel_core.wire.requests import decode, encode, iso
from kessel_core.wire.results import decode_outcome, encode_outcome

CLOCK = VirtualClock()
NOW = CLOCK.now()


def test_s16_a_time_of_another_zone_is_written_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    moment = datetime(2026, 3, 1, 12, 30, tzinfo=zone)
    assert iso(moment) == "2026-03-01T10:30:00Z"
    again = decode(encode(Job(type="a", id="i", not_before=moment, expires_at=moment)))
    assert (again.not_before, again.expires_at) == (moment, moment)


@given(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)), st.integers(-1439, 1439))
@example(datetime(7, 1, 2), 0)
def test_s16_times_are_written_as_isoformat_writes_them(local: datetime, minutes: int) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=minutes)) if minutes else UTC)
    assert iso(moment) == moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@given(job_requests())
def test_s16_decoding_what_was_encoded_gives_an_equal_request(wish: JobRequest) -> None:
    request = job_from(wish, NOW)
    if not isinstance(request.callback, str):
        request = attrs.evolve(request, callback=None)
    assert decode(encode(request)) == request


@given(job_requests())
def test_a_body_is_one_flat_object_of_json_for_every_reader(wish: JobRequest) -> None:
    fields = json.loads(encode(job_from(wish, NOW)))
    assert fields["v"] == 1
    assert fields["payload"] == wish.payload


def test_times_are_written_in_utc_with_z() -> None:
    request = job_from(JobRequest(type="a", delay=datetime(2999, 1, 2, 3, 4, 5, 678000, UTC)), NOW)
    assert json.loads(encode(request))["delay"] == "2999-01-02T03:04:05.678000Z"


def test_what_other_languages_write_is_read_with_defaults() -> None:
    body = b'{"type": " mail ", "payload": {"a": 1}, "delay": "2026-01-02T03:04:05.678Z", "priority": null}'
    request = decode(body)
    assert (request.type, request.payload, request.priority) == ("mail", {"a": 1}, 65536)
    assert request.not_before == datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    assert (request.id, request.queue, dict(request.headers)) == ("", "default", {})


def test_a_type_alone_is_a_request() -> None:
    assert decode(b'{"type": "a"}') == Job(type="a")


def test_s16_a_queue_without_a_name_is_the_default_one() -> None:
    assert decode(b'{"type": "a", "queue": ""}') == Job(type="a")


def test_s16_a_place_that_is_wrong_for_its_key_and_for_the_model_is_told_once() -> None:
    """The reader of its key says so, and the checks of the model look at what could be read."""
    with pytest.raises(DecodeError) as caught:
        decode(b'{"type": " ", "queue": 5, "ref": 1, "id": 4, "headers": [1]}')
    assert [p.path for p in caught.value.problems] == ["$.type", "$.queue", "$.ref", "$.id", "$.headers"]


def test_unknown_keys_are_kept() -> None:
    request = decode(b'{"type": "a", "colour": ["red"]}')
    assert request.extra == {"colour": ["red"]}
    assert decode(encode(request)).extra == request.extra


def test_s3_a_priority_out_of_range_is_brought_into_it() -> None:
    assert decode(b'{"type": "a", "priority": -1}').priority == 0


@pytest.mark.parametrize(
    ("body", "path", "says"),
    [
        (b"", "$", "empty"),
        (b"\xff", "$", "UTF-8"),
        (b"{", "$", "not JSON"),
        (b'{"type":', "$", "not JSON: Expecting value: line 1 column 9"),
        (b'{"type":"a"}{"type":"b"}', "$", "not JSON: Extra data: line 1 column 13"),
        (b'{"type":"a"} x', "$", "not JSON: Extra data: line 1 column 14"),
        (b"[1]", "$", "object"),
        (b"[" * 100_000, "$", "deep"),
        (b'{"type": "a", "type": "b"}', "$", "twice"),
        (b'{"type": "a", "payload": NaN}', "$", "NaN"),
        (b'{"type": "a", "payload": 1e999}', "$", "range"),
        (b"{}", "$.type", "missing"),
        (b'{"type": " "}', "$.type", "blank"),
        (b'{"type": "a", "v": 2}', "$.v", "newer"),
        (b'{"type": "a", "v": true}', "$.v", "expected 1"),
        (b'{"type": "a", "priority": "high"}', "$.priority", "whole"),
        (b'{"type": "a", "priority": true}', "$.priority", "whole"),
        (b'{"type": "a", "priority": 1.0}', "$.priority", "whole"),
        (b'{"type": "a", "callback": ":x"}', "$.callback", "scheme:target"),
        (b'{"type": "a", "delay": 5}', "$.delay", "ISO-8601"),
        (b'{"type": "a", "expiration": "2026-01-01T00:00:00"}', "$.expiration", "zone"),
        (b'{"type": "a", "ref": 1}', "$.ref", "text"),
        (b'{"type": "a", "headers": [1]}', "$.headers", "mapping"),
        (b'{"type": "a", "queue": "-"}', "$.queue", "1 to 200"),
        (b'{"type": "a", "payload": "\\ud800"}', "$.payload", "surrogate"),
        (b'{"type": "a", "payload": "\\uD8FF"}', "$.payload", "surrogate"),
        (b'{"type": "a", "payload": "\\udc00"}', "$.payload", "surrogate"),
        (b'{"type": "a", "payload": "\\uDFFF"}', "$.payload", "surrogate"),
        (b'{"type": "a", "delay": "0001-01-01T00:00:00+14:00"}', "$.delay", "ISO-8601"),
        (b'{"type": "a", "expiration": "9999-12-31T23:59:59-12:00"}', "$.expiration", "ISO-8601"),
        (b'{"type": "a", "payload": ' + b"[" * 101 + b"]" * 101 + b"}", "$.payload" + "[0]" * 100, "deep"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else len(value),
)
def test_s13_a_body_that_is_no_request_is_refused_with_path_and_bytes(
    body: bytes, path: str, says: str
) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(body)
    assert caught.value.body is body
    (problem,) = caught.value.problems
    assert problem.path == path
    assert says in problem.message


def test_every_problem_of_a_body_is_listed() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(b'{"v": 9, "priority": [], "delay": "soon", "id": 4}')
    assert [p.path for p in caught.value.problems] == ["$.v", "$.priority", "$.delay", "$.id", "$.type"]


def test_s16_problems_of_a_body_are_found_in_time_linear_in_their_number() -> None:
    """Each place is told once, whoever finds it: the reader of a key or the checks of the model."""
    headers = {f"h{number}": number for number in range(20_000)}
    with pytest.raises(DecodeError) as caught:
        decode(json.dumps({"type": "a", "priority": "x", "headers": headers}).encode())
    *kept, rest = caught.value.problems
    assert len(kept) == len({problem.where for problem in kept}) == MOST_PROBLEMS
    assert str(rest) == "... and 19,901 more"


@pytest.mark.parametrize("payload", [{1, 2}, float("nan"), "\ud800"])
def test_an_unchecked_request_that_does_not_fit_is_refused_with_its_path(payload: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode(Job(type="a", payload=payload))
    assert caught.value.problems[0].path == "$.payload"


def test_a_function_as_callback_stays_in_its_process() -> None:
    assert b"callback" not in encode(job_from(JobRequest(type="a", callback=print), NOW))


def test_a_result_is_written_and_read_as_json() -> None:
    now = CLOCK.now()
    request = job_from(JobRequest(type="a", ref="r"), NOW)
    result = JobResult(
        id=request.id, request=request, status=Status.FAILED, reason=Reason.ERROR, started_at=now
    )
    fields = json.loads(encode_outcome(Outcome.of(result)))
    assert (fields["type"], fields["ref"], fields["reason"], fields["status"]) == (
        "a",
        "r",
        "error",
        "failed",
    )
    assert fields["finished_at"] is None
    nobody = JobResult(id="", request=None, status=Status.SUCCESS, value=[1], finished_at=now)
    assert decode_outcome(encode_outcome(Outcome.of(nobody))).value == [1]


def test_a_stored_result_that_is_no_object_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode_outcome(b"[]")


@pytest.mark.parametrize(
    "mistakes",
    [
        lambda n: {"headers": {f"h{k}": k for k in range(n)}},
        lambda n: {"headers": {f"\ud800{k}": "v" for k in range(n)}},
        lambda n: {"payload": ["\ud800"] * n},
        lambda n: {"payload": {f"\ud800{k}": 1 for k in range(n)}},
        lambda n: {f"\ud800{k}": 1 for k in range(n)},
    ],
    ids=["header values", "header names", "texts", "keys", "unknown keys"],
)
def test_finding_d5_decoding_is_linear_in_the_number_of_mistakes(mistakes: Any) -> None:
    """By calls of functions, Python's and C's; it took minutes for 100,000 wrong headers."""

    def calls(n: int) -> int:
        body = json.dumps({"type": "a", **mistakes(n)}).encode()
        count = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(profile)
        try:
            with pytest.raises(DecodeError):
                decode(body)
        finally:
            sys.setprofile(None)
        return count

    few = calls(500)
    assert calls(2_000) < 4.5 * few

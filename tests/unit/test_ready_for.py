"""How long the next job has been ready, from what an adapter can show of it (S9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kessel_core import Job
from kessel_core.contract import JobState, QueueStats, StoredJob, ready_for
from kessel_core.wire.requests import encode

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def stored(
    body: bytes, *, enqueued: datetime | None = NOW - 3 * HOUR, due: datetime | None = None
) -> StoredJob:
    return StoredJob(id="x", queue="default", state=JobState.READY, body=body, enqueued_at=enqueued, due=due)


def body(delay: timedelta | None = None) -> bytes:
    return encode(Job(type="a", id="x", not_before=None if delay is None else NOW - 3 * HOUR + delay))


def test_s9_a_job_is_ready_since_it_was_stored() -> None:
    assert ready_for(stored(body()), NOW) == 3 * HOUR


def test_s9_a_delayed_one_since_its_delay_was_over() -> None:
    assert ready_for(stored(body(delay=HOUR)), NOW) == 2 * HOUR
    assert ready_for(stored(body(), due=NOW - HOUR), NOW) == HOUR
    assert ready_for(stored(body(delay=HOUR), due=NOW - HOUR), NOW) == HOUR


def test_s9_one_that_cannot_be_read_counts_from_when_it_was_stored() -> None:
    assert ready_for(stored(b"no json"), NOW) == 3 * HOUR


@pytest.mark.parametrize("job", [None, stored(b"{}", enqueued=None)], ids=["none", "stored by others"])
def test_s9_what_is_not_known_is_none(job: StoredJob | None) -> None:
    assert ready_for(job, NOW) is None


def test_s9_clocks_that_differ_make_no_job_younger_than_new() -> None:
    assert ready_for(stored(body()), NOW - 10 * HOUR) == timedelta(0)


def test_s9_two_counts_are_equal_however_old_the_jobs_are() -> None:
    old, older = (QueueStats(queue="q", ready=1, oldest_ready=hours * HOUR) for hours in (1, 2))
    assert old == older

"""S23: the times of the standard, with jitter, and what an endpoint may ask for."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kessel_http.schedule import ATTEMPTS, asked_pause, pause_after

NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
STANDARD = [
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(hours * HOUR for hours in (2, 5, 10, 14, 20, 24)),
]


def test_s23_the_pauses_are_those_of_the_standard() -> None:
    assert [pause_after(attempt, lambda: 0.5) for attempt in range(1, ATTEMPTS)] == STANDARD
    assert sum(STANDARD, timedelta(0)) == timedelta(hours=75, minutes=35, seconds=5)
    assert pause_after(11, lambda: 0.5) == STANDARD[-1]


@pytest.mark.parametrize("attempt", range(1, ATTEMPTS))
def test_s23_a_pause_is_shorter_or_longer_by_up_to_a_fifth(attempt: int) -> None:
    middle = STANDARD[attempt - 1]
    assert pause_after(attempt, lambda: 0.0) == 0.8 * middle
    assert 1.199 * middle < pause_after(attempt, lambda: 0.999999) < 1.2 * middle


@given(st.integers(1, 9), st.floats(0, 1, exclude_max=True), st.timedeltas(timedelta(0), 100 * HOUR))
def test_s23_a_longer_pause_is_kept_if_it_is_asked_for_up_to_a_day(
    attempt: int, drawn: float, asked: timedelta
) -> None:
    own = pause_after(attempt, lambda: drawn)
    assert pause_after(attempt, lambda: drawn, asked) == max(own, min(asked, 24 * HOUR))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("999999999", 999_999_999),
        ("0" * 5000 + "120", 120),
        ("Mon, 05 Jan 2026 09:02:00 GMT", 120),
        ("Mon, 05 Jan 2026 10:02:00 +0100", 120),
        ("Mon, 05 Jan 2026 09:02:00 -0000", 120),
        ("Monday, 05-Jan-26 09:02:00 GMT", 120),
        ("Mon, 05 Jan 2026 08:00:00 GMT", 0),
        (
            "Fri, 31 Dec 9999 23:59:59 GMT",
            (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - NOW).total_seconds(),
        ),
    ],
)
def test_s23_retry_after_is_read_as_seconds_and_as_a_date(header: str, seconds: float) -> None:
    assert asked_pause(header, NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize("header", ["9999999999", "1" * 11, "9" * 5000])
def test_s23_a_number_of_any_length_asks_for_the_longest_pause(header: str) -> None:
    assert pause_after(1, lambda: 0.5, asked_pause(header, NOW)) == 24 * HOUR


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "soon", "-5", "1.5", "1e3", "+5", "0x10", "\u0661"),
        *("Mon, 05 Jan 99999 09:02:00 GMT", "Mon, 32 Jan 2026 09:02:00 GMT"),
    ],
)
def test_s23_retry_after_that_cannot_be_read_asks_for_nothing(header: str | None) -> None:
    assert asked_pause(header, NOW) is None


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process is its system's")
def test_s23_a_date_whose_zone_is_not_known_is_read_as_utc_wherever_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX+5")
        time.tzset()
        pause = asked_pause("Mon, 05 Jan 2026 09:02:00 -0000", NOW)
    time.tzset()
    assert pause == timedelta(seconds=120)


@given(st.text(max_size=40))
def test_s23_any_retry_after_is_read_or_asks_for_nothing(header: str) -> None:
    pause = asked_pause(header, NOW)
    assert pause is None or pause >= timedelta(0)

"""Moments and spans as `kessel explain`, `kessel top` and others show them (S39)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kessel_core.values.moments import span_text, when


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=119.9), "119 s"),
        (timedelta(minutes=2), "2 min"),
        (timedelta(minutes=2, seconds=59), "2 min"),
        (timedelta(minutes=119, seconds=59), "119 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(hours=47, minutes=59), "47 h"),
        (timedelta(days=2), "2 days"),
        (timedelta(days=12_345), "12,345 days"),
    ],
)
def test_a_span_is_told_in_the_largest_unit_of_which_it_has_two(span: timedelta, text: str) -> None:
    assert span_text(span) == text


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
def test_a_moment_at_the_end_of_the_calendar_can_be_told(moment: datetime) -> None:
    """S16: a body of other software may hold any; some of these have no local time."""
    assert when(moment.replace(tzinfo=UTC))[-5:-4] in ("+", "-")

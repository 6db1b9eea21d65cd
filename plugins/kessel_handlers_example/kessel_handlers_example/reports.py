"""`report.derive`: a report from raw metric data in CSV.

Reads a table of daily observations, groups it by place and by year or month, and returns for one
metric the count, mean, extremes and quantiles. Custom data are part of the payload, and never a file
name: whoever may enqueue a job must not choose which files a worker reads.
"""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Iterator
from datetime import date
from enum import StrEnum

import attrs

from kessel_core import Fatal, JsonValue, handler
from kessel_handlers_example.tables import shipped

__all__ = ["Period", "ReportOrder", "derive_report"]

#: How many characters of an ISO date identify the period.
_DIGITS = {"year": 4, "month": 7}


class Period(StrEnum):
    """The time that a row of the report covers."""

    YEAR = "year"
    MONTH = "month"


@attrs.frozen
class ReportOrder:
    """The payload."""

    #: The column to evaluate; it must hold numbers.
    metric: str = "temp_max"
    #: How to group the observations.
    by: Period = Period.YEAR
    #: Only this place; None: all places.
    location: str | None = None
    #: CSV text with columns `location`, `date` (ISO) and the metric; None: the weather data shipped here.
    raw: str | None = None


@handler("report.derive", max_attempts=3)
def derive_report(order: ReportOrder) -> JsonValue:
    """Return the report: one row for each place and period, sorted.

    Raises:
        Fatal: The data are not valid, or there are none for this order.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for place, day, value in _observations(order):
        groups.setdefault((place, day[: _DIGITS[order.by]]), []).append(value)
    if not groups:
        raise Fatal(f"no observations of {order.metric!r} at {order.location or 'any place'}")
    return {
        "metric": order.metric,
        "by": str(order.by),
        "observations": sum(map(len, groups.values())),
        "rows": [_row(place, period, values) for (place, period), values in sorted(groups.items())],
    }


def _observations(order: ReportOrder) -> Iterator[tuple[str, str, float]]:
    for line, row in enumerate(_rows(order.raw), start=2):
        missing = [column for column in ("location", "date", order.metric) if row.get(column) is None]
        if missing:
            raise Fatal(f"line {line} has no column {', '.join(missing)}")
        if order.location is not None and row["location"] != order.location:
            continue
        yield row["location"], _date(row["date"], line), _number(row[order.metric], order.metric, line)


def _rows(raw: str | None) -> Iterable[dict[str, str]]:
    if raw is None:
        return shipped("weather.csv")
    try:
        return list(csv.DictReader(raw.splitlines()))
    except csv.Error as exc:
        raise Fatal(f"the raw data are not CSV: {exc}") from exc


def _date(text: str, line: int) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise Fatal(f"line {line}: date is {text!r:.40}, expected as in 2026-01-31") from None


def _number(text: str, metric: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Fatal(f"line {line}: {metric} is {text!r:.40}, not a number")
    return value


def _row(place: str, period: str, values: list[float]) -> JsonValue:
    twentieths = statistics.quantiles(values, n=20, method="inclusive") if len(values) > 1 else values * 19
    return {
        "location": place,
        "period": period,
        "count": len(values),
        "mean": round(statistics.fmean(values), 2),
        "lowest": min(values),
        "median": statistics.median(values),
        "p95": round(twentieths[18], 2),
        "highest": max(values),
    }

"""`report.derive`: a derived report from raw metric data in CSV.

Reads a table of daily observations, groups it by place and by year or month, and returns for one
metric its count, mean, extremes and quantiles.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path

import attrs

from kessel_core.errors import Fatal
from kessel_core.handlers import handler
from kessel_core.jobs import JsonValue
from kessel_handlers_example.tables import shipped

__all__ = ["Period", "ReportOrder", "derive_report"]

#: Length of the part of an ISO date that names the period.
_DIGITS = {"year": 4, "month": 7}


class Period(StrEnum):
    """What a row of the report covers."""

    YEAR = "year"
    MONTH = "month"


@attrs.frozen
class ReportOrder:
    """The payload."""

    #: A column of numbers.
    metric: str = "temp_max"
    by: Period = Period.YEAR
    #: One place; None: every place.
    location: str | None = None
    #: A CSV file with the columns `location`, `date` and the metric; None: the weather data that ships here.
    source: str | None = None


@handler("report.derive", transient=(BlockingIOError,), max_attempts=3)
def derive_report(order: ReportOrder) -> JsonValue:
    """Return the report: one row for each place and period, sorted."""
    groups: dict[tuple[str, str], list[float]] = {}
    for place, date, value in _observations(order):
        groups.setdefault((place, date[: _DIGITS[order.by]]), []).append(value)
    if not groups:
        raise Fatal(f"no observations of {order.metric!r} at {order.location or 'any place'}")
    return {
        "metric": order.metric,
        "by": str(order.by),
        "observations": sum(map(len, groups.values())),
        "rows": [_row(place, period, values) for (place, period), values in sorted(groups.items())],
    }


def _observations(order: ReportOrder) -> Iterator[tuple[str, str, float]]:
    for line, row in enumerate(_rows(order.source), start=2):
        missing = [column for column in ("location", "date", order.metric) if row.get(column) is None]
        if missing:
            raise Fatal(f"line {line} has no column {', '.join(missing)}")
        if order.location is not None and row["location"] != order.location:
            continue
        try:
            yield row["location"], row["date"], float(row[order.metric])
        except ValueError:
            raise Fatal(f"line {line}: {order.metric} is {row[order.metric]!r:.40}, not a number") from None


def _rows(source: str | None) -> Iterable[dict[str, str]]:
    if source is None:
        return shipped("weather.csv")
    try:
        return list(csv.DictReader(Path(source).read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as exc:
        if isinstance(exc, BlockingIOError):
            raise
        raise Fatal(f"{source} cannot be read: {exc}") from exc


def _row(place: str, period: str, values: list[float]) -> JsonValue:
    quartiles = statistics.quantiles(values, n=20, method="inclusive") if len(values) > 1 else values * 19
    return {
        "location": place,
        "period": period,
        "count": len(values),
        "mean": round(statistics.fmean(values), 2),
        "lowest": min(values),
        "median": statistics.median(values),
        "p95": round(quartiles[18], 2),
        "highest": max(values),
    }

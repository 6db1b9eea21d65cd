"""The tables of the parts: which columns each has, what stands in a cell, and a row shown whole. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from kessel_core.cli.output import preview
from kessel_core.cli.queues import pause_text
from kessel_core.cli.top.columns import Cell, Column, fitted
from kessel_core.cli.top.keys import Pane, Row, View, chosen_row, part_of
from kessel_core.features.overview import (
    BurialView,
    Overview,
    Part,
    QueueView,
    RunningView,
    Standing,
    WorkerView,
)
from kessel_core.values.moments import span_text, when

__all__ = ["noted", "shown", "table_of", "whole"]

_UNDECODABLE: Final = "(undecodable)"
#: In the order in which they stand; the first one has the name of the part.
_COLUMNS: Final = {
    Pane.QUEUES: (
        Column("", 0, 8), Column("ready", 1, is_right=True), Column("delayed", 6, is_right=True),
        Column("reserved", 5, is_right=True), Column("buried", 2, is_right=True),
        Column("oldest", 3, is_right=True), Column("change", 7, is_right=True),
        Column("workers", 8, is_right=True, is_optional=True), Column("paused", 4, is_optional=True),
    ),
    Pane.RUNNING: (
        Column("", 3, is_right=True), Column("queue", 4, 6), Column("type", 0, 8), Column("progress", 1, 20),
        Column("worker", 5, 8), Column("id", 6),
    ),
    Pane.BURIALS: (
        Column("", 2, is_right=True), Column("queue", 3, 6), Column("type", 1, 8), Column("reason", 0, 6),
        Column("message", 4, 16), Column("id", 5), Column("ref", 6, 4, is_optional=True),
    ),
    Pane.WORKERS: (
        Column("", 0, 8), Column("state", 1, 15), Column("busy", 2, is_right=True),
        Column("rate", 4, is_right=True), Column("queues", 3, 16), Column("seen", 5, is_right=True),
        Column("started", 7, is_right=True), Column("version", 8), Column("types", 6, 20),
    ),
}  # fmt: skip
_STYLES: Final = {
    Standing.SILENT: "red",
    Standing.DISCONNECTED: "red",
    Standing.STOPPING: "yellow",
    Standing.BUSY: "green",
    Standing.LIVE: "green",
}


def table_of(
    overview: Overview, pane: Pane, rows: Sequence[Row], title: str, width: int
) -> list[list[tuple[str, str]]]:
    """Return lines of text and style: the titles, of which the first is the given one, then the rows."""
    if not rows:
        return [[(title, "")]]
    first, *others = _COLUMNS[pane]
    columns = (Column(title, first.rank, first.least, first.is_right), *others)
    return fitted(columns, [_cells(row, overview.at) for row in rows], width)


def noted(part: Part[Row]) -> Iterator[str]:
    """Yield what must be said beside the rows."""
    if part.away is not None:
        yield f"not seen since {part.away.since.astimezone():%H:%M:%S}: {preview(part.away.why)}"
    yield from map(preview, part.missing)


# --- cells -----------------------------------------------------------------------------------


def _cells(row: Row, now: datetime) -> list[Cell]:
    match row:
        case QueueView():
            return _queue(row)
        case RunningView():
            return _running(row, now)
        case BurialView():
            return _burial(row, now)
        case WorkerView():
            return _worker(row, now)


def _queue(row: QueueView) -> list[Cell]:
    stats = row.stats
    is_unserved = row.workers == 0 and stats.ready > 0
    return [
        Cell(preview(stats.queue)),
        Cell(f"{stats.ready:,}"),
        Cell(f"{stats.delayed:,}"),
        Cell(f"{stats.reserved:,}"),
        Cell(f"{stats.buried:,}", "red" if stats.buried else ""),
        Cell(_span(stats.oldest_ready)),
        Cell(_rate(row.change, "+")),
        Cell("" if row.workers is None else f"{row.workers:,}", "red" if is_unserved else ""),
        Cell("" if stats.paused is None else pause_text(stats.paused), "yellow"),
    ]


def _running(row: RunningView, now: datetime) -> list[Cell]:
    worker = f"{row.worker.host}:{row.worker.pid}" + (" silent" if row.is_silent else "")
    return [
        Cell(_span(now - row.job.since)),
        Cell(preview(row.job.queue)),
        Cell(preview(row.job.type or _UNDECODABLE)),
        Cell(preview("" if row.progress is None else str(row.progress))),
        Cell(preview(worker), "red" if row.is_silent else ""),
        Cell(preview(row.job.id)),
    ]


def _burial(row: BurialView, now: datetime) -> list[Cell]:
    at = row.job.buried_at
    return [
        Cell("" if at is None else f"{_span(now - at)} ago"),
        Cell(preview(row.job.queue)),
        Cell(preview(row.type or _UNDECODABLE)),
        Cell(preview(row.job.reason), "red"),
        Cell(preview((row.job.message or "").partition("\n")[0])),
        Cell(preview(row.job.id)),
        Cell(preview(row.ref)),
    ]


def _worker(row: WorkerView, now: datetime) -> list[Cell]:
    entry = row.entry
    return [
        Cell(preview(f"{entry.host}:{entry.pid}")),
        Cell(_state(row, now), _STYLES[row.standing]),
        Cell(f"{entry.busy:,}/{entry.slots:,}"),
        Cell(_rate(row.rate)),
        Cell(preview(", ".join(entry.queues))),
        Cell(f"{_span(now - entry.seen_at)} ago"),
        Cell(f"{_span(now - entry.started_at)} ago"),
        Cell(preview(entry.version)),
        Cell(preview(", ".join(entry.types))),
    ]


def _state(row: WorkerView, now: datetime) -> str:
    match row.standing:
        case Standing.SILENT:
            return f"silent for {_span(now - row.entry.seen_at)}"
        case Standing.DISCONNECTED:
            return f"disconnected: {row.entry.disconnected:,} of {row.entry.slots:,} slots"
    return str(row.standing)


def _span(span: timedelta | None) -> str:
    return "" if span is None else span_text(max(span, timedelta(0)))


def _rate(rate: float | None, sign: str = "") -> str:
    """Write how many a minute."""
    if rate is None:
        return ""
    if rate == 0:
        return "0/min"
    return f"{rate:{sign},.0f}/min" if abs(rate) >= 10 else f"{rate:{sign}.1f}/min"


# --- one row ---------------------------------------------------------------------------------


def shown(row: Row) -> tuple[str, str]:
    """Return what a row is, and its whole id or name."""
    match row:
        case QueueView():
            return "queue", preview(row.stats.queue)
        case RunningView():
            return "job", preview(row.job.id or "without an id")
        case BurialView():
            return "job", preview(row.job.id)
        case WorkerView():
            return "worker", preview(row.entry.id)


def whole(view: View, overview: Overview) -> Iterator[str]:
    """Yield the chosen row in lines, nothing of it cut; and what its part cannot show."""
    row, now = chosen_row(view, overview), overview.at
    if row is not None:
        for name, value in _fields(row, now):
            for number, line in enumerate(value.splitlines() or [""]):
                if value:
                    yield f"{name + ':' if not number else '':<10}{preview(line, 20_000)}"
    for note in noted(part_of(overview, view.pane)):
        yield ""
        yield note


def _fields(row: Row, now: datetime) -> Iterator[tuple[str, str]]:
    match row:
        case RunningView():
            yield "id", row.job.id or ""
            yield "since", when(row.job.since)
            yield "on", row.worker.id
        case BurialView():
            job = row.job
            yield "id", job.id
            yield "attempt", str(job.attempt or "")
            yield "buried", "" if job.buried_at is None else when(job.buried_at)
            yield "enqueued", "" if job.enqueued_at is None else when(job.enqueued_at)
            yield "priority", "" if job.priority is None else str(job.priority)
        case WorkerView():
            yield "id", row.entry.id
    titles = [column.title for column in _COLUMNS[_pane_of(row)]]
    for title, cell in zip(titles, _cells(row, now), strict=True):
        if title not in ("", "id", "message"):
            yield title, cell.text
    if isinstance(row, QueueView):
        yield "queue", row.stats.queue
    if isinstance(row, BurialView):
        yield "message", row.job.message or ""


def _pane_of(row: Row) -> Pane:
    match row:
        case QueueView():
            return Pane.QUEUES
        case RunningView():
            return Pane.RUNNING
        case BurialView():
            return Pane.BURIALS
        case WorkerView():
            return Pane.WORKERS

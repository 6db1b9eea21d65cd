"""The summary of `kessel buried`: how many jobs of each kind, since when, and what to type next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import attrs
import click

from kessel_core.cli.app import say, say_as_is
from kessel_core.cli.jobs import type_of
from kessel_core.cli.next_command import next_command
from kessel_core.cli.output import Wrong, ago, emit, iso, jobs_text, preview, table

if TYPE_CHECKING:
    from kessel_core.cli.app import App
    from kessel_core.contract.operations import StoredJob

__all__ = ["print_causes"]

#: Kinds that are shown; an operator begins with the largest.
_MOST: Final = 20
#: What differs between messages of one cause: numbers, ids, hexadecimal addresses.
_VARIES: Final = re.compile(r"\b(?=[0-9a-f-]*\d)[0-9a-f-]{8,}\b|\d+(?:[.,]\d+)*", re.IGNORECASE)


@attrs.define
class _Cause:
    """Buried jobs of one queue, type, reason and message."""

    queue: str
    type: str
    reason: str
    #: The first line of the message, with `#` for what varies.
    message: str
    count: int = 0
    #: A job of it, to look at: the latest.
    example: str = ""
    oldest: datetime | None = None
    newest: datetime | None = None

    def add(self, job: StoredJob) -> None:
        self.count += 1
        at = job.buried_at
        if self.newest is None or at is None or at >= self.newest:
            self.example = job.id
        if at is not None:
            self.oldest = at if self.oldest is None else min(self.oldest, at)
            self.newest = at if self.newest is None else max(self.newest, at)


def _causes(jobs: Iterable[StoredJob]) -> list[_Cause]:
    """Group buried jobs by cause, the largest group first."""
    found: dict[tuple[str, str, str, str], _Cause] = {}
    for job in jobs:
        message = _VARIES.sub("#", (job.message or "").partition("\n")[0])
        key = (job.queue, type_of(job), job.reason or "", message)
        found.setdefault(key, _Cause(*key)).add(job)
    return sorted(found.values(), key=lambda cause: -cause.count)


def print_causes(app: App, queues: Sequence[str], jobs: Iterable[StoredJob], as_json: bool) -> None:
    """Print the summary."""
    causes = _causes(jobs)
    if as_json:
        emit(
            [
                attrs.asdict(cause) | {"oldest": iso(cause.oldest), "newest": iso(cause.newest)}
                for cause in causes
            ]
        )
        return
    if not causes:
        say(f"no buried job in {', '.join(queues)}")
        return
    table(
        ["#jobs", "queue", "type", "reason", "oldest", "newest", "message"],
        [
            (
                cause.count,
                cause.queue,
                preview(cause.type, 60),
                Wrong(cause.reason),
                ago(cause.oldest),
                ago(cause.newest),
                preview(cause.message, 80),
            )
            for cause in causes[:_MOST]
        ],
    )
    if len(causes) > _MOST:
        rest = sum(cause.count for cause in causes[_MOST:])
        click.echo(f"and {jobs_text(rest)} of {len(causes) - _MOST:,} more kinds; --json shows all")
    click.echo()
    for text, command in _next(app, causes):
        say_as_is(f"{text + ':':<18}{command}")


def _next(app: App, causes: Sequence[_Cause]) -> list[tuple[str, str]]:
    """Return the commands for the largest group, as they must be typed here."""
    cause = causes[0]
    is_only_one = app.config.queues == (cause.queue,) and not app.given("queues")
    queue = [] if is_only_one else ["--queue", cause.queue]
    kind = ["--type", cause.type, *(["--reason", cause.reason] if cause.reason else [])]
    # Without a reason those of every reason are meant, too.
    others = [
        other
        for other in causes[1:]
        if (other.queue, other.type) == (cause.queue, cause.type) and cause.reason in ("", other.reason)
    ]
    text = _only_in(cause, others)
    if others and text:
        kind += ["--message", text]

    def line(*words: str, ids: Sequence[str] = ()) -> str:
        return next_command(app, ["buried", *words], ids, queue)

    look = ("look at one", line("show", ids=[cause.example]))
    if others and not text:  # nothing that can be typed means these and no others
        return [look]
    return [
        look,
        ("kick ten", line("kick", *kind, "--limit", "10")),
        ("kick the rest", line("kick", *kind)),
        ("remove them", line("delete", *kind)),
    ]


def _only_in(cause: _Cause, others: Sequence[_Cause]) -> str:
    """Return the longest part of a message that no other one has, as it is typed; empty: there is none."""
    parts = (part.strip() for part in cause.message.split("#"))
    found = (one for one in parts if one.isprintable() and not any(one in other.message for other in others))
    return max(found, key=len, default="")

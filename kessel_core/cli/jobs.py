"""Stored jobs as the commands show them, and how one is found by its id or by what it holds.

Looks only; what is done with a job is for the commands, and what they tell of it is alike.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import click

from kessel_core.cli.app import say, sigterm_as_ctrl_c
from kessel_core.cli.output import body_value, emit, iso, preview
from kessel_core.errors import KesselError
from kessel_core.features.finding import ALL, decoded, is_start
from kessel_core.values.moments import when

if TYPE_CHECKING:
    from kessel_core.cli.app import App
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.operations import StoredJob

__all__ = [
    "Done",
    "First",
    "by_id",
    "by_ids",
    "first_line",
    "job_fields",
    "known_queues",
    "limit_option",
    "print_job",
    "ref_of",
    "say_rest",
    "type_of",
]

F = TypeVar("F", bound=Callable[..., Any])

#: Ids of jobs that may be meant, in an error.
_SHOWN: Final = 5
#: What is wrong, of a command that acts on many jobs: others may have been faster with thousands.
_SHOWN_WRONG: Final = 20


def limit_option(default: int | None, text: str) -> Callable[[F], F]:
    """Create the option `--limit`."""
    return click.option(
        "--limit",
        type=click.IntRange(1, ALL),
        default=default,
        show_default=default is not None,
        metavar="N",
        help=text,
    )


# --- one job ---------------------------------------------------------------------------------


def type_of(job: StoredJob) -> str:
    """Return its type, or `(undecodable)`."""
    request = decoded(job)
    return "(undecodable)" if request is None else request.type


def ref_of(job: StoredJob) -> str | None:
    """Return its ref, if it has one that can be read."""
    request = decoded(job)
    return None if request is None else request.ref


def first_line(text: str | None, limit: int = 80) -> str:
    """Return the start of a message for a table."""
    return preview((text or "").partition("\n")[0], limit)


def job_fields(job: StoredJob) -> dict[str, object]:
    """Return the fields of a stored job for JSON output, the most important ones first."""
    content = body_value(job.body)
    request = content if isinstance(content, dict) else {}
    fields: dict[str, object] = {
        "id": job.id,
        "queue": job.queue,
        "state": job.state.value,
        "type": request.get("type"),
        "ref": request.get("ref"),
        "payload": request.get("payload"),
    }
    fields |= attrs.asdict(job, filter=lambda field, _: field.name not in (*fields, "body", "handle"))
    fields |= {name: iso(getattr(job, name)) for name in ("enqueued_at", "due", "buried_at")}
    return fields | {"body": content}


def print_job(job: StoredJob, as_json: bool) -> None:
    """Print one job completely: its state, why it is there, and its body."""
    if as_json:
        emit(job_fields(job))
        return
    for name, value in (
        ("id", job.id),
        ("queue", job.queue),
        ("state", job.state.value),
        ("type", type_of(job)),
        ("ref", ref_of(job)),
        ("reason", job.reason),
        ("message", job.message),
        ("attempt", job.attempt),
        ("snoozes", job.snoozes or None),
        ("priority", job.priority),
        ("enqueued", job.enqueued_at),
        ("due", job.due),
        ("buried", job.buried_at),
    ):
        if value is None or value == "":
            continue
        text = when(value) if isinstance(value, datetime) else str(value)
        for number, line in enumerate(text.splitlines()):
            click.echo(f"{'' if number else name + ':':<10}{preview(line, 20_000)}")
    content = body_value(job.body)
    body = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=True)
    click.echo("body:")
    for line in body.splitlines() or [""]:
        click.echo(f"  {preview(line, 100_000)}")


# --- many jobs -------------------------------------------------------------------------------


def known_queues(app: App, adapter: QueueAdapter) -> tuple[str, ...]:
    """Return the queues to search: those of `--queue`, or the configured ones and all others that exist."""
    if app.given("queues"):
        return app.config.queues
    return tuple(dict.fromkeys([*app.config.queues, *adapter.queues()]))


def by_id(jobs: Iterable[StoredJob], text: str) -> StoredJob | None:
    """Find a job by its id, or by the start of an id if only one job has it.

    Raises:
        KesselError: The ids of several jobs start so.
    """
    found = by_ids(jobs, (text,))[text]
    if isinstance(found, KesselError):
        raise found
    return found


def by_ids(jobs: Iterable[StoredJob], texts: Iterable[str]) -> dict[str, StoredJob | KesselError | None]:
    """Find a job for each text, as `by_id`, looking at every job once and keeping none but those.

    Returns:
        For each text its job; None: there is none; an error to be told: the ids of several jobs start so.
    """
    found = {text: _Named() for text in texts}
    for job in jobs:
        for text, named in found.items():
            if job.id == text:
                named.whole = named.whole or job
            elif is_start(text, job.id):
                named.count += 1
                if len(named.begun) < _SHOWN:
                    named.begun.append(job)
    return {text: named.one(text) for text, named in found.items()}


@attrs.define
class _Named:
    """The jobs that one text may mean."""

    whole: StoredJob | None = None
    #: Some of those whose ids begin so, and how many there are.
    begun: list[StoredJob] = attrs.field(factory=list)
    count: int = 0

    def one(self, text: str) -> StoredJob | KesselError | None:
        if self.whole is not None:
            return self.whole
        if self.count > 1:
            some = ", ".join(job.id for job in self.begun[:_SHOWN]) + (", ..." if self.count > _SHOWN else "")
            return KesselError(f"the ids of {self.count:,} jobs start with {text!r}: {preview(some, 400)}")
        return self.begun[0] if self.begun else None


class First:
    """Keeps the first of many jobs, or the last ones, the last of all first; and counts them all."""

    def __init__(self, jobs: Iterable[StoredJob], limit: int, *, from_the_end: bool = False) -> None:
        self.total = 0
        last: deque[StoredJob] = deque(maxlen=limit)
        for job in jobs:
            self.total += 1
            if from_the_end or self.total <= limit:
                last.append(job)
        self.kept = [*reversed(last)] if from_the_end else [*last]


def say_rest(shown: int, total: int, as_json: bool) -> None:
    """Say at the end of a list that there is more; with JSON output on standard error."""
    if total > shown:
        click.echo(f"{shown:,} of {total:,}; --limit shows more", err=as_json)


# --- what was done -----------------------------------------------------------------------------


@attrs.define
class Done:
    """What a command did to the jobs that it means, and why not to others (S39).

    If the adapter fails in the middle, or Ctrl-C or SIGTERM comes, what was done until then is told all the
    same; then that ends the command, as it would have done at once if nothing was done.
    """

    #: Whether the ids of the jobs are kept; their number takes no memory.
    keeps_ids: bool = True
    count: int = 0
    ids: list[str] = attrs.field(factory=list)
    #: For each of the others, by its id or what was typed for it: what is wrong.
    wrong: dict[str, str] = attrs.field(factory=dict)
    _failure: KesselError | KeyboardInterrupt | None = None

    def add(self, job_id: str) -> None:
        """Count a job as done."""
        self.count += 1
        if self.keeps_ids:
            self.ids.append(job_id)

    @contextmanager
    def until_it_fails(self) -> Iterator[None]:
        """Keep what ends the block for `end`, if something was done before; enter it around all of it."""
        try:
            with sigterm_as_ctrl_c():
                yield
        except (KesselError, KeyboardInterrupt) as exc:
            if not self.count:
                raise
            self._failure = exc

    def problems(self) -> list[str]:
        """Return all that is wrong, what ended the block last."""
        ended = [] if self._failure is None else [str(self._failure) or "interrupted"]
        return [*self.wrong.values(), *ended]

    def end(self) -> None:
        """Say what is wrong; called last, when it is told what was done.

        Raises:
            KesselError: The one that ended the block.
            KeyboardInterrupt: As for an error.
            SystemExit: With 1; something else is wrong.
        """
        for text in islice(self.wrong.values(), _SHOWN_WRONG):
            say(f"error: {text}", err=True)
        if (more := len(self.wrong) - _SHOWN_WRONG) > 0:
            say(f"error: ... and {more:,} more; --json lists all", err=True)
        if self._failure is not None:
            raise self._failure
        if self.wrong:
            raise SystemExit(1)

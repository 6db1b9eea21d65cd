"""Which buried jobs a command means: by ids, or by kind, age and number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import click

from kessel_core.cli.jobs import by_ids, type_of
from kessel_core.errors import KesselError
from kessel_core.model.states import JobState
from kessel_core.values.durations import duration_text, parse_duration

if TYPE_CHECKING:
    from kessel_core.contract.operations import StoredJob

__all__ = ["Choice", "choice_options", "is_since", "since_option", "span"]

F = TypeVar("F", bound=Callable[..., Any])


def span(text: str) -> timedelta:
    """Read a span of time of an argument or option, as `90s`, `5m`, `3h` or `7d`; for click's `type`."""
    try:
        return parse_duration(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


@attrs.frozen(kw_only=True)
class Choice:
    """Which buried jobs are meant: those of some ids, or those of a kind, oldest burial first."""

    #: Ids, or starts of ids; empty: not by id.
    ids: tuple[str, ...] = ()
    #: The type of the job.
    type: str | None = None
    #: The code why it was buried.
    reason: str | None = None
    #: What its message holds.
    message: str | None = None
    #: How long ago it was buried at least.
    older_than: timedelta | None = None
    #: Whether the latest burials come first.
    newest: bool = False
    #: How many at most; None: all.
    limit: int | None = None

    def __str__(self) -> str:
        said = [
            f"{words} {value!r}"
            for words, value in (
                ("of type", self.type),
                ("of reason", self.reason),
                ("with the message", self.message),
            )
            if value is not None
        ]
        if self.older_than is not None:
            said.append(f"older than {duration_text(self.older_than)}")
        return " and ".join(said)

    def takes(self, job: StoredJob) -> bool:
        """Whether a job is of the kind."""
        if self.reason is not None and job.reason != self.reason:
            return False
        if self.message is not None and self.message not in (job.message or ""):
            return False
        if self.older_than is not None and not _is_older(job, self.older_than):
            return False
        return self.type is None or type_of(job) == self.type

    def named(self, jobs: Iterable[StoredJob]) -> tuple[list[StoredJob], dict[str, KesselError | None]]:
        """Return the jobs of the ids; and the other ids, with an error if several jobs may be meant."""
        chosen: dict[str, StoredJob] = {}
        others: dict[str, KesselError | None] = {}
        for text, job in by_ids(jobs, self.ids).items():
            if job is None or isinstance(job, KesselError):
                others[text] = job
            else:
                chosen[job.id] = job
        return list(chosen.values()), others

    def of(self, jobs: Iterable[StoredJob]) -> Iterator[StoredJob]:
        """Yield the jobs of the kind, holding none of them; only with `newest` and a limit, so many."""
        fitting = filter(self.takes, jobs)
        if self.newest and self.limit is not None:  # without a limit it is all the same
            return reversed(deque(fitting, self.limit))
        return islice(fitting, self.limit)


def _is_older(job: StoredJob, span: timedelta) -> bool:
    # A burial of unknown time is nobody's to call old.
    return job.buried_at is not None and datetime.now(UTC) - job.buried_at >= span


def is_since(job: StoredJob, span: timedelta) -> bool:
    """Whether a job was stored at most so long ago; a buried one, buried. Not if nobody knows."""
    at = job.buried_at if job.state is JobState.BURIED else job.enqueued_at
    return at is not None and datetime.now(UTC) - at <= span


def since_option(command: F) -> F:
    """Add `--since`."""
    text = "Only stored, or for buried ones buried, at most so long ago, as 1h."
    return click.option("--since", type=span, metavar="TIME", help=text)(command)


def choice_options(command: F) -> F:
    """Add the options that choose buried jobs by kind, age and end; they are fields of a `Choice`."""
    for option in (
        click.option("--newest/--oldest", default=False, help="From which end; default: --oldest."),
        click.option("--older-than", type=span, metavar="TIME", help="Only buried at least so long ago."),
        click.option("--message", metavar="TEXT", help="Only with this text in the message."),
        click.option("--reason", metavar="REASON", help="Only of this reason, as no-handler."),
        click.option("--type", metavar="TYPE", help="Only of this type of job."),
    ):
        command = option(command)
    return command

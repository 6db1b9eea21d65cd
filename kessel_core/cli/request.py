"""`kessel request`: one job from the arguments, or many from a file of JSON lines.

Longer than 350 lines, because both ways read, check and report alike.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from kessel_core.cli.app import (
    App,
    as_json,
    configured,
    handlers_option,
    logs_options,
    pass_app,
    say,
    say_as_is,
    sigterm_as_ctrl_c,
)
from kessel_core.cli.choosing import span
from kessel_core.cli.next_command import next_command
from kessel_core.cli.output import emit, jobs_text, preview
from kessel_core.cli.progress import progress
from kessel_core.cli.result import outcome_of, pending_fields
from kessel_core.cli.streams import BYTE_ORDER_MARK, given_json
from kessel_core.contract.promises import Reach
from kessel_core.errors import (
    AdapterError,
    DecodeError,
    EnqueueIncomplete,
    IdHeld,
    InvalidRequest,
    KesselError,
    Problem,
)
from kessel_core.values.moments import when
from kessel_core.values.nearest import did_you_mean, nearest_or_all
from kessel_core.values.reading import from_text, moment_or_span
from kessel_core.values.secrets import quoted
from kessel_core.values.strict_json import read_json
from kessel_core.wire.results import outcome_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from kessel_core.client.manager import JobManager
    from kessel_core.model.job import Job, JobRequest
    from kessel_core.model.json import JsonValue

__all__ = ["request"]

#: How many requests are handed to the adapter at once.
BATCH: Final = 500
#: Unknown types that are warned about.
SHOWN_WARNINGS: Final = 20
#: Jobs that were not stored and are named.
SHOWN_ERRORS: Final = 20


@click.command()
@click.argument("job_type", metavar="[TYPE]", required=False)
@click.argument("payload", metavar="[PAYLOAD]", required=False)
@click.option(
    "--from", "source", metavar="FILE", help="Request one job per JSON line of FILE (- is standard input)."
)
@click.option("--priority", metavar="N", help="0 is most urgent, 4294967295 least; default: 65536.")
@click.option(
    "--delay", metavar="WHEN", help="Not before: 90s, 5m, 3h, 7d from now, or an ISO time with zone."
)
@click.option("--expiration", metavar="WHEN", help="Not after: as --delay.")
@click.option("-q", "--queue", metavar="NAME", help="Queue; default: default.")
@click.option("--ref", metavar="TEXT", help="Your own reference; kessel only carries it.")
@click.option("--callback", metavar="SCHEME:TARGET", help="Whom to tell the result.")
@click.option(
    "--header", "headers", multiple=True, metavar="KEY=VALUE", help="Text for middleware; may be repeated."
)
@handlers_option
@click.option(
    "--wait", "wait", type=span, metavar="SPAN", help="Wait so long for its end, and print what it returned."
)
@click.option("--strict-type", is_flag=True, help="Refuse a type that no handler known here has.")
@as_json
@logs_options
@configured
@pass_app
def request(
    app: App,
    /,
    job_type: str | None,
    payload: str | None,
    source: str | None,
    strict_type: bool,
    wait: timedelta | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Request one job, or many from a file.

    PAYLOAD is a JSON value (- reads it from standard input); without it the payload is null.

    \b
      kessel request addition '{"operands": [1, 2]}'
      kessel request report.derive - --delay 5m --priority 10 < payload.json
      kessel request --from jobs.jsonl --queue ops

    Each line of a FILE is an object with the fields of a request: {"type": ..., "payload": ...,
    "priority": ...}. Nothing is stored if any line is wrong. --queue goes before what the lines say.
    If storing fails on the way, the error counts what became of all lines, and --json lists the ids.
    """  # noqa: D301  # the escape is meant: click keeps the lines of a paragraph that starts with it
    given = [name for name, value in fields.items() if value not in (None, ())]
    if source is not None:
        if wait is not None:
            raise click.UsageError("--wait is for one job; leave out --from")
        if job_type is not None or set(given) - {"queue"}:
            raise click.UsageError(
                "--from takes everything but --queue from the file; leave out TYPE and the fields"
            )
    elif job_type is None:
        raise click.UsageError("Missing argument 'TYPE' (or --from FILE).")
    app.start_logging()
    with sigterm_as_ctrl_c():
        if source is not None:
            _many(app, source, fields["queue"], strict_type, as_json)
        else:
            _one(app, str(job_type), payload, fields, strict_type, wait, as_json)


# --- one -----------------------------------------------------------------------------------


def _one(
    app: App,
    job_type: str,
    payload: str | None,
    fields: dict[str, Any],
    strict: bool,
    wait: timedelta | None,
    as_json: bool,
) -> None:
    from kessel_core.clock import SystemClock
    from kessel_core.wire.requests import encode

    asked = _read(job_type, payload, fields, SystemClock())
    _check_types(app, {asked.type: "TYPE"}, strict)
    with _visible(app) as manager:
        if wait is not None:
            with app.located():
                manager.store  # noqa: B018  # asked before anything is stored: without one nobody could wait
        stored = manager.request(asked)
        if wait is not None:
            try:
                outcome = outcome_of(manager, stored.id, wait, as_json=as_json)
            except (KesselError, KeyboardInterrupt):
                if as_json:
                    emit(pending_fields(stored.id))
                command = next_command(app, ["result"], [stored.id], ["--wait", "30s"])
                say_as_is(f"job {stored.id} is stored; `{command}` waits on", err=True)
                raise
            emit(outcome_fields(outcome) if as_json else outcome.value)
            if not outcome.ok:
                say(f"job {stored.id} failed: {outcome.reason}: {preview(outcome.message, 2000)}", err=True)
                raise click.exceptions.Exit(1)
            if outcome.value_omitted and not as_json:
                say(f"job {stored.id} succeeded; what it returned is too large for the store", err=True)
                raise click.exceptions.Exit(1)
            return
    if as_json:
        click.echo(encode(stored))
    else:
        moment = stored.not_before
        ready = f", not before {when(moment)}" if moment is not None else ""
        say_as_is(f"requested {stored.id} ({stored.type}) in queue {stored.queue} of {app.place}{ready}")


def _read(job_type: str, payload: str | None, fields: dict[str, Any], clock: Any) -> JobRequest:
    """Create a request from text; values that cannot be parsed are reported with all other mistakes."""
    from kessel_core.model.checks import job_from
    from kessel_core.model.job import JobRequest

    problems: list[Problem] = []

    def read(name: str, convert: Callable[[str], Any]) -> Any:
        text = fields[name]
        if text is None:
            return None
        try:
            return convert(text)
        except ValueError as exc:
            problems.append(Problem((), str(exc), f"--{name}"))
            return None

    value: JsonValue = None
    if payload is not None:
        try:
            value = given_json(payload)
        except ValueError as exc:
            problems.append(Problem((), f"is not JSON: {exc}", "PAYLOAD"))
        except RecursionError:
            problems.append(Problem((), "is nested too deeply", "PAYLOAD"))
    priority = read("priority", partial(from_text, annotation=int))
    known: dict[str, Any] = {
        name: fields[name] for name in ("queue", "ref", "callback") if fields[name] is not None
    }
    if priority is not None:
        known["priority"] = priority
    asked = JobRequest(
        type=job_type,
        payload=value,
        delay=read("delay", moment_or_span),
        expiration=read("expiration", moment_or_span),
        headers=_headers(fields["headers"], problems),
        **known,
    )
    try:
        job_from(asked, clock.now())
    except InvalidRequest as exc:
        problems.extend(map(_typed, exc.problems))
    if problems:
        raise InvalidRequest(problems)
    return asked


#: What is typed for a field, where that is not `--FIELD`.
_ARGUMENTS: Final = {"type": "TYPE", "payload": "PAYLOAD", "headers": "--header"}


def _typed(problem: Problem) -> Problem:
    """Replace the root and the field of the model by the name of the argument."""
    if len(problem.where) < 2:
        return problem
    field = str(problem.where[1])
    return problem.given_by(_ARGUMENTS.get(field, f"--{field}"), parts=2)


def _headers(texts: Sequence[str], problems: list[Problem]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            problems.append(Problem((), f"expected KEY=VALUE, got {quoted(text)}", "--header"))
        elif key in found:
            problems.append(Problem((), f"{quoted(key)} is given more than once", "--header"))
        found[key] = value
    return found


@contextmanager
def _visible(app: App) -> Iterator[JobManager]:
    """Open a manager; refuse an adapter whose jobs would be lost when this command ends."""
    with app.manager(only_requests=True) as manager:
        if manager.adapter.capabilities.reach is Reach.PROCESS:
            raise app.wrong(
                "adapter",
                f"the jobs of {manager.adapter.name!r} live in one process only, and this one ends now: no "
                "worker would ever see the job. Use an adapter that others can reach, such as "
                "sqlite:///kessel.db; `kessel demo` shows everything in one process",
            )
        yield manager


def _check_types(app: App, types: Mapping[str, str], strict: bool) -> None:
    """Warn of types that no handler has, if any are known here; refuse those that are not in `--handlers`.

    A producer may know none, so that without `--handlers` an unknown type is no error.

    Args:
        app: The command.
        types: Job type -> where it is written.
        strict: Whether an unknown type is refused all the same.
    """
    if app.handler_modules:
        from kessel_core.handlers.registry import HandlerRegistry

        registry = HandlerRegistry(app.plugins.payload_types())
        named = app.named_handlers()
        registry.add_all(named, named.origin)
        known, who, strict = set(registry.types()), f"{', '.join(app.handler_modules)} has", True
    else:
        known = {
            one.strip() for one in (*app.plugins.handlers().names, *app.config.handlers, *app.config.routes)
        }
        who = "this installation has"
    problems = [
        Problem((), f"{who} no handler for {one.strip()!r}{nearest_or_all(one, known)}", origin)
        for one, origin in types.items()
        if one.strip() not in known
    ]
    if problems and strict:
        raise InvalidRequest(problems, "nothing was stored")
    if not known:
        return
    for problem in problems[:SHOWN_WARNINGS]:
        say(f"warning: {problem}", err=True)
    if len(problems) > SHOWN_WARNINGS:
        say(f"warning: ... and {len(problems) - SHOWN_WARNINGS:,} more types", err=True)


# --- many ----------------------------------------------------------------------------------


def _many(app: App, source: str, queue: str | None, strict: bool, as_json: bool) -> None:
    name = "standard input" if source == "-" else source
    lines, types = _read_lines(source, name, queue)
    requests = list(lines.values())
    _check_types(app, types, strict)
    became = _Became(len(requests))
    with _visible(app) as manager, progress("requesting", len(requests), quiet=as_json) as show:
        _check_taken(manager, lines, name)
        try:
            for start in range(0, len(requests), BATCH):
                became.add(manager, requests[start : start + BATCH])
                show(len(became.stored), "")
                if became.has_failed:
                    break
        except (KesselError, KeyboardInterrupt) as exc:
            if not became.tried:  # else earlier batches are stored, which is no longer wrong usage
                raise
            if as_json:
                emit(became.fields())
            what = exc if isinstance(exc, KesselError) else "interrupted, some may be stored"
            say(f"error: {became}; of the next {min(BATCH, became.left):,}: {what}", err=True)
            if isinstance(exc, KeyboardInterrupt):
                raise
            raise SystemExit(1) from exc
    if as_json:
        emit(became.fields())
    elif not became.has_failed:
        say(f"requested {jobs_text(len(became.stored))} from {name}, in {app.place}")
    if became.has_failed:
        say(f"error: {became}", err=True)
    if errors := became.errors:
        for error in errors[:SHOWN_ERRORS]:
            say(f"error: {error}", err=True)
        if len(errors) > SHOWN_ERRORS:
            say(f"error: ... and {len(errors) - SHOWN_ERRORS:,} more; --json lists all", err=True)
        raise SystemExit(1)


def _check_taken(manager: JobManager, lines: Mapping[int, JobRequest], name: str) -> None:
    """Refuse what the adapter does not take of any line, as one that is too large, before one is stored.

    Plugins that prepare requests see each a second time when it is stored.
    """
    problems: list[Problem] = []
    for number, request in lines.items():
        try:
            manager.message(request)
        except InvalidRequest as exc:
            problems.extend(problem.given_by(f"{name}:{number}", parts=1) for problem in exc.problems)
    if problems:
        raise InvalidRequest(problems, "nothing was stored")


@attrs.define
class _Became:
    """What became of the lines of a file so far."""

    lines: int
    #: Lines whose fate is known.
    tried: int = 0
    stored: list[str] = attrs.field(factory=list)
    #: By id: surely not stored, perhaps stored, and there already.
    rejected: dict[str, AdapterError] = attrs.field(factory=dict)
    unknown: dict[str, AdapterError] = attrs.field(factory=dict)
    held: dict[str, IdHeld] = attrs.field(factory=dict)
    #: Lines whose job was there already; several may have one id.
    already: int = 0

    def __str__(self) -> str:
        return (
            f"{len(self.stored):,} stored, {len(self.rejected):,} not stored, {len(self.unknown):,} unknown, "
            f"{self.already:,} held already, {self.left:,} not attempted"
        )

    @property
    def left(self) -> int:
        """How many lines were not attempted: the last ones."""
        return self.lines - self.tried

    @property
    def has_failed(self) -> bool:
        """Whether something went wrong that the next batch would meet as well."""
        return bool(self.rejected or self.unknown)

    @property
    def errors(self) -> list[AdapterError]:
        return [*self.rejected.values(), *self.unknown.values(), *self.held.values()]

    def add(self, manager: JobManager, batch: Sequence[JobRequest]) -> None:
        """Request some more.

        Raises:
            KesselError: None of them is stored.
        """
        try:
            self.stored.extend(done.id for done in manager.request_many(batch))
        except EnqueueIncomplete as exc:
            self.stored.extend(exc.stored)
            self.rejected |= exc.rejected
            self.unknown |= exc.unknown
            self.held |= exc.held
            self.already += len(batch) - len(exc.stored) - len(exc.rejected) - len(exc.unknown)
        self.tried += len(batch)

    def fields(self) -> dict[str, object]:
        """Return it for JSON output."""
        return {
            "requested": len(self.stored),
            "ids": self.stored,
            "held": {job_id: one.state for job_id, one in self.held.items()},
            "rejected": {job_id: str(one) for job_id, one in self.rejected.items()},
            "unknown": {job_id: str(one) for job_id, one in self.unknown.items()},
            "not_attempted": self.left,
        }


#: What may stand around a JSON value; `bytes.strip` takes more.
_WHITE: Final = b" \t\r\n"


def _read_lines(source: str, name: str, queue: str | None) -> tuple[dict[int, JobRequest], dict[str, str]]:
    """Return the requests by the numbers of their lines, and for each type the first line that has it."""
    from kessel_core.clock import SystemClock
    from kessel_core.model.checks import job_from
    from kessel_core.wire.requests import decode

    clock = SystemClock()
    requests: dict[int, JobRequest] = {}
    types: dict[str, str] = {}
    problems: list[Problem] = []
    odd: dict[str, int] = {}
    for number, line in enumerate(_lines(source, name), 1):
        if not (body := line.strip(_WHITE)):
            continue
        try:
            # A request of this command is a new one: it gets its own time of request.
            request = _as_asked(decode(body), body, queue)
            job_from(request, clock.now())
            requests[number] = request
            types.setdefault(request.type, f"{name}:{number}")
            for key in request.extra:
                odd.setdefault(key, number)
        except (DecodeError, InvalidRequest) as exc:
            problems.extend(problem.given_by(f"{name}:{number}") for problem in exc.problems)
    if problems:
        raise InvalidRequest(problems, "nothing was stored")
    _warn_of_misspelt(odd, name)
    return requests, types


def _as_asked(job: Job, line: bytes, queue: str | None) -> JobRequest:
    """Return the request of a line; what it leaves out is left to the route of its type."""
    given = read_json(line.decode())
    request = job.as_request()
    if queue is not None or given.get("queue") in (None, ""):
        request = attrs.evolve(request, queue=queue)
    return request if given.get("priority") is not None else attrs.evolve(request, priority=None)


def _warn_of_misspelt(odd: dict[str, int], name: str) -> None:
    """Warn about unknown keys that look like misspelt fields; unknown keys are allowed, so it is no error."""
    from kessel_core.model.job import JobRequest

    fields = [field.name for field in attrs.fields(JobRequest) if field.name != "extra"]
    for key, number in odd.items():
        if hint := did_you_mean(key, fields, 0.75):
            say(
                f"warning: {name}:{number}: {key!r} is not a field of a request, and is kept as it is{hint}",
                err=True,
            )


def _lines(source: str, name: str) -> Sequence[bytes]:
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as exc:
        raise InvalidRequest(
            [Problem((), f"cannot be read: {exc.strerror or exc}", name)], "nothing was stored"
        ) from exc
    return content.removeprefix(BYTE_ORDER_MARK).split(b"\n")

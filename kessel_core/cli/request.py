"""`kessel request`: one job from the arguments, or many from a file of JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, handlers_option, logs_options, pass_app, say
from kessel_core.cli.output import emit, jobs_text
from kessel_core.cli.progress import progress
from kessel_core.contract.promises import Reach
from kessel_core.errors import DecodeError, InvalidRequest, Problem
from kessel_core.values.nearest import did_you_mean, nearest_or_all
from kessel_core.values.reading import from_text, moment_or_span
from kessel_core.values.secrets import quoted
from kessel_core.values.strict_json import read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from kessel_core.client.manager import JobManager
    from kessel_core.model.job import JobRequest
    from kessel_core.model.json import JsonValue

__all__ = ["request"]

#: How many requests are handed to the adapter at once.
BATCH: Final = 500


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
    as_json: bool,
    **fields: Any,
) -> None:
    """Request one job, or many from a file.

    PAYLOAD is a JSON value (- reads it from standard input); without it the payload is null.

    \b
      kessel request addition '{"operands": [1, 2]}'
      kessel request report.derive - --delay 5m --priority 10 < payload.json
      kessel request --from jobs.jsonl

    Each line of a FILE is an object with the fields of a request: {"type": ..., "payload": ...,
    "priority": ...}. Nothing is stored if any line is wrong.
    """  # noqa: D301  # the escape is meant: click keeps the lines of a paragraph that starts with it
    given = [name for name, value in fields.items() if value not in (None, ())]
    if source is not None:
        if job_type is not None or given:
            raise click.UsageError("--from takes everything from the file; leave out TYPE and the fields")
    elif job_type is None:
        raise click.UsageError("Missing argument 'TYPE' (or --from FILE).")
    app.start_logging()
    if source is not None:
        _many(app, source, as_json)
    else:
        _one(app, str(job_type), payload, fields, as_json)


# --- one -----------------------------------------------------------------------------------


def _one(app: App, job_type: str, payload: str | None, fields: dict[str, Any], as_json: bool) -> None:
    from kessel_core.clock import SystemClock
    from kessel_core.wire.requests import encode

    asked = _read(job_type, payload, fields, SystemClock())
    _check_types(app, [(asked, "TYPE")])
    with _visible(app) as manager:
        stored = manager.request(asked)
    if as_json:
        click.echo(encode(stored))
    else:
        moment = stored.not_before
        ready = f", not before {moment.astimezone():%Y-%m-%d %H:%M:%S}" if moment is not None else ""
        say(f"requested {stored.id} ({stored.type}) in queue {stored.queue} of {app.place}{ready}")


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
            value = read_json(sys.stdin.read() if payload == "-" else payload)
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
        headers=dict(_header(text, problems) for text in fields["headers"]),
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


def _header(text: str, problems: list[Problem]) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        problems.append(Problem((), f"expected KEY=VALUE, got {quoted(text)}", "--header"))
    return key.strip(), value


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


def _check_types(app: App, asked: Sequence[tuple[JobRequest, str]]) -> None:
    """Refuse types without a handler in the modules of `--handlers`, if any are given."""
    if not app.handler_modules:
        return
    from kessel_core.handlers.registry import HandlerRegistry

    known = HandlerRegistry()
    known.add_all(app.named_handlers(), "--handlers")
    where = ", ".join(app.handler_modules)
    problems = [
        Problem(
            (),
            f"{where} has no handler for {request.type!r}{nearest_or_all(request.type, known.types())}",
            origin,
        )
        for request, origin in asked
        if known.get(request.type) is None
    ]
    if problems:
        raise InvalidRequest(problems, "nothing was stored")


# --- many ----------------------------------------------------------------------------------


def _many(app: App, source: str, as_json: bool) -> None:
    name = "standard input" if source == "-" else source
    numbered = _read_lines(source, name)
    _check_types(app, [(request, f"{name}:{number}") for number, request in numbered])
    requests = [request for _, request in numbered]
    stored: list[str] = []
    with _visible(app) as manager, progress("requesting", len(requests), quiet=as_json) as show:
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            stored.extend(done.id for done in manager.request_many(batch))
            show(len(stored), "")
    if as_json:
        emit({"requested": len(stored), "ids": stored})
    else:
        say(f"requested {jobs_text(len(stored))} from {name}, in {app.place}")


def _read_lines(source: str, name: str) -> list[tuple[int, JobRequest]]:
    """Return what the lines ask for, each with the number of its line."""
    from kessel_core.clock import SystemClock
    from kessel_core.model.checks import job_from
    from kessel_core.wire.requests import decode

    clock = SystemClock()
    requests: list[tuple[int, JobRequest]] = []
    problems: list[Problem] = []
    odd: dict[str, int] = {}
    for number, line in enumerate(_lines(source, name), 1):
        if not line.strip():
            continue
        try:
            # A request of this command is a new one: it gets its own time of request.
            request = decode(line.strip()).as_request()
            job_from(request, clock.now())
            requests.append((number, request))
            for key in request.extra:
                odd.setdefault(key, number)
        except (DecodeError, InvalidRequest) as exc:
            problems.extend(problem.given_by(f"{name}:{number}") for problem in exc.problems)
    if problems:
        raise InvalidRequest(problems, "nothing was stored")
    _warn_of_misspelt(odd, name)
    return requests


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
    # A byte order mark is what some programs put before the first line.
    return content.removeprefix(b"\xef\xbb\xbf").split(b"\n")

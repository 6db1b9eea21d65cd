"""`kessel result` and `kessel move`: what this plugin adds to the command.

Imports only what a command needs to be shown: `kessel --help` loads this module.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, sigterm_as_ctrl_c

if TYPE_CHECKING:
    from kessel_core.contract import QueueAdapter
    from kessel_core.plugins.opening import ChosenAdapter

__all__ = ["move", "result"]


@click.command()
@click.argument("job_id", metavar="ID")
@as_json
@configured
@pass_app
def result(app: App, job_id: str, as_json: bool) -> None:
    """Show the result of a finished job.

    Only adapters that keep results have any; sqlite keeps them with the option keep_results.
    """
    from kessel_core.cli.output import emit
    from kessel_core.contract import CapabilityMissing

    with app.adapter() as adapter:
        look_up = getattr(adapter, "result", None)
        if look_up is None or not adapter.capabilities.results:
            raise CapabilityMissing("results", adapter.name, "it keeps none as it is configured now")
        body = look_up(job_id)
    if body is None:
        click.echo(
            f"no result of job {job_id}: it is not finished, has failed (see: kessel buried list), "
            "is not known, or is no longer kept",
            err=True,
        )
        raise click.exceptions.Exit(1)
    fields = json.loads(body)
    if as_json:
        emit(fields)
        return
    for name, value in fields.items():
        if value not in (None, ""):
            click.echo(
                f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            )


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "-q", "--queue", "queues", multiple=True, metavar="NAME", help="Only this queue; may be repeated."
)
@as_json
@configured
@pass_app
def move(app: App, source: str, target: str, queues: tuple[str, ...], as_json: bool) -> None:
    """Move waiting jobs from one adapter to another.

    FROM and TO are URLs, as sqlite:///jobs.db and beanstalk://localhost. Ready and delayed jobs go,
    with their ids, priorities, delays and expirations; reserved and buried ones stay. An interrupted
    move loses nothing, and says which job may be in both.
    """
    from contextlib import closing

    from kessel_core import SystemClock
    from kessel_core.cli.output import emit
    from kessel_core.contract import AdapterContext
    from kessel_sqlite.moving import Moved, move_jobs

    context = AdapterContext(clock=SystemClock())
    moved = Moved()
    here, there = _chosen(app, source, target, queues)
    with sigterm_as_ctrl_c(), closing(here.open(context)) as old, closing(there.open(context)) as new:
        _check_reach(new)
        there_are = old.queues()
        for queue in queues:
            if queue not in there_are:
                click.echo(f"warning: FROM has no queue {queue!r}", err=True)
        try:
            move_jobs(old, new, queues or tuple(there_are), moved)
        finally:
            double = [*moved.double, *([moved.current] if moved.current is not None else [])]
            if as_json:
                emit({"moved": moved.count, "double": double})
            else:
                click.echo(f"moved {moved.count:,} jobs")
            if double:
                click.echo(f"these may be in both, and run twice: {', '.join(double)}", err=True)


def _chosen(
    app: App, source: str, target: str, queues: tuple[str, ...]
) -> tuple[ChosenAdapter, ChosenAdapter]:
    """Find both adapters before either is opened; what is wrong is told together."""
    from kessel_core.contract import InvalidConfig, Problem, queue_name_problem
    from kessel_sqlite.options import SqliteOptions

    found: dict[str, ChosenAdapter] = {}
    problems: list[Problem] = []
    for name, url in (("FROM", source), ("TO", target)):
        try:
            found[name] = app.plugins.chosen_adapter(url)
        except InvalidConfig as exc:
            # The argument is what the option `adapter` is elsewhere.
            problems.extend(problem.given_by(name, parts=1) for problem in exc.problems)
    # Opening it would make it.
    options = found["FROM"].options if "FROM" in found else None
    if isinstance(options, SqliteOptions) and not options.path.exists():
        problems.append(Problem((), f"there is no file {options.path}", "FROM"))
    problems.extend(Problem((), text, "--queue") for name in queues if (text := queue_name_problem(name)))
    if problems:
        raise InvalidConfig(problems, "nothing was moved")
    return found["FROM"], found["TO"]


def _check_reach(target: QueueAdapter) -> None:
    from kessel_core.contract import InvalidConfig, Problem, Reach

    if target.capabilities.reach is Reach.PROCESS:
        why = f"the jobs of {target.name!r} live in one process only, and this one ends now"
        raise InvalidConfig([Problem((), why, "TO")], "nothing was moved")

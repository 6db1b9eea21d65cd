"""`kessel move`: waiting jobs from one adapter to another."""

from __future__ import annotations

from contextlib import closing

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say, sigterm_as_ctrl_c
from kessel_core.cli.output import emit, jobs_text
from kessel_core.client.moving import Moved, move_jobs
from kessel_core.clock import SystemClock
from kessel_core.contract import (
    AdapterContext,
    InvalidConfig,
    Problem,
    QueueAdapter,
    Reach,
    queue_name_problem,
)
from kessel_core.plugins.opening import ChosenAdapter

__all__ = ["move"]


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
    context = AdapterContext(clock=SystemClock())
    moved = Moved()
    here, there = _chosen(app, source, target, queues)
    with sigterm_as_ctrl_c(), closing(here.open(context)) as old, closing(there.open(context)) as new:
        _check_reach(new)
        there_are = old.queues()
        for queue in queues:
            if queue not in there_are:
                say(f"warning: FROM has no queue {queue!r}", err=True)
        try:
            move_jobs(old, new, queues or tuple(there_are), moved)
        finally:
            double = [*moved.double, *([moved.current] if moved.current is not None else [])]
            if as_json:
                emit({"moved": moved.count, "double": double})
            else:
                click.echo(f"moved {jobs_text(moved.count)}")
            if double:
                say(f"these may be in both, and run twice: {', '.join(double)}", err=True)


def _chosen(
    app: App, source: str, target: str, queues: tuple[str, ...]
) -> tuple[ChosenAdapter, ChosenAdapter]:
    """Find both adapters before either is opened; all mistakes are reported together."""
    found: dict[str, ChosenAdapter] = {}
    problems: list[Problem] = []
    for name, url in (("FROM", source), ("TO", target)):
        try:
            found[name] = app.plugins.chosen_adapter(url)
        except InvalidConfig as exc:
            # The argument is what the option `adapter` is elsewhere.
            problems.extend(problem.given_by(name, parts=1) for problem in exc.problems)
    if "FROM" in found:
        old = found["FROM"]
        # Opening it would make it.
        if (why := old.spec.absent(old.options)) is not None:
            problems.append(Problem((), why, "FROM"))
    problems.extend(Problem((), text, "--queue") for name in queues if (text := queue_name_problem(name)))
    if problems:
        raise InvalidConfig(problems, "nothing was moved")
    return found["FROM"], found["TO"]


def _check_reach(target: QueueAdapter) -> None:
    if target.capabilities.reach is Reach.PROCESS:
        why = f"the jobs of {target.name!r} live in one process only, and this one ends now"
        raise InvalidConfig([Problem((), why, "TO")], "nothing was moved")

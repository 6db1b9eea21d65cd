"""`kessel move`: waiting jobs from one adapter to another."""

from __future__ import annotations

from contextlib import closing

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say, say_as_is, sigterm_as_ctrl_c
from kessel_core.cli.output import emit, jobs_text
from kessel_core.client.moving import Moved, move_jobs, risks
from kessel_core.clock import SystemClock
from kessel_core.contract import (
    AdapterContext,
    InvalidConfig,
    Problem,
    QueueAdapter,
    Reach,
    queue_name_problem,
)
from kessel_core.plugins.opening import Chosen

__all__ = ["move"]

#: So many ids are printed.
_NAMED = 100


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option(
    "-q", "--queue", "queues", multiple=True, metavar="NAME", help="Only this queue; may be repeated."
)
@click.option(
    "-y", "--yes", is_flag=True, help="Move though jobs may run twice, where FROM cannot be paused."
)
@as_json
@configured
@pass_app
def move(app: App, source: str, target: str, queues: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Move waiting jobs from one adapter to another.

    FROM and TO are URLs, as sqlite:///jobs.db and beanstalk://localhost. Ready and delayed jobs go,
    with their ids, priorities, delays and expirations; reserved and buried ones stay. What TO holds
    is counted before anything is removed from FROM, so an interrupted move loses nothing, and says
    which jobs may be in both. Exits with 1 if some may run twice, or had to stay.
    """
    context = AdapterContext(clock=SystemClock())
    moved = Moved()
    here, there = _chosen(app, source, target, queues)
    with sigterm_as_ctrl_c(), closing(here.open(context)) as old, closing(there.open(context)) as new:
        _check_reach(new)
        if (why := risks(old, new)) and not yes:
            problems = [Problem((), f"{text}; to move all the same, say --yes") for text in why]
            raise InvalidConfig(problems, "nothing was moved")
        there_are = old.queues()
        for queue in queues:
            if queue not in there_are:
                say(f"warning: FROM has no queue {queue!r}", err=True)
        try:
            move_jobs(old, new, queues or tuple(there_are), moved)
        finally:
            _report(moved, as_json)
    if moved.double or moved.left:
        raise SystemExit(1)


def _report(moved: Moved, as_json: bool) -> None:
    double = [*moved.double, *moved.pending]
    if as_json:
        emit({"moved": moved.count, "taken": moved.taken, "double": double, "left": moved.left})
    else:
        click.echo(f"moved {jobs_text(moved.count)}")
        if moved.taken:
            say(f"{jobs_text(moved.taken)} stayed: workers of FROM were faster")
    if double:
        say_as_is(f"these may be in both, and run twice: {_named(double)}", err=True)
    if moved.left:
        why = "TO says that it holds their ids, and it cannot be seen that these are the same jobs"
        say_as_is(f"these stay in FROM: {why}: {_named(moved.left)}", err=True)


def _named(ids: list[str]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more:,} more; --json lists all" if more > 0 else "")


def _chosen(
    app: App, source: str, target: str, queues: tuple[str, ...]
) -> tuple[Chosen[QueueAdapter], Chosen[QueueAdapter]]:
    """Find both adapters before either is opened; all mistakes are reported together."""
    found: dict[str, Chosen[QueueAdapter]] = {}
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

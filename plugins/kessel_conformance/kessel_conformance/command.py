"""`kessel conformance URL`: the suite without a test file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click

from kessel_core.contract import printable

__all__ = ["conformance"]

T = TypeVar("T")


@click.command()
@click.argument("url")
@click.option(
    "--report",
    metavar="FILE.json",
    help="Write the report as JSON, with .md and .badge.json beside it.",
)
@click.option(
    "--budget",
    type=click.Choice(("quick", "ci", "thorough")),
    default="quick",
    show_default=True,
    help="How much is generated: for seconds, for a minute, for a night.",
)
@click.option("--suite", metavar="VERSION", help="Suite version that counts; newer cases are advisory.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of what is generated.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def conformance(
    context: click.Context,
    url: str,
    report: str | None,
    budget: str,
    suite: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Check the adapter that opens URL against the contract.

    `{namespace}` in URL becomes a name that is new for every case, `{tmp}` a temporary folder.
    Exit code 0: it conforms; 1: it does not, or cannot be reached; 2: URL or options are wrong;
    3: its plugin is not usable.
    """
    from kessel_conformance import report as reports
    from kessel_conformance.catalogue import known_version
    from kessel_conformance.harness import Harness
    from kessel_conformance.outcome import Outcome, Verdict
    from kessel_conformance.page import summary
    from kessel_conformance.runner import run_suite
    from kessel_conformance.settings import Settings

    path = _checked("--report", report, reports.checked_path)
    _checked("--suite", suite, known_version)

    def show(outcome: Outcome) -> None:
        if as_json:
            return
        colour = {Verdict.PASS: "green", Verdict.SKIP: "cyan"}.get(
            outcome.verdict, "red" if not outcome.ok else "yellow"
        )
        line = click.style(f"{outcome.verdict:>16}", fg=colour) + f"  {outcome.case.id}"
        aside = outcome.verdict in (Verdict.SKIP, Verdict.NOT_SHOWN, Verdict.XFAIL, Verdict.DISABLED)
        click.echo(f"{line}  ({printable(outcome.reason)})" if aside else line)
        if not aside and outcome.text:
            click.echo("\n".join(printable(line) for line in outcome.text.splitlines()))

    if path is not None:
        try:
            reports.discard(path)  # whatever happens now, it is not taken for a report of this run
        except OSError as exc:
            raise click.BadParameter(f"the earlier report stays: {exc}", param_hint="--report") from exc
    with _quiet():
        run = run_suite(Harness(url=url), Settings(budget=budget, suite=suite, seed=seed), report=show)
    found = reports.report(run)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        mutants = found["mutants"]
        strength = f"catches {mutants['caught']} of {mutants['planted']} planted faults"
        ran = f"suite {found['suite']} ({strength}), seed {seed}, {found['seconds']:.1f} s"
        click.echo(f"{found['adapter']}: {summary(found)}; {ran}")
    if path is not None:
        try:
            reports.write_reports([found], path)
        except OSError as exc:
            click.echo(f"error: the report cannot be written: {exc}", err=True)
            context.exit(1)
    context.exit(0 if found["passed"] else 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Log errors only: the jobs of cases fail and clocks are set because a case wants it."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _checked(option: str, text: str | None, check: Callable[[str], T]) -> T | None:
    try:
        return None if text is None else check(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint=option) from exc

"""`kessel conformance URL`: the suite without a test file."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["conformance"]


@click.command()
@click.argument("url")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the report as JSON, with .md and badge beside it.",
)
@click.option("--budget", type=click.Choice(("quick", "ci", "thorough")), default="quick", show_default=True)
@click.option("--suite", metavar="VERSION", help="Suite version that counts; newer cases are advisory.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of what is generated.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def conformance(
    context: click.Context,
    url: str,
    report: Path | None,
    budget: str,
    suite: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Check the adapter that opens URL against the contract.

    `{namespace}` in URL becomes a name that is new for every case, `{tmp}` a temporary folder.
    Exit code 0: it conforms; 1: it does not; 2: URL or options are wrong.
    """
    from kessel_conformance import report as reports
    from kessel_conformance.catalogue import known_version
    from kessel_conformance.harness import Harness
    from kessel_conformance.runner import Outcome, Settings, Verdict, run_suite
    from kessel_core.errors import AdapterError, ConfigError

    if suite is not None:
        try:
            known_version(suite)
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint="--suite") from exc

    def told(outcome: Outcome) -> None:
        if as_json:
            return
        colour = {Verdict.PASS: "green", Verdict.SKIP: "cyan"}.get(
            outcome.verdict, "red" if not outcome.ok else "yellow"
        )
        line = click.style(f"{outcome.verdict:>16}", fg=colour) + f"  {outcome.case.id}"
        click.echo(f"{line}  ({outcome.reason})" if outcome.verdict is Verdict.SKIP else line)
        if not outcome.ok:
            click.echo(outcome.reason)

    try:
        run = run_suite(Harness(url=url), Settings(budget=budget, suite=suite, seed=seed), told=told)
    except (ConfigError, AdapterError) as exc:
        click.echo(str(exc), err=True)
        context.exit(2)
    found = reports.report(run)
    if report is not None:
        reports.write_reports([run], report)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        totals = ", ".join(f"{number} {status}" for status, number in found["totals"].items() if number)
        click.echo(
            f"{found['adapter']}: {totals}; suite {found['suite']}, seed {seed}, {found['seconds']:.1f} s"
        )
    context.exit(0 if found["passed"] else 1)

"""`kessel result`: the kept result of one job."""

from __future__ import annotations

import json

import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say
from kessel_core.cli.output import emit, preview
from kessel_core.contract import Results, need

__all__ = ["result"]


@click.command()
@click.argument("job_id", metavar="ID")
@as_json
@configured
@pass_app
def result(app: App, job_id: str, as_json: bool) -> None:
    """Show the result of a finished job.

    Only adapters that keep results have any; sqlite keeps them with the option keep_results.
    """
    with app.adapter(only_looks=True) as adapter:
        body = need(adapter, Results, "it keeps none as it is configured now").result(job_id)
    if body is None:
        say(
            f"no result of job {preview(job_id, 200)}: it is not finished, not known, or no longer kept",
            err=True,
        )
        raise click.exceptions.Exit(1)
    fields = json.loads(body)
    if as_json:
        emit(fields)
        return
    for name, value in fields.items():
        if value not in (None, ""):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            click.echo(f"{preview(name)}: {preview(text, 100_000)}")

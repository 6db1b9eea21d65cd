"""`kessel adapters`: what can open a queue, its options, and how far its conformance report goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say
from kessel_core.cli.output import emit, iso, preview, table
from kessel_core.plugins.known import ADAPTERS

if TYPE_CHECKING:
    from kessel_core.contract.spec import AdapterSpec
    from kessel_core.plugins.shipped import ConformanceReport, Shipped
    from kessel_core.plugins.status import PluginStatus

__all__ = ["adapters"]


@click.command()
@as_json
@configured
@pass_app
def adapters(app: App, as_json: bool) -> None:
    """List the queue adapters, their conformance and their options."""
    from kessel_core.plugins.shipped import shipped_report

    found = app.any_plugins
    app.warn_of_plugins(found)
    offered = found.adapters()
    rows = [
        (offer.thing, offer.owner, shipped_report(name, offer.owner))
        for name in offered.names
        if not name.endswith("://")
        for offer in offered.of(name)
    ]
    if as_json:
        emit([_fields(*row) for row in rows])
        return
    if not rows:
        click.echo(f"no adapter is installed; run: pip install {ADAPTERS['sqlite']}")
        return
    columns = ["adapter", "distribution", "version", "report of", "suite"]
    counts = ["#passed", "#failed", "#expected", "#skipped"]
    table([*columns, *counts, "remark"], [_row(*row) for row in rows])
    for spec, _, _ in rows:
        say(f"\n{spec.name}: {preview(spec.summary, 200)}")
        say(f"  URLs:    {', '.join(f'{scheme}://' for scheme in spec.schemes)}")
        for index, (name, kind, default) in enumerate(_options(spec.options)):
            value = "must be given" if default is None else f"default {default}"
            say(f"  {'options:' if index == 0 else '':<8} {name} ({kind}), {value}")


def _row(spec: AdapterSpec, owner: PluginStatus, shipped: Shipped) -> tuple[object, ...]:
    report = shipped.report
    cells = ("", "", "", "", "", "") if report is None else (_day(report), report.suite, *_counts(report))
    return spec.name, owner.distribution, owner.version, *cells, preview("; ".join(shipped.remarks), 300)


def _day(report: ConformanceReport) -> str:
    return report.date.date().isoformat()


def _counts(report: ConformanceReport) -> tuple[int, int, int, int]:
    """Passed, failed, expected and skipped cases."""
    failed = report.count("fail") + report.count("error")
    return report.count("pass"), failed, report.count("expected failure"), report.count("skip")


def _fields(spec: AdapterSpec, owner: PluginStatus, shipped: Shipped) -> dict[str, object]:
    report = shipped.report
    return {
        "name": spec.name,
        "plugin": owner.name,
        "distribution": owner.distribution,
        "version": owner.version,
        "schemes": list(spec.schemes),
        "summary": spec.summary,
        "options": {name: {"type": kind, "default": text} for name, kind, text in _options(spec.options)},
        "conformance": {
            "report": None if report is None else attrs.asdict(report) | {"date": iso(report.date)},
            "remarks": list(shipped.remarks),
        },
    }


def _options(options: type) -> Iterator[tuple[str, str, str | None]]:
    """Yield name, type and default of each option, as text; one without default must be given."""
    from kessel_core.config.showing import shown
    from kessel_core.values.secrets import is_secret

    if not attrs.has(options):
        return
    with suppress(Exception):  # its own imports; then the annotation is shown as it was written
        attrs.resolve_types(options)
    for field in attrs.fields(options):
        if field.default is attrs.NOTHING:
            text = None
        elif isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]  # a class at run time
            text = "computed"
        else:
            text = json.dumps(shown(field.name, field.default), default=str)
        yield field.name, _kind(field.type) + (", secret" if is_secret(field.name) else ""), text


def _kind(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(json.dumps(str(member.value)) for member in annotation)
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("datetime.", "")

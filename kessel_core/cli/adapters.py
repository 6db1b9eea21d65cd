"""`kessel adapters`: what can open a queue, its options, and how far its conformance report goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say
from kessel_core.cli.output import emit, iso, preview, table
from kessel_core.errors import InvalidConfig, UnusablePlugin
from kessel_core.plugins.known import BACKENDS
from kessel_core.values.reading import bare

if TYPE_CHECKING:
    from kessel_core.contract.spec import AdapterSpec
    from kessel_core.plugins.shipped import ConformanceReport, Shipped
    from kessel_core.plugins.status import PluginStatus

    _Row: TypeAlias = tuple[AdapterSpec, PluginStatus, Shipped]

__all__ = ["adapters"]


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 1 unless each (NAME) has a report that passed and is of what is installed.",
)
@as_json
@configured
@pass_app
def adapters(app: App, names: tuple[str, ...], check: bool, as_json: bool) -> None:
    """List the queue adapters, their conformance and their options."""
    from kessel_core.plugins.shipped import shipped_report

    found = app.any_plugins
    app.warn_of_plugins(found)
    offered = found.adapters()
    known = [name for name in offered.names if not name.endswith("://")]
    if unknown := [name for name in names if name not in known]:
        problems = [UnusablePlugin((), f"no adapter {name!r} is usable", "NAME") for name in unknown]
        raise InvalidConfig(problems, "unknown adapter")
    rows = [
        (offer.thing, offer.owner, shipped_report(name, offer.owner))
        for name in (names or known)
        for offer in offered.of(name)
    ]
    if as_json:
        emit([_fields(*row) for row in rows])
    elif rows:
        _show(rows)
    else:
        click.echo(f"no adapter is installed; run: pip install {BACKENDS['adapter']['sqlite']}")
    if check:
        _check(rows)


def _show(rows: list[_Row]) -> None:
    columns = ["adapter", "distribution", "version", "report of", "suite"]
    counts = ["#passed", "#failed", "#expected", "#not shown", "#n/a"]
    table([*columns, *counts, "remark"], [_cells(*row) for row in rows])
    for spec, _, shipped in rows:
        say(f"\n{spec.name}: {preview(spec.summary, 200)}")
        say(f"  URLs:    {', '.join(f'{scheme}://' for scheme in spec.schemes)}")
        for index, (name, kind, default) in enumerate(_options(spec.options)):
            value = "must be given" if default is None else f"default {default}"
            say(f"  {'options:' if index == 0 else '':<8} {name} ({kind}), {value}")
        if shipped.report is not None:
            for index, line in enumerate(_proof(shipped.report, shipped.store)):
                say(f"  {'report:' if index == 0 else '':<8} {preview(line, 300)}")


def _check(rows: list[_Row]) -> None:
    """Exit with 1 if a report is missing, failed, incomplete, stale or not to be read."""
    wrong = [(spec.name, shipped.error) for spec, _, shipped in rows if shipped.error is not None]
    for name, why in wrong:
        say(f"error: adapter {name}: {preview(why, 300)}", err=True)
    if wrong:
        raise SystemExit(1)


def _cells(spec: AdapterSpec, owner: PluginStatus, shipped: Shipped) -> tuple[object, ...]:
    report = shipped.report
    cells = ("",) * 7 if report is None else (_day(report), report.suite, *_counts(report))
    remark = preview("; ".join(shipped.remarks), 300)
    return spec.name, owner.distribution, owner.version, *cells, remark


def _day(report: ConformanceReport) -> str:
    return report.date.date().isoformat()


def _counts(report: ConformanceReport) -> tuple[int, ...]:
    """Passed, failed, expected, not shown cases, and those that do not apply."""
    failed = report.count("fail") + report.count("error")
    others = (report.count(status) for status in ("expected failure", "not shown", "skip"))
    return report.count("pass"), failed, *others


def _proof(report: ConformanceReport, store: ConformanceReport | None) -> Iterator[str]:
    """Yield what was run, how much that finds, and what it leaves open."""
    from kessel_core.contract import Store

    yield from _shown(report)
    unproved = {name: why for run in report.runs for name, why in run.unproved.items()}
    if store is not None:
        unproved.pop(Store.facet_name, None)
    yield from (f"not to be shown by any run of this suite: {name}: {why}" for name, why in unproved.items())
    if store is not None:
        passed, failed, *_ = _counts(store)
        yield f"its store, {_day(store)}: {passed} passed, {failed} failed"
        yield from (f"its store: {line}" for line in _shown(store))


def _shown(report: ConformanceReport) -> Iterator[str]:
    """Yield where it was run, how much that finds, and what was not looked at."""
    caught, planted = (report.mutants.get(key, 0) for key in ("caught", "planted"))
    yield f"suite {report.suite} catches {caught} of {planted} planted faults"
    for run in report.runs:
        where = ", ".join(filter(None, (run.url, run.server)))
        named = f"{run.name}: " if run.name and len(report.runs) > 1 else ""
        yield f"{named}on a {run.clock} clock" + (f", {where}" if where else "")
    yield from (f"not shown: {name}: {why}" for name, why in report.not_shown.items())


def _fields(spec: AdapterSpec, owner: PluginStatus, shipped: Shipped) -> dict[str, object]:
    return {
        "name": spec.name,
        "plugin": owner.name,
        "distribution": owner.distribution,
        "version": owner.version,
        "schemes": list(spec.schemes),
        "summary": spec.summary,
        "options": {name: {"type": kind, "default": text} for name, kind, text in _options(spec.options)},
        "conformance": {
            "report": _plain(shipped.report),
            "store": _plain(shipped.store),
            "error": shipped.error,
            "remarks": list(shipped.remarks),
        },
    }


def _plain(report: ConformanceReport | None) -> dict[str, object] | None:
    return None if report is None else attrs.asdict(report) | {"date": iso(report.date)}


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
    inner, is_optional = bare(annotation)
    if isinstance(inner, type) and issubclass(inner, Enum):
        choices = " | ".join(json.dumps(str(member.value)) for member in inner)
        return f"{choices} | None" if is_optional else choices
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("datetime.", "")

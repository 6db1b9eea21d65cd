"""The conformance report that an adapter ships: `conformance.json` next to its plugin's module.

It is read as data, and only for loaded plugins, so this imports nothing and does not need the suite.
Whatever is wrong with a report becomes a remark, not an error: the file belongs to somebody else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

import attrs

from kessel_core.errors import StructureProblems
from kessel_core.plugins.status import PluginStatus
from kessel_core.values.converter import structurer

__all__ = ["ConformanceReport", "FILE_NAME", "Shipped", "shipped_report"]


FILE_NAME: Final = "conformance.json"


#: The schema version of reports that is read here.
_SCHEMA: Final = 1


#: In bytes; far more than a report with an example for every case needs.
_LONGEST: Final = 8 * 1024 * 1024


@attrs.frozen(kw_only=True)
class ConformanceReport:
    """The parts of a report that are shown."""

    #: Name of the adapter.
    adapter: str
    #: Version of the suite.
    suite: str
    #: When it ran; aware.
    date: datetime
    #: Whether no case failed.
    passed: bool
    #: Status -> number of cases.
    totals: Mapping[str, int]
    #: Cases of the suite that the run left out.
    not_run: tuple[str, ...] = ()
    distribution: str | None = None
    version: str | None = None
    #: The suite version that counted, if it was not the newest.
    pinned: str | None = None

    def count(self, status: str) -> int:
        """Return how many cases have this status."""
        return self.totals.get(status, 0)


@attrs.frozen(kw_only=True)
class Shipped:
    """What was found next to an adapter."""

    #: The report; None if there is none that can be used.
    report: ConformanceReport | None = None
    #: What a reader should know before trusting it.
    remarks: tuple[str, ...] = ()


class _Damaged(Exception):
    """The report cannot be used."""


def shipped_report(adapter: str, owner: PluginStatus) -> Shipped:
    """Look for the report of an adapter; raises nothing.

    Args:
        adapter: The adapter's name.
        owner: The loaded plugin that offers it.
    """
    try:
        body = _body(owner)
        if body is None:
            return Shipped(remarks=("no report",))
        found = [report for report in _reports(body) if report.adapter == adapter]
    except _Damaged as exc:
        return Shipped(remarks=(f"damaged report: {exc}",))
    if not found:
        return Shipped(remarks=(f"no report: {FILE_NAME} is about another adapter",))
    return Shipped(report=found[0], remarks=tuple(_remarks(found[0], owner)))


def _body(owner: PluginStatus) -> bytes | None:
    """Read the file next to the plugin's module; None if there is none."""
    spec = getattr(sys.modules.get(owner.module.partition(":")[0]), "__spec__", None)
    if spec is None or not spec.parent:
        return (
            None  # a plugin of the application, or a module outside a package: there is no place for a file
        )
    try:
        with files(spec.parent).joinpath(FILE_NAME).open("rb") as file:
            body: bytes = file.read(_LONGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise _Damaged(exc.strerror or type(exc).__name__) from exc
    if len(body) > _LONGEST:
        raise _Damaged(f"longer than {_LONGEST} bytes")
    return body


def _reports(body: bytes) -> Iterator[ConformanceReport]:
    """Read one report, or a list of them: a distribution may hold several adapters."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise _Damaged("it is not JSON") from exc
    structure = structurer(ConformanceReport)
    assert structure is not None
    for one in value if isinstance(value, list) else [value]:
        form = one.get("schema") if isinstance(one, dict) else None
        if isinstance(form, int) and form > _SCHEMA:
            raise _Damaged(f"its form {form} is newer than this kessel-core reads ({_SCHEMA})")
        if form != _SCHEMA:
            raise _Damaged(f"it is not a conformance report of form {_SCHEMA}")
        try:
            yield structure(one)
        except StructureProblems as exc:
            raise _Damaged(str(exc)) from exc


def _remarks(report: ConformanceReport, owner: PluginStatus) -> Iterator[str]:
    if (report.distribution, report.version) != (owner.distribution, owner.version):
        about = f"{report.distribution or 'an unknown distribution'} {report.version or ''}".rstrip()
        yield f"the report is of {about}, installed is {owner.distribution} {owner.version}"
    if report.not_run:
        yield f"incomplete: {len(report.not_run)} cases were not run"
    elif not report.passed:
        yield "it failed"
    if report.pinned not in (None, report.suite):
        yield f"pinned to suite {report.pinned}"
    yield from (
        f"{report.count(status)} {status}" for status in ("advisory", "disabled") if report.count(status)
    )

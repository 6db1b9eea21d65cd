"""The conformance report that an adapter ships: `conformance.json` next to its plugin's module.

It is read as data, and only for loaded plugins, so this imports nothing and does not need the suite.
Whatever is wrong with a report becomes a remark, not an error: the file belongs to somebody else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, Self

import attrs

from kessel_core.errors import StructureProblems
from kessel_core.plugins.status import PluginStatus
from kessel_core.values.converter import structurer
from kessel_core.values.sources import REPORT, sources_of

__all__ = [
    "FILE_NAME",
    "FORM",
    "NEWEST_SUITE",
    "ConformanceReport",
    "ReportedRun",
    "Shipped",
    "shipped_report",
]


FILE_NAME: Final = f"{REPORT}.json"

#: The newest version of the suite whose reports are understood; a test compares it with the suite's.
NEWEST_SUITE: Final = "1.0"

#: The form of reports that is read here.
FORM: Final = 2

#: How a case may end; what else a report counts was added later, and nobody here knows whether it is good.
_STATUSES: Final = frozenset(
    {"pass", "fail", "expected failure", "skip", "not shown", "error", "advisory", "disabled"}
)

#: In bytes; far more than a report with an example for every case needs.
_LONGEST: Final = 8 * 1024 * 1024


@attrs.frozen(kw_only=True)
class ReportedRun:
    """What is shown of one suite class."""

    #: Name of the class; empty: there was none.
    name: str = ""
    #: `virtual` or `real`.
    clock: str
    #: Status -> number of cases.
    totals: Mapping[str, int]
    #: The adapter's address, with its braces.
    url: str | None = None
    #: The server's version.
    server: str | None = None
    #: Declared, but beyond what any run of this suite can show; name -> why.
    unproved: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ConformanceReport:
    """The parts of a report that are shown."""

    #: Name of the adapter; None: it is about a store.
    adapter: str | None = None
    #: Name of the store, where it is about one.
    store: str | None = None
    #: Version of the suite.
    suite: str
    #: When it ran; aware.
    date: datetime
    #: Whether every case ran and none failed, in every run.
    passed: bool
    #: Status -> number of cases; of a case that several runs ran, the worst.
    totals: Mapping[str, int]
    #: Cases of the suite that a run left out.
    not_run: tuple[str, ...] = ()
    #: Declared, but no run looked at it; name -> why.
    not_shown: Mapping[str, str] = attrs.field(factory=dict)
    #: One for each suite class.
    runs: tuple[ReportedRun, ...]
    #: How many planted faults the suite catches, and of how many: `caught`, `planted`.
    mutants: Mapping[str, int] = attrs.field(factory=dict)
    distribution: str | None = None
    version: str | None = None
    #: The package whose sources were checked, and their digest.
    package: str | None = None
    source: str | None = None
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
    #: The report of the store that is beside the jobs; None if the file has none.
    store: ConformanceReport | None = None
    #: Why there is no proof of what is installed: no report, a stale or a failed one; None if there is one.
    error: str | None = None
    #: What a reader should know before trusting it; the error first.
    remarks: tuple[str, ...] = ()

    @classmethod
    def none(cls, why: str) -> Self:
        """Return that there is no report that can be used."""
        return cls(error=why, remarks=(why,))


class _Damaged(Exception):
    """The report cannot be used."""


class _Newer(Exception):
    """The report cannot be understood here."""


def shipped_report(adapter: str, owner: PluginStatus) -> Shipped:
    """Look for the report of an adapter; raises nothing.

    Args:
        adapter: The adapter's name.
        owner: The loaded plugin that offers it.
    """
    try:
        body = _body(owner)
        if body is None:
            return Shipped.none("no report")
        reports = list(_reports(body))
        report = _only([one for one in reports if one.adapter == adapter], "adapter")
        # A store that is kept beside the jobs has the name of the adapter.
        store = _only([one for one in reports if one.store == adapter], "store")
    except _Damaged as exc:
        return Shipped.none(f"damaged report: {exc}")
    except _Newer as exc:
        return Shipped.none(f"report of a newer suite: {exc}; install a newer kessel-core to read it")
    if report is None:
        return Shipped.none(f"no report: {FILE_NAME} is about another adapter")
    errors, weaknesses = [*_errors(report, owner)], [*_weaknesses(report)]
    if store is not None:
        errors += (f"its store: {why}" for why in _errors(store, owner))
        weaknesses += (f"its store: {why}" for why in _weaknesses(store))
    return Shipped(
        report=report, store=store, error="; ".join(errors) or None, remarks=(*errors, *weaknesses)
    )


def _only(found: Sequence[ConformanceReport], about: str) -> ConformanceReport | None:
    """Return the one report, or None if there is none."""
    if len(found) > 1:
        raise _Damaged(f"{FILE_NAME} has {len(found)} about this {about}")
    return found[0] if found else None


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
    """Read one report, or a list of them: a distribution may hold several adapters, and stores."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise _Damaged("it is not JSON") from exc
    structure = structurer(ConformanceReport)
    assert structure is not None
    for one in value if isinstance(value, list) else [value]:
        form = one.get("schema") if isinstance(one, dict) else None
        if isinstance(form, int) and form > FORM:
            raise _Newer(f"its form {form} is newer than this kessel-core reads ({FORM})")
        if form != FORM:
            raise _Damaged(f"it is not a conformance report of form {FORM}")
        try:
            report = structure(one)
        except StructureProblems as exc:
            raise _Damaged(str(exc)) from exc
        if (report.adapter is None) == (report.store is None):
            raise _Damaged("it must name an adapter or a store")
        _refuse_newer(report)
        yield report


def _refuse_newer(report: ConformanceReport) -> None:
    """Refuse what a newer suite wrote: which of its numbers are good ones is not known here."""
    if _numbers(report.suite) > _numbers(NEWEST_SUITE):
        raise _Newer(f"it is of suite {report.suite}, and this kessel-core knows {NEWEST_SUITE}")
    unknown = {status for totals in _totals(report) for status in totals} - _STATUSES
    if unknown:
        raise _Newer(
            f"it counts {', '.join(map(repr, sorted(unknown)))}, which this kessel-core does not know"
        )


def _totals(report: ConformanceReport) -> Iterator[Mapping[str, int]]:
    """Yield the numbers of the whole and of each run: none of them may say more than the others."""
    yield report.totals
    yield from (run.totals for run in report.runs)


def _numbers(version: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, version.split(".")))
    except ValueError as exc:
        raise _Damaged(f"{version!r} is no suite version") from exc


def _errors(report: ConformanceReport, owner: PluginStatus) -> Iterator[str]:
    """Yield why a report proves nothing about what is installed."""
    if not report.passed or any(of.get("fail") or of.get("error") for of in _totals(report)):
        yield f"incomplete: {len(report.not_run)} cases were not run" if report.not_run else "it failed"
    if (report.distribution, report.version) != (owner.distribution, owner.version):
        about = f"{report.distribution or 'an unknown distribution'} {report.version or ''}".rstrip()
        yield f"stale: the report is of {about}, installed is {owner.distribution} {owner.version}"
    elif report.package is None or report.source is None:
        yield "it does not say of which sources it is"
    elif (report.package, report.source) != sources_of(report.package):
        yield f"stale: the sources of {report.package} have changed since"


def _weaknesses(report: ConformanceReport) -> Iterator[str]:
    """Yield what makes a report count for less."""
    if _numbers(report.suite) < _numbers(NEWEST_SUITE):
        yield f"of suite {report.suite}; {NEWEST_SUITE} asks for more"
    if report.pinned not in (None, report.suite):
        yield f"pinned to suite {report.pinned}"
    if report.not_shown:
        yield f"declared, but not shown: {', '.join(report.not_shown)}"
    yield from (
        f"{report.count(status)} {status}" for status in ("advisory", "disabled") if report.count(status)
    )

"""The suite's options for pytest. Thin on purpose: every project that has it installed loads it."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

_HANDED_ON = "kessel_conformance"


def pytest_addoption(parser: Any) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("kessel", "kessel conformance suite")
    group.addoption(
        "--kessel-suite", metavar="VERSION", help="suite version that counts; newer cases are advisory"
    )
    group.addoption(
        "--kessel-budget", choices=("quick", "ci", "thorough"), default="quick", help="how much is generated"
    )
    group.addoption("--kessel-seed", type=int, default=0, metavar="N", help="seed of what is generated")
    group.addoption(
        "--kessel-no-shrink", action="store_true", help="do not shorten failing plans on a virtual clock"
    )
    group.addoption(
        "--kessel-shrink", action="store_true", help="shorten them on a real clock, too; takes minutes"
    )
    group.addoption(
        "--kessel-report",
        metavar="FILE.json",
        help="write the conformance report as JSON, with .md and .badge.json beside it",
    )


def pytest_configure(config: Any) -> None:
    """Refuse wrong options before anything runs."""
    suite, report = config.getoption("kessel_suite"), config.getoption("kessel_report")
    if suite is None and report is None:
        return
    from kessel_conformance.catalogue import known_version
    from kessel_conformance.report import checked_path

    for option, value, check in (
        ("--kessel-suite", suite, known_version),
        ("--kessel-report", report, checked_path),
    ):
        try:
            if value is not None:
                check(value)
        except ValueError as exc:
            raise pytest.UsageError(f"{option}: {exc}") from exc


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> Any:
    """Skip a test of an author's own whose server is missing, as those of the suite are."""
    try:
        return (yield)
    except Exception as exc:
        base = sys.modules.get("kessel_conformance.harness_base")
        if base is None or not isinstance(exc, base.ServerMissing):
            raise
        from kessel_conformance.runner import under_ci

        if under_ci() or pyfuncitem.config.getoption("kessel_report", None) is not None:
            raise
        pytest.skip(f"the server is missing: {exc}")


class _Session:
    """What the processes of one session found out; empty in each at its start."""

    def __init__(self) -> None:
        #: What was run, as parts of the report.
        self.parts: list[Any] = []
        #: The suite classes that are there, run or not.
        self.classes: set[str] = set()
        #: Why the report was not written; None if it was.
        self.error: str | None = None


_SESSION: pytest.StashKey[_Session] = pytest.StashKey()


def _session_of(config: Any) -> _Session:
    found: _Session = config.stash.setdefault(_SESSION, _Session())
    return found


def _report_path(config: Any) -> Any:
    """Return where the report goes, in the process that writes it; None if there is none."""
    wanted = config.getoption("kessel_report", None)
    if wanted is None or config.getoption("collectonly", False) or hasattr(config, "workerinput"):
        return None
    from kessel_conformance.report import checked_path

    return checked_path(wanted)


def pytest_sessionstart(session: Any) -> None:
    """Remove the report of an earlier run: nobody can then take it for one of this run."""
    if (path := _report_path(session.config)) is not None:
        from kessel_conformance.report import discard

        try:
            discard(path)
        except OSError as exc:
            raise pytest.UsageError(f"--kessel-report: the earlier report cannot be removed: {exc}") from exc


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: Any, items: Any) -> None:
    """Note which suite classes there are, before some are left out."""
    if (suite := sys.modules.get("kessel_conformance.suite")) is not None:
        _session_of(config).classes.update(suite.classes_beside(items))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker process of pytest-xdist found out."""
    found = json.loads(getattr(node, "workeroutput", {}).get(_HANDED_ON, "{}"))
    session = _session_of(node.config)
    session.parts += found.get("parts", ())
    session.classes.update(found.get("classes", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: Any) -> None:
    """Write the report, if one is wanted; a worker process hands on what it knows to the main one."""
    config = session.config
    found = _session_of(config)
    if (suite := sys.modules.get("kessel_conformance.suite")) is not None:
        found.parts += suite.parts_of(config)
    if hasattr(config, "workeroutput"):
        known = {"parts": found.parts, "classes": sorted(found.classes)}
        config.workeroutput[_HANDED_ON] = json.dumps(known)
        return
    if (path := _report_path(config)) is None:
        return
    from kessel_conformance.report import reports, write_reports

    silent = found.classes - {one["key"] for one in found.parts}
    if not found.parts:
        found.error = "no suite ran"
    elif silent:
        found.error = f"nothing of {', '.join(sorted(silent))} ran, and it may not be silent about that"
    else:
        try:
            write_reports(reports(found.parts), path)
        except OSError as exc:
            found.error = f"it cannot be written: {exc}"
    if found.error is not None and session.exitstatus in (
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED  # it was asked for


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Say what is declared but was not looked at, and what became of the report."""
    found = _session_of(config)
    if found.parts:
        from kessel_conformance.page import kind_of
        from kessel_conformance.report import reports

        for one in reports(found.parts):
            about = one[kind_of(one)]
            for name, reason in one["not_shown"].items():
                line = f"kessel conformance of {about}: {name} is declared, but not shown: {reason}"
                terminalreporter.write_line(line, yellow=True)
    path = _report_path(config)
    if path is None:
        return
    if found.error is None:
        terminalreporter.write_line(f"kessel conformance report: {path}")
    else:
        terminalreporter.write_line(f"error: {path} was not written: {found.error}", red=True)

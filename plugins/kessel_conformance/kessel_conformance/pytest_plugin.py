"""The suite's options for pytest. Thin on purpose: every project that has it installed loads it."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

_REPORTS = "kessel_conformance_reports"


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


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the reports of a worker process of pytest-xdist."""
    _collected(node.config).extend(json.loads(getattr(node, "workeroutput", {}).get(_REPORTS, "[]")))


def _collected(config: Any) -> list[Any]:
    if not hasattr(config, _REPORTS):
        setattr(config, _REPORTS, [])
    found: list[Any] = getattr(config, _REPORTS)
    return found


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: Any) -> None:
    """Write the report, if one is wanted; a worker process hands its part to the main one."""
    config = session.config
    if config.getoption("kessel_report", None) is None:
        return
    from kessel_conformance import report

    found = _collected(config)
    if (suite := sys.modules.get("kessel_conformance.suite")) is not None:
        found += map(report.report, config.stash.get(suite.RUNS, []))
    if hasattr(config, "workeroutput"):
        config.workeroutput[_REPORTS] = json.dumps(found)
        return
    try:
        report.write_reports(report.merged(found), report.checked_path(config.getoption("kessel_report")))
    except OSError as exc:
        pytest.exit(
            f"the conformance report cannot be written: {exc}", returncode=pytest.ExitCode.USAGE_ERROR
        )


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Say what became of the report."""
    path = config.getoption("kessel_report", None)
    if path is None:
        return
    if _collected(config):
        terminalreporter.write_line(f"kessel conformance report: {path}")
    else:
        terminalreporter.write_line(f"no suite ran, so {path} was not written", yellow=True)

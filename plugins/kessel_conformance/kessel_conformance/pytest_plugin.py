"""The suite's options for pytest. Thin on purpose: every project that has it installed loads it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


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
    group.addoption("--kessel-no-shrink", action="store_true", help="do not shorten failing plans")
    group.addoption(
        "--kessel-report",
        metavar="FILE",
        help="write the conformance report as JSON, with .md and badge beside it",
    )


def pytest_sessionfinish(session: Any) -> None:
    """Write the report, if the suite was used and a report is wanted."""
    path = session.config.getoption("kessel_report", None)
    suite = sys.modules.get("kessel_conformance.suite")
    if path is None or suite is None:
        return
    from kessel_conformance.report import write_reports

    write_reports(session.config.stash.get(suite.RUNS, []), Path(path))

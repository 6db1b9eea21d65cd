"""Which tests run which lines, from a record of coverage; and how such a record is made."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from copies import a_copy
from coverage import CoverageData
from faults import ROOT, Fault

__all__ = ["LEFT_BY_MAKE_TEST", "RECORD", "Cover", "record"]

BUILD: Final = ROOT / "build" / "mutate"
#: What `record` writes: the lines that each test runs, also in programs that it starts.
RECORD: Final = BUILD / "coverage"
#: Lines of `[test, seconds, whether it failed]`.
SECONDS: Final = BUILD / "seconds.jsonl"
#: The same of the test process alone.
LEFT_BY_MAKE_TEST: Final = ROOT / ".coverage"
#: Tests that read pages, or measure the conformance suite itself.
NOT_ASKED: Final = ("tests/wheels/", "tests/conformance/", "tests/docs/")
MEASURED: Final = (
    "kessel_core",
    *(
        f"plugins/kessel_{name}/kessel_{name}"
        for name in ("memory", "sqlite", "beanstalk", "postgres", "redis")
    ),
)


def record(jobs: int) -> None:
    """Run the tests under coverage, programs that they start included; takes some minutes."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with a_copy() as (copy, environment):
        data = copy.parent / "record"
        data.mkdir()
        settings = copy.parent / "coveragerc"
        settings.write_text(
            "[run]\nparallel = true\nrelative_files = true\nsigterm = true\n"
            f"data_file = {data}/coverage\n"
            "context = ${PYTEST_CURRENT_TEST-}\n"  # of a program that a test starts
            f"source =\n" + "".join(f"  {copy}/{package}\n" for package in MEASURED)
        )
        SECONDS.unlink(missing_ok=True)
        asked = ["tests", "plugins", *(f"--ignore={folder}" for folder in NOT_ASKED)]
        run = [sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "-p", "no:cacheprovider", "-p", "judge"]
        recording = {
            **environment,
            "COVERAGE_PROCESS_START": str(settings),
            "KESSEL_JUDGE_TIMES": str(SECONDS),
        }
        subprocess.run([*run, *asked], cwd=copy, env=recording, check=False)
        combine = [sys.executable, "-m", "coverage", "combine", f"--rcfile={settings}", "--quiet"]
        subprocess.run(combine, cwd=copy, env=environment, check=True)
        shutil.copy(data / "coverage", RECORD)


class Cover:
    """Which tests run which lines.

    Args:
        source: A record with one context for each test.
        faults: What will be asked for.
        most: How many tests of the record are named for a fault, the likeliest; None: all.
    """

    def __init__(self, source: Path, faults: Iterable[Fault], most: int | None = None) -> None:
        self._most = most
        #: For each file and line, the tests that ran it.
        self._tests: dict[str, dict[int, set[str]]] = {}
        #: How many lines each test ran, in all and in each file.
        self._lines: Counter[str] = Counter()
        self._lines_of: dict[str, Counter[str]] = defaultdict(Counter)
        self._read(source, {fault.file for fault in faults})
        recorded = source.stat().st_mtime
        #: Files of tests that are newer than the record.
        self._newer = [
            file
            for folder in ("tests", "plugins")
            for path in sorted((ROOT / folder).rglob("test_*.py"))
            if path.stat().st_mtime > recorded
            and not (file := path.relative_to(ROOT).as_posix()).startswith(NOT_ASKED)
        ]
        self._seconds: Counter[str] = Counter()
        if SECONDS.exists():
            for name, seconds, _ in map(json.loads, SECONDS.read_text().splitlines()):
                self._seconds[name] += seconds
        #: How often a test has noticed something in a function.
        self._noticed: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def _read(self, source: Path, wanted: set[str]) -> None:
        data = CoverageData(str(source))
        data.read()
        for name in data.measured_files():
            path = Path(name)
            if path.is_absolute() and not path.is_relative_to(ROOT):
                continue
            file = path.relative_to(ROOT).as_posix() if path.is_absolute() else name
            by_line = {
                line: {test for context in contexts if (test := _test_of(context))}
                for line, contexts in data.contexts_by_lineno(name).items()
            }
            for tests in by_line.values():
                self._lines.update(tests)
                if file in wanted:
                    self._lines_of[file].update(tests)
            if file in wanted:
                self._tests[file] = by_line

    @property
    def test_files(self) -> list[str]:
        """All files with tests that may be asked."""
        tests = set().union(*(names for by_line in self._tests.values() for names in by_line.values()))
        files = {test.partition("::")[0] for test in tests} | set(self._newer)
        return sorted(file for file in files if (ROOT / file).exists())

    def noticed(self, fault: Fault, test: str) -> None:
        """Ask this test sooner when the same function is at fault again."""
        self._noticed[fault.file, fault.symbol][test] += 1

    def tests_of(self, fault: Fault, collected: dict[str, list[str]]) -> list[str]:
        """Return the tests that may notice a fault, the likeliest first.

        Args:
            fault: What is at fault.
            collected: The tests of each file as they are now; those that are not in the record are asked.
        """
        by_line = self._tests.get(fault.file, {})
        tests: set[str] = set()
        if fault.symbol:
            tests = tests.union(*(by_line.get(n, ()) for n in range(fault.lines[0], fault.lines[1] + 1)))
        if not tests:  # it is run at the import, or by no test that was recorded
            tests = tests.union(*by_line.values())
        new = {test for file in self._newer for test in collected.get(file, ()) if test not in self._lines}
        noticed, lines = self._noticed[fault.file, fault.symbol], self._lines_of[fault.file]

        def rank(test: str) -> tuple[object, ...]:
            about_it = lines[test] / (self._lines[test] or 1)
            return -noticed[test], -about_it / (0.05 + self._seconds[test]), test

        return sorted(tests, key=rank)[: self._most] + sorted(new, key=rank)


def _test_of(context: str) -> str:
    """Return the test of a context: of pytest-cov, or of the record, where programs have a phase, too."""
    name = context.rpartition("|")[0] if context.endswith(("|run", "|setup", "|teardown")) else context
    return re.sub(r" \((call|setup|teardown)\)$", "", name)

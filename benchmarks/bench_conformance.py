"""Measure the cost of the suite where it is not used: its pytest plugin loads in every project.

Usage: python benchmarks/bench_conformance.py [--quick] [--check]

Two views, each next to its floor, with both sides taking turns: the import of the plugin in an interpreter
that has just imported pytest, and the CPU time of pytest for one empty test, with the plugin and with one
that does nothing.
`--check` exits with 1 if the target is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

#: Milliseconds that the import may take when the suite is not used.
TARGET = 5.0

IMPORTS = """
import time
begin = time.perf_counter()
import pytest
between = time.perf_counter()
import kessel_conformance.pytest_plugin
end = time.perf_counter()
print((between - begin) * 1e3, (end - between) * 1e3)
"""


def environment(*, plugins: bool) -> dict[str, str]:
    """Return an environment with compiled modules, as for installed programs, and without other plugins."""
    found = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return found if plugins else {**found, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def imports() -> tuple[float, float]:
    """Return the milliseconds of `import pytest`, and of the plugin after it."""
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(plugins=True))
    pytest_ms, plugin_ms = map(float, done.stdout.split())
    return pytest_ms, plugin_ms


def run(folder: Path, plugin: str) -> float:
    """Return the milliseconds of CPU time of pytest for one empty test."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", plugin, str(folder)]
    before = used_by_children()
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment(plugins=False))
    return (used_by_children() - before) * 1e3


def used_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds; figures are rough")
    parser.add_argument("--check", action="store_true", help="exit with 1 if the target is missed")
    arguments = parser.parse_args()
    rounds = 5 if arguments.quick else 25
    floors: list[float] = []
    costs: list[float] = []
    without: list[float] = []
    with_it: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_nothing.py").write_text("def test_nothing(): pass\n")
        (folder / "nothing.py").write_text("def pytest_addoption(parser): pass\n")
        for number in range(rounds + 1):
            floor, cost = imports()
            bare, loaded = run(folder, "nothing"), run(folder, "kessel_conformance.pytest_plugin")
            if number:  # the first round compiles
                floors.append(floor)
                costs.append(cost)
                without.append(bare)
                with_it.append(loaded)
    cost = statistics.median(costs)
    difference = statistics.median(b - a for a, b in zip(without, with_it, strict=True))
    met = cost < TARGET
    target = f"target under {TARGET:g} ms: {'met' if met else 'MISSED'}"
    print(f"import pytest, the floor:                      {statistics.median(floors):7.2f} ms")
    print(f"import of the suite's plugin after it:         {cost:7.2f} ms ({target})")
    print(f"pytest over one test, plugin that does nothing: {statistics.median(without):6.2f} ms")
    print(f"the same with the suite's plugin:              {difference:+7.2f} ms, median of the differences")
    return 1 if arguments.check and not met else 0


if __name__ == "__main__":
    sys.exit(main())

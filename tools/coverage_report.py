"""Combine the coverage of all test processes, print it, and check the bound of each package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Lines and branches together, in percent.
BOUNDS = {"kessel_core": 95, "kessel_memory": 95}


def main() -> int:
    coverage = [sys.executable, "-m", "coverage"]
    if list(Path().glob(".coverage.*")):
        subprocess.run([*coverage, "combine", "--append", "--quiet"], check=False)
    worst = 0
    for package, bound in BOUNDS.items():
        print(f"\ncoverage of {package}, lines and branches; at least {bound} %", flush=True)
        report = [*coverage, "report", f"--include=*/{package}/*", f"--fail-under={bound}"]
        worst = max(worst, subprocess.run(report, check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())

"""Run the conformance suite for every adapter of this repository and its store, and publish the reports.

Usage: python tools/conformance.py [--budget ci] [PACKAGE...]

The reports go to docs/reference/conformance/ and, as JSON, into the package of each adapter, so that
its wheel ships it. Nothing is written unless all of them pass.
"""

from __future__ import annotations

# ruff: noqa: E501  # whole sentences, as they stand on the page
import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kessel_conformance.page import kind_of, summary
from kessel_conformance.report import write_reports

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "reference" / "conformance"
PAGE = ROOT / "docs" / "reference" / "conformance.md"
#: Package of each adapter -> its wiring, and that of its store.
WIRINGS = {
    path.parents[1].name: [path, *path.parent.glob("test_*_store_suite.py")]
    for path in sorted(ROOT.glob("plugins/*/tests/test_*_conformance.py"))
}

ABOUT = """\
# Conformance of the adapters of this repository

`make conformance` runs the whole suite on each adapter, and that of stores on what it keeps beside the jobs; the reports are here, and in its wheel, where `kessel adapters` finds them.
A case that is *not applicable* is about a capability that the adapter does not declare, or a facet that it does not have; other cases check that what is missing is refused.
What is declared, but could not be looked at, is *not shown*.
*Expected* failures and *disabled* cases have a reason, which the page of the adapter gives.
[The clauses](clauses.md) say what each case checks, [the matrix](conformance-matrix.md) what each catches.

"""
FORM = """
## The form of a report

A report is about one adapter or one store; `NAME.json` is one object, or a list of them if several were checked together.
`schema` is the version of the form, now 2; fields may be added to it, and readers ignore what they do not know.

| field | meaning |
|---|---|
| `date` | when the run ended, in UTC |
| `suite`, `pinned` | version of the catalogue; the version that counted, if the run was pinned |
| `mutants` | `caught` of `planted` faults: how many one-fault copies of a correct adapter this suite version fails |
| `adapter` or `store`, `distribution`, `version` | what was checked |
| `package`, `source` | the package whose sources were checked, and their digest: a report of other sources is stale |
| `core`, `conformance`, `python`, `platform` | versions of what it ran with |
| `budget`, `seed`, `seconds` | how it was checked, and how long that took |
| `runs` | one for each suite class of the adapter, as below |
| `passed` | in every run every case of the suite ran, and none ended as `fail` or `error` |
| `not_run` | cases that a run left out, as `pytest -k` does |
| `not_shown` | capability or facet -> why: declared, but no run looked at it; empty where cases were left out |
| `totals` | status -> number of cases; of a case that several runs ran, the worst counts |

| field of a run | meaning |
|---|---|
| `name` | the suite class |
| `url` | address of the adapter, with its braces, without passwords |
| `server` | version of its server |
| `clock` | `virtual` or `real` |
| `capabilities` | what the adapter declares; spans in seconds, null or false: not declared |
| `declared`, `facets` | names of the capabilities that promise something; of the facets that it has |
| `unproved` | name -> why: declared, but beyond what any run of this suite can show, as that jobs survive a loss of power, or what a store keeps |
| `seconds`, `passed`, `not_run`, `not_shown`, `totals` | as above, of this run |
| `cases` | for each: `id`, `clauses`, `level`, `since` (suite version), `shows` (capabilities and facets), `status`, `reason`, `example`, `seconds` |

| status | meaning |
|---|---|
| `pass`, `fail` | the adapter keeps the clause, or breaks it; a pass that has a `reason` was repeated on a busy machine, or ran on a server that stands still; `example` holds the shortest plan found, with its times |
| `expected failure` | listed by the author with a reason, and it did fail |
| `skip` | not applicable: `reason` says for which adapters it is |
| `not shown` | what it looks at is declared, but this run could not look; `reason` says what to do |
| `error` | the server or the harness failed, not the adapter |
| `advisory` | it failed, but is newer than the pinned suite |
| `disabled` | left out by the author, with a reason |

`NAME.badge.json` is what an [endpoint badge of shields.io](https://shields.io/badges/endpoint-badge) is drawn from, always one object: green; yellow-green with expected failures, disabled or advisory cases, or something that is not shown; grey if cases did not run; red.
The worst suite class decides.

A report names no host, user or path of the machine that it was made on.
"""


def page(reports: list[dict[str, Any]]) -> str:
    """Return the page that lists the reports."""
    lines = ["| of | distribution | server | suite | budget | clock | date | result |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for found in reports:
        kind = kind_of(found)
        name = found[kind]
        cells = (
            f"[{'store of ' if kind == 'store' else ''}{name}](conformance/{name}.md)",
            f"{found['distribution']} {found['version']}",
            ", ".join(filter(None, (run["server"] for run in found["runs"]))),
            found["suite"],
            found["budget"],
            ", ".join(dict.fromkeys(run["clock"] for run in found["runs"])),
            found["date"][:10],
            f"{summary(found)} ([JSON](conformance/{name}.json))",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return ABOUT + "\n".join(lines) + "\n" + FORM


def run(wiring: Sequence[Path], budget: str, folder: Path) -> list[dict[str, Any]] | None:
    """Run the suites with the wiring of one package; None if they failed."""
    path = folder / "report.json"
    options = ["--kessel-budget", budget, "--kessel-report", str(path)]
    done = subprocess.run(
        # Alone and in order, so that the times in the report are those of the adapter.
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:randomly", *options, *map(str, wiring)],
        cwd=ROOT,
        env={**os.environ, "CI": "1"},  # a missing server is an error
        check=False,
    )
    if done.returncode != 0:
        return None
    return reports_in(path)


def reports_in(path: Path) -> list[dict[str, Any]]:
    """Return the reports of a file, that of the adapter first."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return sorted(found if isinstance(found, list) else [found], key=kind_of)


def publish(reports: dict[str, list[dict[str, Any]]]) -> None:
    """Write the reports and the page that lists them."""
    for package, found in reports.items():
        path = DOCS / f"{found[0]['adapter']}.json"
        write_reports(found, path)
        shipped = ROOT / "plugins" / package / package / "conformance.json"
        shipped.write_bytes(path.read_bytes())
    paths = [path for path in sorted(DOCS.glob("*.json")) if not path.name.endswith(".badge.json")]
    PAGE.write_text(page([one for path in paths for one in reports_in(path)]), encoding="utf-8")


def main() -> int:
    """Run and publish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--budget", choices=("quick", "ci", "thorough"), default="ci")
    parser.add_argument("packages", metavar="PACKAGE", nargs="*", default=list(WIRINGS), help="default: all")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.packages if name not in WIRINGS]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(WIRINGS)}")
    reports: dict[str, list[dict[str, Any]]] = {}
    for package in arguments.packages:
        print(f"== {package}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found = run(WIRINGS[package], arguments.budget, Path(folder))
        if found is None or not all(one["passed"] for one in found):
            print(f"{package} does not conform; no report was written", file=sys.stderr)
            return 1
        reports[package] = found
    publish(reports)
    return 0


if __name__ == "__main__":
    sys.exit(main())

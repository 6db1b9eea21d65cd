"""The report: versioned JSON, a page in Markdown, and a badge."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import attrs

from kessel_conformance.catalogue import SUITE_VERSION, Level
from kessel_conformance.runner import Run, Verdict
from kessel_core.adapter import redacted

__all__ = ["SCHEMA", "badge", "markdown", "report", "write_reports"]

#: Version of the report's form.
SCHEMA: Final = 1


def report(run: Run) -> dict[str, Any]:
    """Return everything about a run, ready for JSON."""
    harness = run.harness
    declared = attrs.asdict(harness.capabilities, recurse=False)
    distribution, version = _distribution(harness.module)
    outcomes = list(run.outcomes.values())
    counted = Counter(str(outcome.verdict) for outcome in outcomes)
    return {
        "schema": SCHEMA,
        "suite": SUITE_VERSION,
        "pinned": run.settings.suite,
        "adapter": harness.adapter_name,
        "distribution": distribution,
        "version": version,
        "server": harness.version,
        "url": redacted(harness.url) if harness.url is not None else None,
        "capabilities": {name: _plain(value) for name, value in declared.items()},
        "clock": "virtual" if harness.virtual else "real",
        "budget": run.settings.budget,
        "seed": run.settings.seed,
        "python": platform.python_version(),
        "platform": platform.system(),
        "core": _version("kessel-core"),
        "seconds": round(run.seconds, 3),
        "passed": all(outcome.ok for outcome in outcomes),
        "totals": {str(verdict): counted.get(str(verdict), 0) for verdict in Verdict},
        "cases": [
            {
                "id": outcome.case.id,
                "clauses": list(outcome.case.clauses),
                "level": str(outcome.case.level),
                "status": str(outcome.verdict),
                "reason": outcome.reason,
                "seconds": round(outcome.seconds, 4),
            }
            for outcome in sorted(outcomes, key=lambda outcome: outcome.case.id)
        ],
    }


def markdown(found: dict[str, Any]) -> str:
    """Return a report as a page."""
    lines = [
        f"# Conformance of {found['adapter']}",
        "",
        f"Suite {found['suite']}, budget {found['budget']}, {found['clock']} clock, seed {found['seed']}: "
        f"**{'passed' if found['passed'] else 'failed'}**.",
        "",
        "| case | clauses | level | status | why |",
        "|---|---|---|---|---|",
    ]
    for entry in found["cases"]:
        why = entry["reason"].splitlines()[0] if entry["reason"] else ""
        why = why.replace("|", "\\|")
        lines.append(
            f"| `{entry['id']}` | {' '.join(entry['clauses'])} | {entry['level']} | {entry['status']} | {why} |"  # noqa: E501  # one line of text
        )
    lines += ["", "| capability | declared |", "|---|---|"]
    lines += [f"| `{name}` | {value} |" for name, value in found["capabilities"].items()]
    return "\n".join(lines) + "\n"


def badge(found: dict[str, Any]) -> dict[str, Any]:
    """Return what shields.io draws a badge from."""
    if not found["passed"]:
        return {"schemaVersion": 1, "label": "kessel conformance", "message": "failing", "color": "red"}
    capable = sum(e["level"] == Level.CAPABILITY and e["status"] == Verdict.PASS for e in found["cases"])
    message = f"{found['suite']} core + {capable} capability cases"
    return {"schemaVersion": 1, "label": "kessel conformance", "message": message, "color": "green"}


def write_reports(runs: Sequence[Run], path: Path) -> None:
    """Write the JSON; beside it the page and the badge. Several runs become a list."""
    found = [report(run) for run in runs]
    if not found:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found[0] if len(found) == 1 else found, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text("\n".join(map(markdown, found)), encoding="utf-8")
    badges = [badge(one) for one in found]
    path.with_suffix(".badge.json").write_text(
        json.dumps(badges[0] if len(badges) == 1 else badges) + "\n", encoding="utf-8"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return str(value.value)
    return list(value) if isinstance(value, tuple) else value


def _distribution(module: str | None) -> tuple[str | None, str | None]:
    if module is None:
        return None, None
    owners = metadata.packages_distributions().get(module.partition(".")[0], [])
    return (owners[0], _version(owners[0])) if owners else (None, None)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None

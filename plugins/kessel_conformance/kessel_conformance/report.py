"""The report: versioned JSON, with a page in Markdown and a badge beside it.

It is published, so it holds nothing of the machine: no host, no user, no path.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import attrs

from kessel_conformance.catalogue import SUITE_VERSION, cases
from kessel_conformance.page import badge, markdown
from kessel_conformance.runner import FAILING, Outcome, Run, Verdict
from kessel_core.contract import redacted, without_secrets
from kessel_core.hooks import GROUP

__all__ = ["SCHEMA", "checked_path", "merged", "report", "write_reports"]

#: Version of the report's form.
SCHEMA: Final = 1

#: What distinguishes the harnesses of one test session.
_IDENTITY: Final = ("adapter", "distribution", "url", "clock", "budget", "seed", "pinned")


def report(run: Run) -> dict[str, Any]:
    """Return everything about a run, ready for JSON."""
    harness = run.harness
    declared = attrs.asdict(harness.capabilities, recurse=False)
    distribution, version = _distribution(harness.module)
    header = {
        "schema": SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "suite": SUITE_VERSION,
        "pinned": run.settings.suite,
        "adapter": harness.adapter_name,
        "distribution": distribution,
        "version": version,
        "server": harness.version,
        "url": _anywhere(redacted(harness.url)) if harness.url is not None else None,
        "capabilities": {name: _plain(value) for name, value in declared.items()},
        "facets": sorted(kind.facet_name for kind in harness.facets),
        "clock": "virtual" if harness.virtual else "real",
        "budget": run.settings.budget,
        "seed": run.settings.seed,
        "python": platform.python_version(),
        "platform": platform.system(),
        "core": _version("kessel-core"),
        "conformance": _version("kessel-conformance"),
        "seconds": round(run.seconds, 3),
    }
    return _summed(header, [_entry(outcome) for outcome in run.outcomes.values()])


def _entry(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.case.id,
        "clauses": list(outcome.case.clauses),
        "level": str(outcome.case.level),
        "since": outcome.case.since,
        "status": str(outcome.verdict),
        "reason": _anywhere(outcome.reason),
        "example": _anywhere(outcome.example) or None,
        "seconds": round(outcome.seconds, 4),
    }


def _summed(header: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, Any]:
    counted = Counter(entry["status"] for entry in entries)
    not_run = sorted(cases().keys() - {entry["id"] for entry in entries})
    return header | {
        "passed": not not_run and not any(counted[verdict] for verdict in FAILING),
        "not_run": not_run,
        "totals": {str(verdict): counted[verdict] for verdict in Verdict},
        "cases": sorted(entries, key=lambda entry: entry["id"]),
    }


def merged(reports: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the parts of a run that was spread over several processes."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for part in reports:
        key = tuple(part[name] for name in _IDENTITY)
        whole = found.setdefault(key, part)
        if whole is part:
            continue
        entries = {entry["id"]: entry for entry in whole["cases"]}
        for entry in part["cases"]:
            if entry["id"] not in entries or entry["status"] in FAILING:
                entries[entry["id"]] = entry
        seconds = max(whole["seconds"], part["seconds"])
        found[key] = _summed(whole | {"seconds": seconds}, list(entries.values()))
    return list(found.values())


def checked_path(text: str | Path) -> Path:
    """Return where a report is to go; said before the run, which takes a while.

    Raises:
        ValueError: No report can be written there.
    """
    path = Path(text)
    if path.suffix != ".json":
        raise ValueError(f"{str(path)!r} must end in .json; the page and the badge are written beside it")
    nearest = next(folder for folder in (path.parent, *path.parent.absolute().parents) if folder.exists())
    if path.is_dir() or not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"{str(path)!r} cannot be written")
    return path


def write_reports(reports: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the JSON; beside it the page and the badge. Several reports become a list.

    Raises:
        OSError: A file cannot be written.
    """
    if not reports:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    badges = [badge(one) for one in reports]
    one = len(reports) == 1
    _write(path, json.dumps(reports[0] if one else reports, indent=2))
    _write(path.with_suffix(".badge.json"), json.dumps(badges[0] if one else badges))
    _write(path.with_suffix(".md"), "\n".join(map(markdown, reports)).rstrip("\n"))


def _write(path: Path, text: str) -> None:
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return str(value.value)
    return list(value) if isinstance(value, tuple) else value


def _anywhere(text: str) -> str:
    """Take out secrets, and where things lie on this machine; the longest first: one holds another."""
    text = without_secrets(text)
    places = {
        str(Path.cwd()): ".",
        sys.prefix: "PYTHON",
        sys.base_prefix: "PYTHON",
        tempfile.gettempdir(): "TMP",
        str(Path.home()): "~",
    }
    for place in sorted(places, key=len, reverse=True):
        if len(place) > 1:
            text = text.replace(place, places[place])
    return text


def _distribution(module: str | None) -> tuple[str | None, str | None]:
    """Find the distribution of an adapter's module by its plugin, or else by its files.

    An editable installation names no files, so the plugin comes first.
    """
    if module is None:
        return None, None
    top = module.partition(".")[0]
    for entry in metadata.entry_points(group=GROUP):
        if entry.dist is not None and entry.module.partition(".")[0] == top:
            return entry.dist.name, entry.dist.version
    owners = metadata.packages_distributions().get(top, [])
    return (owners[0], _version(owners[0])) if owners else (None, None)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None

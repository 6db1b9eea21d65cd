"""The report: versioned JSON, with a page in Markdown and a badge beside it.

One report is about one adapter or one store. Each suite class of it is a run in the report, and the worst run
decides.
It is published, so it holds nothing of the machine: no host, no user, no path.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import attrs

from kessel_conformance.catalogue import SUITE_VERSION, catalogue_of
from kessel_conformance.outcome import FAILING, Outcome, Verdict
from kessel_conformance.page import badge, kind_of, markdown
from kessel_conformance.runner import Run
from kessel_core.contract import (
    Capabilities,
    Durability,
    Reach,
    Store,
    StoreCapabilities,
    redacted,
    without_secrets,
)
from kessel_core.hooks import GROUP, sources_of

__all__ = ["SCHEMA", "checked_path", "discard", "part", "report", "reports", "write_reports"]

#: Version of the report's form.
SCHEMA: Final = 2

#: What several runs of one case come to: the first of these that one of them is. A run that looked at
#: something shows it, also for one that could not.
_WORST_FIRST: Final = (
    Verdict.ERROR,
    Verdict.FAIL,
    Verdict.XFAIL,
    Verdict.DISABLED,
    Verdict.ADVISORY,
    Verdict.PASS,
    Verdict.NOT_SHOWN,
    Verdict.SKIP,
)
#: A case that ended so looked at what it shows.
_LOOKED: Final = frozenset({Verdict.PASS, Verdict.FAIL, Verdict.XFAIL, Verdict.ADVISORY})
_POWER: Final = "power: no run can cut the power; process-crash is the most that can be shown"
_STORE: Final = "the cases of adapters look only at what jobs write into it; StoreConformance proves it"


def report(run: Run, name: str = "") -> dict[str, Any]:
    """Return everything about one run, ready for JSON.

    Args:
        run: It has ended.
        name: Name of the suite class, empty if there is none.
    """
    (one,) = reports([part(run, name)])
    return one


def part(run: Run, name: str = "", key: str = "") -> dict[str, Any]:
    """Return what one process knows about a run, ready for JSON; `reports` joins such parts.

    Args:
        run: It has ended.
        name: Name of the suite class, as it is published.
        key: What tells the suite class from others of that name; it is not published.
    """
    harness = run.harness
    declared = attrs.asdict(harness.capabilities, recurse=False)
    distribution, version = _distribution(harness.module)
    sources = sources_of(harness.module) if harness.module is not None else None
    caught, planted = harness.strength()
    return {
        "key": key or name,
        "header": {
            "schema": SCHEMA,
            "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "suite": SUITE_VERSION,
            "pinned": run.settings.suite,
            "mutants": {"caught": caught, "planted": planted},
            harness.kind: harness.opened_name,
            "distribution": distribution,
            "version": version,
            "package": None if sources is None else sources[0],
            "source": None if sources is None else sources[1],
            "budget": run.settings.budget,
            "seed": run.settings.seed,
            "python": platform.python_version(),
            "platform": platform.system(),
            "core": _version("kessel-core"),
            "conformance": _version("kessel-conformance"),
        },
        "run": {
            "name": name,
            "url": _anywhere(redacted(harness.url)) if harness.url is not None else None,
            "server": harness.version,
            "clock": "virtual" if harness.virtual else "real",
            "capabilities": {field: _plain(value) for field, value in declared.items()},
            "declared": _promised(harness.capabilities),
            "facets": sorted(kind.facet_name for kind in harness.facets),
            "seconds": round(run.seconds, 3),
            "cases": [_entry(outcome) for outcome in run.outcomes.values()],
        },
    }


def _promised(capabilities: Capabilities | StoreCapabilities) -> list[str]:
    """Return the names of what is declared; a reach of one process promises nothing to anybody else."""
    alone = capabilities.reach is Reach.PROCESS
    return [name for name in capabilities.declared() if not (alone and name == "reach")]


def _entry(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.case.id,
        "clauses": list(outcome.case.clauses),
        "level": str(outcome.case.level),
        "since": outcome.case.since,
        "shows": list(outcome.shows),
        "status": str(outcome.verdict),
        "reason": _anywhere(outcome.reason),
        "example": _anywhere(outcome.example) or None,
        "seconds": round(outcome.seconds, 4),
    }


# --- joining -----------------------------------------------------------------------------------


def reports(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one report for each adapter and store, of parts of its runs, perhaps of several processes."""
    subjects: dict[tuple[str, str, str | None], list[dict[str, Any]]] = {}
    for one in parts:
        header, kind = one["header"], kind_of(one["header"])
        subjects.setdefault((kind, header[kind], header["distribution"]), []).append(one)
    return [_of_one(of_one) for of_one in subjects.values()]


def _of_one(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    by_class: dict[str, list[dict[str, Any]]] = {}
    for one in parts:
        by_class.setdefault(one["key"], []).append(one["run"])
    header: dict[str, Any] = max((one["header"] for one in parts), key=lambda header: str(header["date"]))
    catalogue = catalogue_of(kind_of(header))
    runs = [_joined(of_one, catalogue.cases().keys()) for of_one in by_class.values()]
    whole = _summed(_worst(runs), runs, sorted({name for run in runs for name in run["not_run"]}))
    passed = whole.pop("passed") and all(run["passed"] for run in runs)
    seconds = round(sum(run["seconds"] for run in runs), 3)
    return header | {"passed": passed, **whole, "seconds": seconds, "runs": runs}


def _joined(parts: Sequence[dict[str, Any]], wanted: Set[str]) -> dict[str, Any]:
    """Join what several processes ran of one suite class."""
    run: dict[str, Any] = dict(parts[0])
    run["seconds"] = max(one["seconds"] for one in parts)
    entries = sorted(_worst(parts), key=lambda entry: str(entry["id"]))
    not_run = sorted(wanted - {entry["id"] for entry in entries})
    unproved = {"durability": _POWER} if run["capabilities"]["durability"] == Durability.POWER else {}
    if Store.facet_name in run["facets"]:
        unproved["store"] = _STORE
    del run["cases"]
    whole: dict[str, Any] = run | _summed(entries, [run], not_run) | {"unproved": unproved, "cases": entries}
    return whole


def _worst(runs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of each case how it ended at worst."""
    found: dict[str, dict[str, Any]] = {}
    for entry in (entry for run in runs for entry in run["cases"]):
        before = found.setdefault(entry["id"], entry)
        if _WORST_FIRST.index(entry["status"]) < _WORST_FIRST.index(before["status"]):
            found[entry["id"]] = entry
    return list(found.values())


def _summed(
    entries: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]], not_run: Sequence[str]
) -> dict[str, Any]:
    counted = Counter(entry["status"] for entry in entries)
    return {
        "passed": not not_run and not any(counted[verdict] for verdict in FAILING),
        "not_run": list(not_run),
        # In a run that left cases out it is not known.
        "not_shown": {} if not_run else _not_shown(entries, runs),
        "totals": {str(verdict): counted[verdict] for verdict in Verdict},
    }


def _not_shown(entries: Sequence[dict[str, Any]], runs: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return what the runs declare and did not look at, each with the reason."""
    hidden = [entry for entry in entries if entry["status"] == Verdict.NOT_SHOWN]
    found = {name: entry["reason"] for entry in hidden for name in entry["shows"]}
    looked_at = {name for entry in entries if entry["status"] in _LOOKED for name in entry["shows"]}
    for run in runs:
        for name in (*run["declared"], *run["facets"]):
            if name not in looked_at:
                found.setdefault(name, "no case looked at it")
    return dict(sorted(found.items()))


# --- files -------------------------------------------------------------------------------------


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


def _files(path: Path) -> tuple[Path, Path, Path]:
    """Return where the report, the badge and the page are."""
    return path, path.with_suffix(".badge.json"), path.with_suffix(".md")


def discard(path: Path) -> None:
    """Remove a report of an earlier run, so that it is not taken for one of this run.

    Raises:
        OSError: A file cannot be removed.
    """
    for file in _files(path):
        file.unlink(missing_ok=True)


def write_reports(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the JSON, a list if it is about several; beside it one page and one badge; all, or none.

    Args:
        found: At least one.
        path: Of the JSON, as `checked_path` returns it.

    Raises:
        OSError: A file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = (
        json.dumps(found[0] if len(found) == 1 else found, indent=2),
        json.dumps(badge(found)),
        "\n".join(map(markdown, found)).rstrip("\n"),
    )
    try:
        for file, text in zip(_files(path), texts, strict=True):
            file.write_text(text + "\n", encoding="utf-8", newline="\n")
    except OSError:
        with suppress(OSError):
            discard(path)
        raise


# --- values ------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, (int, float, str, type(None))) else repr(value)


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
    """Find the distribution of a module by its plugin, or else by its files.

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

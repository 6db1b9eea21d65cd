"""A report for people: a page in Markdown, and what a badge is drawn from."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["badge", "markdown", "summary"]

#: Capabilities whose value is in seconds.
_SPANS: Final = frozenset({"delay_granularity", "longest_delay", "lease"})


def markdown(found: dict[str, Any]) -> str:
    """Return a report as a page."""
    lines = [
        f"# Conformance of {found['adapter']}",
        "",
        f"**{_result(found).capitalize()}**: {summary(found)}.",
        "",
    ]
    about = {
        "distribution": f"{found['distribution']} {found['version']}" if found["distribution"] else None,
        "server": found["server"],
        "address": f"`{found['url']}`" if found["url"] else None,
        "date": found["date"],
        "suite": found["suite"] + (f", pinned to {found['pinned']}" if found["pinned"] else ""),
        "budget": f"{found['budget']}, seed {found['seed']}",
        "clock": found["clock"],
        "ran with": f"kessel-core {found['core']}, kessel-conformance {found['conformance']}, "
        f"Python {found['python']} on {found['platform']}",
        "took": f"{found['seconds']:.1f} s",
    }
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(text)} |" for name, text in about.items() if text]
    lines += ["", "## Declared", "", "| capability | value |", "|---|---|"]
    lines += [f"| `{name}` | {_declared(name, value)} |" for name, value in found["capabilities"].items()]
    lines += ["", f"Facets: {', '.join(f'`{name}`' for name in found['facets']) or 'none'}."]
    columns = "| case | clauses | level | status | why | seconds |"
    lines += ["", "## Cases", "", columns, "|---|---|---|---|---|---:|"]
    for entry in found["cases"]:
        why = entry["reason"].splitlines()[0] if entry["reason"] else ""
        cells = (
            f"`{entry['id']}`",
            " ".join(entry["clauses"]),
            entry["level"],
            entry["status"],
            why,
            f"{entry['seconds']:.3f}",
        )
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    if found["not_run"]:
        lines += ["", f"Not run: {', '.join(f'`{name}`' for name in found['not_run'])}."]
    for entry in found["cases"]:
        if entry["example"]:
            lines += ["", f"## `{entry['id']}`", "", "```text", entry["reason"], entry["example"], "```"]
    return "\n".join(lines) + "\n"


def badge(found: dict[str, Any]) -> dict[str, Any]:
    """Return what shields.io draws an endpoint badge from."""
    message = f"suite {found['pinned'] or found['suite']}: {summary(found)}"
    if _result(found) == "failed":
        colour = "red"
    elif found["not_run"]:
        colour = "lightgrey"
    elif found["totals"]["expected failure"] or found["totals"]["disabled"]:
        colour = "yellowgreen"
    else:
        colour = "brightgreen"
    return {"schemaVersion": 1, "label": "kessel conformance", "message": message, "color": colour}


def summary(found: dict[str, Any]) -> str:
    """Return the numbers of a report, without those that are zero."""
    words = {"pass": "passed", "fail": "failed", "skip": "skipped"}
    counts = [f"{number} {words.get(status, status)}" for status, number in found["totals"].items() if number]
    if found["not_run"]:
        counts.append(f"{len(found['not_run'])} not run")
    return ", ".join(counts) or "nothing ran"


def _result(found: dict[str, Any]) -> str:
    if found["totals"]["fail"] or found["totals"]["error"]:
        return "failed"
    return "incomplete" if found["not_run"] else "passed"


def _declared(name: str, value: Any) -> str:
    if value is None or value is False or value == "none":
        return "not declared"
    if value is True:
        return "yes"
    if isinstance(value, list):
        return " to ".join(map(str, value))
    return f"{value:g} s" if name in _SPANS else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

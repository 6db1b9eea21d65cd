"""A report for people: a page in Markdown, and what a badge is drawn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["badge", "kind_of", "markdown", "summary"]

#: Capabilities whose value is in seconds.
_SPANS: Final = frozenset({"delay_granularity", "longest_delay", "lease"})
_WORDS: Final = {"pass": "passed", "fail": "failed", "skip": "not applicable"}
#: What keeps a badge from being bright green, though no case failed.
_WEAKER: Final = ("expected failure", "disabled", "advisory")


def kind_of(found: Mapping[str, Any]) -> str:
    """Return what a report is about, which is also the key of its name: `adapter` or `store`."""
    return "store" if "store" in found else "adapter"


def markdown(found: dict[str, Any]) -> str:
    """Return a report as a page."""
    kind = kind_of(found)
    lines = [
        f"# Conformance of {'the store ' if kind == 'store' else ''}{found[kind]}",
        "",
        f"**{_result(found).capitalize()}**: {summary(found)}.",
        "",
    ]
    mutants = found["mutants"]
    distribution = f"{found['distribution']} {found['version']}" if found["distribution"] else None
    about = {
        "distribution": distribution,
        "sources": f"`{found['package']}`, {found['source']}" if found["source"] else None,
        "date": found["date"],
        "suite": found["suite"] + (f", pinned to {found['pinned']}" if found["pinned"] else ""),
        "strength": f"this suite catches {mutants['caught']} of {mutants['planted']} planted faults",
        "budget": f"{found['budget']}, seed {found['seed']}",
        "ran with": f"kessel-core {found['core']}, kessel-conformance {found['conformance']}, "
        f"Python {found['python']} on {found['platform']}",
        "took": f"{found['seconds']:.1f} s",
    }
    lines += ["| | |", "|---|---|"]
    lines += [f"| {name} | {_cell(text)} |" for name, text in about.items() if text]
    lines += _listed("Declared, but not shown", found["not_shown"])
    for run in found["runs"]:
        lines += _run(run, kind, run["name"] if len(found["runs"]) > 1 else "")
    return "\n".join(lines) + "\n"


def _run(run: dict[str, Any], kind: str, name: str) -> Iterator[str]:
    """Yield the lines about one suite class; `name` is empty if it is the only one."""
    deeper = "#" if name else ""
    if name:
        yield from ("", f"## {name}", "", f"**{_result(run).capitalize()}**: {summary(run)}.")
    about = {"server": run["server"], "address": f"`{run['url']}`" if run["url"] else None}
    yield from ("", "| | |", "|---|---|")
    yield from (f"| {key} | {_cell(text)} |" for key, text in about.items() if text)
    yield f"| clock | {run['clock']} |"
    yield from ("", f"{deeper}## Declared", "", "| capability | value |", "|---|---|")
    yield from (f"| `{key}` | {_declared(key, value)} |" for key, value in run["capabilities"].items())
    if kind == "adapter":
        yield from ("", f"Facets: {', '.join(f'`{facet}`' for facet in run['facets']) or 'none'}.")
    yield from _listed("Declared, and beyond what any run of this suite can show", run["unproved"])
    if name:
        yield from _listed("Declared, but not shown by this run", run["not_shown"])
    yield from ("", f"{deeper}## Cases", "")
    yield from ("| case | clauses | level | status | why | seconds |", "|---|---|---|---|---|---:|")
    for entry in run["cases"]:
        why = entry["reason"].splitlines()[0] if entry["reason"] else ""
        cells = (
            f"`{entry['id']}`",
            " ".join(entry["clauses"]),
            entry["level"],
            _WORDS["skip"] if entry["status"] == "skip" else entry["status"],
            why,
            f"{entry['seconds']:.3f}",
        )
        yield f"| {' | '.join(map(_cell, cells))} |"
    if run["not_run"]:
        yield from ("", f"Not run: {', '.join(f'`{case}`' for case in run['not_run'])}.")
    for entry in run["cases"]:
        if entry["example"]:
            yield from ("", f"{deeper}## `{entry['id']}`", "")
            yield from ("```text", entry["reason"], entry["example"], "```")


def _listed(heading: str, reasons: dict[str, str]) -> Iterator[str]:
    if reasons:
        yield from ("", f"{heading}:", "")
        yield from (f"- `{name}`: {reason}" for name, reason in reasons.items())


def badge(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what shields.io draws an endpoint badge from: one object, and the worst report decides.

    Args:
        found: The reports of one file, at least one.
    """
    results = {_result(one) for one in found}
    if "failed" in results:
        colour = "red"
    elif "incomplete" in results:
        colour = "lightgrey"
    elif any(one["not_shown"] or any(one["totals"][status] for status in _WEAKER) for one in found):
        colour = "yellowgreen"
    else:
        colour = "brightgreen"
    totals = Counter[str]()
    for one in found:
        totals.update(one["totals"])
    left_out = [case for one in found for case in one["not_run"]]
    hidden = [name for one in found for name in one["not_shown"]]
    numbers = summary({"totals": totals, "not_run": left_out, "not_shown": hidden})
    several = f"{len(found)} reports, " if len(found) > 1 else ""
    message = f"suite {found[0]['pinned'] or found[0]['suite']}: {several}{numbers}"
    return {"schemaVersion": 1, "label": "kessel conformance", "message": message, "color": colour}


def summary(found: Mapping[str, Any]) -> str:
    """Return the numbers of a report or of a run, without those that are zero, and what is not shown."""
    counts = [
        f"{number} {_WORDS.get(status, status)}"
        for status, number in found["totals"].items()
        if number and status != "not shown"
    ]
    if found["not_run"]:
        counts.append(f"{len(found['not_run'])} not run")
    if found["not_shown"]:
        counts.append(f"not shown: {', '.join(found['not_shown'])}")
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

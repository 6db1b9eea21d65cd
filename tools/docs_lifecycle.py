"""Write docs/explanation/lifecycle.md from the tables of `kessel_core.model.lifecycle`.

Usage: python tools/docs_lifecycle.py
"""

from __future__ import annotations

from pathlib import Path

from kessel_core.model.lifecycle import RULES, TRANSITIONS, Rule, Situation
from kessel_core.model.result import Reason, Status

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "lifecycle.md"

INTRO = """# The life of a job

Written by `tools/docs_lifecycle.py` from the tables of `kessel_core.model.lifecycle`.
Workers look up the same tables.
The numbers are those of the [clauses](../reference/clauses.md).

## States
"""

STATES = """
A job is in one state at any time.
After an acknowledged enqueue it is delayed, ready, reserved or buried until it is removed (S9).
Only the holder of a reservation settles; after the end of its lease it no longer holds the job (S7).

## Decisions

How an attempt ended, and what is left, decides what happens.
First this table gives the decision.
Then the job is settled with one call, and finally the watchers and the callback are called.

| the attempt ended | because of | attempts left | in time | settled by | status | reason | clause |
|---|---|---|---|---|---|---|---|
"""

OUTRO = """
*In time* is whether another delivery could begin before the expiration.
A dash means that it makes no difference; *as given* keeps the reason of the attempt.
With `jobs.on_expired = "bury"` an expired job is buried instead of committed (S5).

| status | meaning |
|---|---|
"""

MEANINGS = {
    Status.SUCCESS: "the handler returned",
    Status.FAILED: "it failed permanently, or no handler could be started",
    Status.TRANSIENT: "the handler failed temporarily",
    Status.SNOOZED: "the job is put off: a handler or middleware asked for it, it was delivered before its "
    'delay was over, or its type has no handler here and `jobs.unknown_type = "retry"`',
}


def diagram() -> str:
    """Return the state diagram in Mermaid syntax."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for source, event, target, clause in TRANSITIONS:
        lines.append(f"    {source or '[*]'} --> {target or '[*]'}: {event} ({clause})")
    return "\n".join([*lines, "```"]) + "\n"


def rows() -> list[str]:
    """Return the lines of the table; a column that makes no difference is a dash."""
    lines = []
    for status in Status:
        ordinary = _cells(status, Reason.ERROR)
        special = {reason: cells for reason in Reason if (cells := _cells(status, reason)) != ordinary}
        lines += [_line(status, "-" if not special else "anything else", *row) for row in ordinary]
        for reason, cells in special.items():
            lines += [_line(status, str(reason), *row) for row in cells]
    return lines


def _cells(status: Status, reason: Reason) -> list[tuple[str, str, Rule]]:
    """Return the rules of a status and a reason: attempts left, in time, rule."""
    found: list[tuple[str, str, Rule]] = []
    for left in (True, False):
        in_time = RULES[Situation(status, reason, left, True)]
        late = RULES[Situation(status, reason, left, False)]
        word = "yes" if left else "no"
        if in_time == late:
            found.append((word, "-", in_time))
        else:
            found += [(word, "yes", in_time), (word, "no", late)]
    half = len(found) // 2
    if [row[1:] for row in found[:half]] == [row[1:] for row in found[half:]]:
        found = [("-", *row[1:]) for row in found[:half]]
    return found


def _line(status: Status, because: str, left: str, in_time: str, rule: Rule) -> str:
    reason = "" if rule.status is Status.SUCCESS else str(rule.reason or "*as given*")
    settle = rule.settle.__name__.lower()
    cells = (str(status), because, left, in_time, settle, str(rule.status), reason, rule.clause)
    return f"| {' | '.join(cells)} |"


def page() -> str:
    """Return the text of the page."""
    meanings = [f"| {status} | {MEANINGS[status]} |" for status in Status]
    return "".join(
        [INTRO, "\n", diagram(), STATES, "\n".join(rows()), "\n", OUTRO, "\n".join(meanings), "\n"]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

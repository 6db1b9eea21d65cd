"""Write docs/explanation/lifecycle.md from the tables of `kessel_core.model.lifecycle`.

Usage: python tools/docs_lifecycle.py
"""

from __future__ import annotations

from pathlib import Path

from kessel_core.model.lifecycle import FATES, TRANSITIONS, Ending, Fate, State

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "lifecycle.md"

INTRO = """# The life of a job

Written by `tools/docs_lifecycle.py` from the tables of `kessel_core.model.lifecycle`.
Workers look up the same tables.
The numbers are those of the [clauses](../reference/clauses.md).

## States
"""

STATES = """
A job is in one state at any time.
From an acknowledged enqueue on it is delayed, ready, reserved or buried until it is settled for good (S9).
Only the holder of a reservation settles; after the end of its lease it no longer holds the job (S7).

## Fates

How an attempt ended, and what is left, decides what happens.
The decision is made first, by this table.
Then the job is settled with one call, and at last watchers and the callback are told.

| the attempt ended | attempts left | retry before expiration | settled by | status | reason | clause |
|---|---|---|---|---|---|---|
"""

OUTRO = """
A dash means that it makes no difference; *as given* keeps the reason of the attempt.
With `jobs.on_expired = "bury"` a job that expired is buried instead of committed (S5).

| ending | meaning |
|---|---|
"""

MEANINGS = {
    Ending.SUCCESS: "the handler returned",
    Ending.FATAL: "the handler failed in a way that a retry cannot help",
    Ending.TRANSIENT: "the handler failed in a way that will pass",
    Ending.EXPIRED: "its expiration came before the handler was started",
    Ending.NO_HANDLER: "no handler for its type",
    Ending.NO_HANDLER_HERE: 'the same with `jobs.unknown_type = "retry"`: other workers may have one',
    Ending.UNDECODABLE: "the body is not a request",
    Ending.LOST: "earlier deliveries used up all attempts, and the last one never reported",
}


def diagram() -> str:
    """Return the state diagram in the language of mermaid."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for source, event, target, clause in TRANSITIONS:
        start = "[*]" if source is None else str(source)
        end = "[*]" if target is State.GONE else str(target)
        lines.append(f"    {start} --> {end}: {event} ({clause})")
    return "\n".join([*lines, "```"]) + "\n"


def rows() -> list[str]:
    """Return the lines of the table of fates; what makes no difference is written as a dash."""
    lines = []
    for ending in Ending:
        seen: dict[tuple[str, str], Fate] = {}
        for left in (True, False):
            in_time, late = FATES[ending, left, True], FATES[ending, left, False]
            word = "yes" if left else "no"
            if in_time == late:
                seen[word, "-"] = in_time
            else:
                seen[word, "yes"], seen[word, "no"] = in_time, late
        if len(set(seen.values())) == 1:
            seen = {("-", "-"): next(iter(seen.values()))}
        for (left_word, time_word), fate in seen.items():
            reason = "" if str(fate.status) == "success" else str(fate.reason or "*as given*")
            cells = (ending, left_word, time_word, fate.settle, fate.status, reason, fate.clause)
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def page() -> str:
    """Return the text of the page."""
    meanings = [f"| {ending} | {MEANINGS[ending]} |" for ending in Ending]
    return "".join(
        [INTRO, "\n", diagram(), STATES, "\n".join(rows()), "\n", OUTRO, "\n".join(meanings), "\n"]
    ).replace("-", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

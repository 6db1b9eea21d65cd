"""The page of clauses names the cases that check each; it is written by this file.

`python tests/conformance/test_clauses_page.py` writes the page.
"""

from __future__ import annotations

# ruff: noqa: E501  # whole sentences, as they stand on the page
from pathlib import Path

from kessel_conformance.catalogue import SUITE_VERSION, cases

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "clauses.md"

CLAUSES = {
    "S1": "A type is text with at least one character that is not blank; blanks around it do not count. Whatever is wrong with a request is reported at once and together, before anything is sent.",
    "S2": "What cannot come back equal as JSON is refused with its path: naive datetimes, `bool` for numbers, NaN and infinities, keys that are not text, bytes, sets, lone surrogates, cycles, too deep nesting. The size is compared with the adapter's limit before sending.",
    "S3": "Priority 0 is the most urgent. Numbers below 0 become 0, numbers above 4294967295 become that; a request without one has 65536.",
    "S4": "Never early: no handler starts before the delay. A coarse backend rounds up; a job is late by at most the declared granularity and the noise of scheduling.",
    "S5": "Never after the expiration: it is checked at reserve and once more just before the handler. An expired job is settled, its result is `failed` with reason `expired`, its callback is called. A running handler is not cut off. A request that could never run is refused.",
    "S6": "Of the jobs that are ready for a consumer the lowest priority number goes first, equal numbers in the order of enqueueing. A job that was delayed, rolled back or kicked keeps its priority; its place among equals is the declared `tie_break`.",
    "S7": "From reserve to settle a job has one holder, for the length of a lease, which the worker extends while the handler runs. Once the lease has run out or the connection is lost, a settle is refused with `LeaseLost`. Nobody settles another's delivery with an old reservation.",
    "S8": "Commit removes a job. Rollback makes it ready again after a pause, with its own priority. Bury sets it aside with a reason until it is kicked or deleted.",
    "S9": "At least once: from an acknowledged enqueue on, within the declared durability, a job waits, is reserved, is buried or was settled. Nothing is dropped in silence.",
    "S10": "Every delivery counts as an attempt, one that ended in a crash too. Past `max_attempts` the job is buried as `retries-exhausted`, or `worker-lost` if its last delivery never reported.",
    "S11": "The pause before a retry grows exponentially with full jitter up to a cap; `Transient(after=...)` overrides it. The first delay is never applied again. A retry that could only start after the expiration ends as expired now.",
    "S12": 'A job whose type has no handler is buried as `no-handler`, and the known types are named; `unknown_type = "retry"` is for rolling deployments.',
    "S13": "A body that is not a request is buried as `undecodable`, its bytes untouched, and the worker goes on.",
    "S14": "An enqueue ends in one of three ways: it returns (stored), `EnqueueRejected` (not stored), `EnqueueUnknown` (may be stored: the connection was lost after sending). Where `dedupe` is declared, an id that a job holds already is `IdHeld`, and nothing is stored.",
    "S15": "The callback is called once for each job, after its last settlement. A callback that fails is logged and changes nothing about the job.",
    "S16": "A payload comes back equal as JSON, and every attempt gets a fresh copy.",
    "S17": "What an adapter does not declare is refused by name with `CapabilityMissing`, at start where possible, and never approximated in silence.",
    "S18": "An application has one clock: aware time, monotonic time, wait. On a virtual clock nothing in the core and no adapter with the facet `virtual_time` sleeps for real.",
    "S21": 'A snoozed job becomes ready again after its pause, with its own priority, and the delivery does not count as an attempt. (a) A handler or a middleware asks for it with `Snooze(after)`; a worker that stops and whose grace period is over, a job that was delivered too early, and `unknown_type = "retry"` use it, too. (b) A snooze that would end at or after the expiration ends the job as expired now. (c) Snoozes are counted apart from attempts, and shown.',
}


def page() -> str:
    lines = [
        "# The clauses",
        "",
        "What kessel promises to those who request jobs, write handlers or publish adapters.",
        "Under each clause stand the cases of the conformance suite that check it on an adapter;",
        "a clause without cases is the core's alone, and the core's own tests cite it.",
        "",
        f"This page is of suite version {SUITE_VERSION} and is written by `python tests/conformance/test_clauses_page.py`.",
        "",
    ]
    for clause, text in CLAUSES.items():
        lines += [f"## {clause}", "", *(f"{sentence.rstrip('.')}." for sentence in text.split(". ")), ""]
        checking = [case for case in cases().values() if clause in case.clauses]
        if not checking:
            lines += ["Checked by the core's own tests.", ""]
            continue
        lines += ["| case | level | needs | why |", "|---|---|---|---|"]
        lines += [
            f"| `{c.id}` | {c.level} | {', '.join(need.name for need in c.needs) or 'nothing'} | {c.why} |"
            for c in checking
        ]
        lines.append("")
    return "\n".join(lines)


def test_page_of_clauses_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/conformance/test_clauses_page.py"


def test_every_case_cites_a_known_clause() -> None:
    unknown = {
        case.id: case.clauses
        for case in cases().values()
        if not case.clauses or set(case.clauses) - set(CLAUSES)
    }
    assert unknown == {}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""The page of clauses names the cases that check each; it is written by this file.

`python tests/conformance/test_clauses_page.py` writes the page.
"""

from __future__ import annotations

# ruff: noqa: E501  # whole sentences, as they stand on the page
from pathlib import Path

from kessel_conformance.catalogue import STORES, SUITE_VERSION, Case, cases

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "clauses.md"

CLAUSES = {
    "S1": "A type is text with at least one character that is not blank; blanks around it do not count. Whatever is wrong with a request is reported at once and together, before anything is sent.",
    "S2": "What cannot come back equal as JSON is refused with its path: naive datetimes, `bool` for numbers, NaN and infinities, keys that are not text, bytes, sets, lone surrogates, cycles, too deep nesting. The size is compared with the adapter's limit before sending.",
    "S3": "Priority 0 is the most urgent. Numbers below 0 become 0, numbers above 4294967295 become that; a request without one has 65536.",
    "S4": "Never early: no handler starts before the delay. A coarse backend rounds up; a job is late by at most the declared granularity and the noise of scheduling.",
    "S5": "Never after the expiration: it is checked at reserve and once more just before the handler. An expired job is settled, its result is `failed` with reason `expired`, its callback is called. A running handler is not cut off. A request that could never run is refused.",
    "S6": "Of the jobs that are ready for a consumer the lowest priority number goes first, equal numbers in the order of enqueueing. A job that was delayed, rolled back or kicked keeps its priority; its place among equals is the declared `tie_break`.",
    "S7": "From reserve to settle a job has one holder, for the length of a lease, which the worker extends while the handler runs. Once the lease has run out or the connection is lost, a settle is refused with `LeaseLost`. Nobody settles another's delivery with an old reservation. What a reserve took whose answer was lost is ready again within seconds where `lost_reserves` is declared.",
    "S8": "Commit removes a job. Rollback makes it ready again after a pause, with its own priority. Bury sets it aside with a reason until it is kicked or deleted.",
    "S9": "At least once: from an acknowledged enqueue on, within the declared durability, a job waits, is reserved, is buried or was settled. Nothing is dropped in silence. Operators are told what is there, and how long the next ready job has been ready since it was stored or its delay was over, where the adapter knows it.",
    "S10": "Every delivery counts as an attempt, one that ended in a crash too. Past `max_attempts` the job is buried as `retries-exhausted`, or `worker-lost` if its last delivery never reported.",
    "S11": "The pause before a retry grows exponentially with full jitter up to a cap; `Transient(after=...)` overrides it. The first delay is never applied again. A retry that could only start after the expiration ends as expired now.",
    "S12": 'A job whose type has no handler is buried as `no-handler`, and the known types are named; `unknown_type = "retry"` is for rolling deployments.',
    "S13": "A body that is not a request is buried as `undecodable`, its bytes untouched, and the worker goes on.",
    "S14": "An enqueue ends in one of three ways: it returns (stored), `EnqueueRejected` (not stored), `EnqueueUnknown` (may be stored: the connection was lost after sending). Where `dedupe` is declared, an id that a job holds already is `IdHeld`, and nothing is stored.",
    "S15": "A function given as callback, where the job runs in the requesting process, is called once for each job, after its last settlement. One that fails is logged and changes nothing about the job. A callback that is text is a job (S22).",
    "S16": "A payload comes back equal as JSON, and every attempt gets a fresh copy.",
    "S17": "What an adapter does not declare is refused by name with `CapabilityMissing`, at start where possible, and never approximated in silence.",
    "S18": "An application has one clock: aware time, monotonic time, wait. On a virtual clock nothing in the core and no adapter with the facet `virtual_time` sleeps for real.",
    "S19": "A store keeps entries: a space, a key, a value of bytes, a version, perhaps an expiry. (a) A put with an expected version replaces exactly that version, with 0 it makes an entry only where there is none; otherwise it changes nothing and says what is there. No update is lost, whoever writes, and no key has the same version twice. (b) An entry is never returned at or after its expiry, and never gone before it. (c) An acknowledged put survives what the store declares. (d) A scan returns each entry that was there all the time exactly once, by key. (e) A wait returns when the version differs from the one seen, or when the time is over.",
    "S20": "What a job's end brings along (its callback job, a request made by `job.follow_up`) is stored at least once, or the job is not settled. (a) Where the adapter declares `follow`, follow-ups and settlement are one transaction: each is stored exactly once. (b) On others they are stored first, then the job is settled; a crash in between stores them again under the same ids. (c) The id of a follow-up is a UUID of version 5 of the job's id, the moment of its request where its body says that, and the role: the same whenever the job runs again, and another one for a later job with that id. (d) An attempt that is tried again stores none. A follow-up that the queue refuses for good buries the job as `follow-up-refused`.",
    "S21": 'A snoozed job becomes ready again after its pause, with its own priority, and the delivery does not count as an attempt. (a) A handler or a middleware asks for it with `Snooze(after)`; a worker that stops and whose grace period is over, a job that was delivered too early, and `unknown_type = "retry"` use it, too. (b) A snooze that would end at or after the expiration ends the job as expired now. (c) Snoozes are counted apart from attempts, and shown.',
    "S22": "Every callback that is text is answered by a job: `job:TYPE` by one of that type, `scheme:target` by one of the type `kessel.scheme`, with the outcome as its payload; any worker that has the handler runs it. (a) It is stored as a follow-up (S20): at least once, under one id. (b) It is stored when the job's fate is final: success, burial, expiration; never for a failure that is tried again. (c) Where kicks are counted, a buried job that is kicked and ends again is told again, under an id of its own. (d) A function given as callback that is a handler stands for its type; any other function is refused where jobs leave the process.",
    "S23": "An outcome that is sent over HTTP goes by POST, as a job of type `kessel.http`. (a) It is signed by Standard Webhooks 1.0.0 over the exact bytes that are sent, with every current secret of the endpoint. (b) `webhook-id` is the id of the callback job, at every attempt. (c) 2xx is a success; 410 is final, and disables the endpoint; everything else is tried again at the times of the standard with a jitter of 20 %, or after `Retry-After` if that is later, at most 24 h; after ten attempts it is buried. (d) Redirects are never followed. (e) The whole call ends within its timeout, and at most 64 KiB of the answer are read. (f) An endpoint that failed five times in a row is asked once per pause, by one job at a time; the others snooze (S21). (g) A secret is in no log, error, body or listing.",
    "S24": "A URL that came with a request must be on the list of allowed hosts, and its name is looked up once: every address that it has is checked, and the connection goes to a checked one. Loopback, private, link-local, reserved and multicast addresses are refused, and those that are translated into one; so are user information, schemes other than https (http by option) and ports that are not listed. The addresses of the endpoints of the configuration are checked as well, unless they say `internal = true`.",
    "S25": "Where results are kept (`results.keep`, or `keep` of the handler), the outcome of a job's end is in the store from before its settlement until its time is over. (a) It is written in the transaction of the settlement where the adapter can, else before it. (b) A later attempt's outcome replaces an earlier one's. (c) It is kept for success, failure, expiration and burial alike. (d) After its time it is not returned.",
    "S26": "`result` tells four things apart: the outcome; pending, with the state of the job where the adapter can find it; unknown, neither job nor outcome is there; and the wait is over. It never waits longer than its timeout, by the application's clock.",
    "S27": "Progress is the latest value that a handler reported. (a) It is written into the store once a second at most while a worker runs the job, and once more at the end of the attempt, before the settlement; it is kept for a day. (b) It changes nothing about the job: a handler does not wait for it, and a store that is away fails nobody; what is reported after the job was lost is dropped. (c) A worker writes an entry about itself every ten seconds that lives thirty; it says when it stops, and removes it at its end. (d) Without a store nothing is written, and who asks is told what to set.",
    "S38": "`live` is false when restarting the process would help: a slot's thread has ended, or jobs have been ready for `worker.deaf_after` in a queue that is not paused, a slot was idle all that time, and nobody took one, though a fresh look at the queue sees them. `ready` is false before the worker has begun, while the queue cannot be reached, and from the moment on in which the worker is told to stop. Neither depends on how many jobs fail. Several processes are live, and ready, if each of them is.",
    "S39": "`explain` says of any id which of the causes holds now, what would change it and when, and what it could not see. (a) Causes are looked for in one order, by name; the first that holds decides. (b) The job is read first, and once more at the end; if it has moved meanwhile, that is said. (c) Where a store or a facet is missing, what could not be seen is named with its reason. (d) It raises for no id and changes nothing. What it says is true of the moment it looked. (e) A history is a log, written behind: at most one second late, by every process for itself; it delays no job, and says where it has gaps.",
    "S43": "A simulation runs the application's own workers, handlers and store on virtual time, one thread at a time. The same seed and the same code give the same history, on every Python. Whole processes die, calls are lost, the wall clock jumps; every event is compared with the clauses.",
}

#: Clauses that are neither of an adapter nor of the core.
CHECKED_BY = dict.fromkeys(("S23", "S24"), "the tests of kessel-http")


def needs_of(case: Case) -> str:
    return ", ".join(need.name for need in case.needs) or "nothing"


def parts_of(case: Case, clause: str) -> list[str]:
    """The parts of a clause that a case cites: S19a is part (a) of S19, S19 itself is all of it."""
    cited = [text.removeprefix(clause) for text in case.clauses if base_of(text) == clause]
    return [f"({part})" if part else "all" for part in cited]


def base_of(cited: str) -> str:
    return cited.rstrip("abcdef")


def page() -> str:
    lines = [
        "# The clauses",
        "",
        "What kessel promises to those who request jobs, write handlers or publish adapters.",
        "Under each clause stand the cases of the conformance suite that check it on an adapter, or on a store;",
        "a clause without cases is not the adapter's, and the tests of the core or of a plugin cite it.",
        "",
        f"This page is of suite version {SUITE_VERSION} and is written by `python tests/conformance/test_clauses_page.py`.",
        "",
    ]
    for clause, text in CLAUSES.items():
        lines += [f"## {clause}", "", *(f"{sentence.rstrip('.')}." for sentence in text.split(". ")), ""]
        checking = [case for case in cases().values() if clause in case.clauses]
        of_stores = [case for case in STORES.cases().values() if parts_of(case, clause)]
        if not checking and not of_stores:
            lines += ["Checked by the core's own tests.", ""]
            continue
        if checking:
            lines += ["| case | level | needs | why |", "|---|---|---|---|"]
            lines += [f"| `{c.id}` | {c.level} | {needs_of(c)} | {c.why} |" for c in checking]
            lines.append("")
        if of_stores:
            lines += ["| case for stores | part | level | needs | why |", "|---|---|---|---|---|"]
            lines += [
                f"| `{c.id}` | {', '.join(parts_of(c, clause))} | {c.level} | {needs_of(c)} | {c.why} |"
                for c in of_stores
            ]
            lines.append("")
    return "\n".join(lines)


def test_page_of_clauses_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/conformance/test_clauses_page.py"


def test_every_case_cites_a_known_clause() -> None:
    unknown = {
        case.id: case.clauses
        for case in [*cases().values(), *STORES.cases().values()]
        if not case.clauses or set(map(base_of, case.clauses)) - set(CLAUSES)
    }
    assert unknown == {}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

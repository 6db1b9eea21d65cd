"""Runs cases against a harness; knows nothing of pytest."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from typing import Final

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import Case, cases, known_version, ordered
from kessel_conformance.harness import Harness, ServerMissing
from kessel_conformance.history import Violation
from kessel_conformance.requirements import RESTART
from kessel_conformance.settings import Settings
from kessel_core.values.nearest import did_you_mean

__all__ = ["FAILING", "Outcome", "Run", "Verdict", "run_case", "run_suite"]


class Verdict(StrEnum):
    """How a case ended."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    #: Listed as an expected failure, and failed.
    XFAIL = "expected failure"
    SKIP = "skip"
    #: The harness or the server failed, not the adapter.
    ERROR = "error"
    #: Failed, but is newer than the pinned suite.
    ADVISORY = "advisory"
    #: Left out by the harness, with a reason.
    DISABLED = "disabled"


#: What keeps a run from passing.
FAILING: Final = frozenset({Verdict.FAIL, Verdict.ERROR})


@attrs.frozen(kw_only=True)
class Outcome:
    """How a case ended, and why."""

    case: Case
    verdict: Verdict
    reason: str = ""
    #: The calls that showed a failure, with their times.
    example: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it lets the run pass."""
        return self.verdict not in FAILING

    @property
    def text(self) -> str:
        """The reason with the example, for people."""
        return "\n".join(filter(None, (self.reason, self.example)))


def run_case(harness: Harness, wanted: Case, settings: Settings) -> Outcome:
    """Run one case on a harness that is up."""
    start = time.perf_counter()
    why_not = wanted.skip_reason(harness)
    expected = harness.expected_failures.get(wanted.id)
    if why_not is not None and expected is not None:
        why_not = f"does not apply ({why_not}), so take it off the expected failures ({expected})"
        return Outcome(case=wanted, verdict=Verdict.FAIL, reason=why_not)
    if why_not is not None:
        return Outcome(case=wanted, verdict=Verdict.SKIP, reason=why_not)
    if wanted.id in harness.disabled:
        return Outcome(case=wanted, verdict=Verdict.DISABLED, reason=harness.disabled[wanted.id])
    why_still = harness.still.get(wanted.id)
    verdict, example = Verdict.PASS, ""
    reason = "" if why_still is None else f"on a server that stands still between calls: {why_still}"
    try:
        with Bench(harness, wanted.clauses, settings) as bench:
            wanted.run(bench)
    except Violation as exc:
        verdict, reason, example = Verdict.FAIL, exc.reason, exc.example
    except ServerMissing as exc:
        verdict, reason = Verdict.ERROR, str(exc)
    except Exception as exc:
        # No clause was checked: the adapter raised what it may not, or the harness is wrong.
        verdict, reason, example = Verdict.FAIL, f"{type(exc).__name__}: {exc}", traceback.format_exc()
    if expected is not None:
        if verdict is Verdict.PASS:
            verdict, reason = Verdict.FAIL, f"passes now, so take it off the expected failures ({expected})"
        elif verdict is Verdict.FAIL:
            verdict, reason, example = Verdict.XFAIL, expected, f"{reason}\n{example}".rstrip()
    elif (
        verdict is Verdict.FAIL
        and settings.suite is not None
        and known_version(settings.suite) < ordered(wanted.since)
    ):
        verdict = Verdict.ADVISORY
    seconds = time.perf_counter() - start
    return Outcome(case=wanted, verdict=verdict, reason=reason, example=example, seconds=seconds)


def _run_apart(harness: Harness, wanted: Case, settings: Settings) -> Outcome:
    """Run one case on a harness that is brought up for it alone."""
    try:
        harness.up()
    except ServerMissing as exc:
        return Outcome(case=wanted, verdict=Verdict.ERROR, reason=str(exc))
    try:
        return run_case(harness, wanted, settings)
    finally:
        harness.down()


def check_listed(harness: Harness) -> None:
    """Refuse lists of the harness that name no case or give no reason.

    Raises:
        ValueError: With every mistake.
    """
    wrong: list[str] = []
    for name in ("expected_failures", "disabled", "still"):
        for case_id, reason in getattr(harness, name).items():
            if case_id not in cases():
                wrong.append(f"{name}: {case_id!r} is not a case{did_you_mean(case_id, cases())}")
            elif not str(reason).strip():
                wrong.append(f"{name}: {case_id!r} needs a reason")
    if wrong:
        raise ValueError(", ".join(wrong))


class Run:
    """One harness under a choice of cases. Cases that wait for real time run side by side."""

    def __init__(self, harness: Harness, settings: Settings, wanted: Iterable[str] | None = None) -> None:
        check_listed(harness)
        self.harness = harness
        self.settings = settings
        self.wanted: Sequence[Case] = [cases()[name] for name in (cases() if wanted is None else wanted)]
        self.outcomes: dict[str, Outcome] = {}
        self.seconds = 0.0
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: dict[str, Future[Outcome]] = {}
        self._start = 0.0

    def up(self) -> None:
        """Start the harness.

        Raises:
            ServerMissing: As `Harness.start`.
        """
        self._start = time.perf_counter()
        self.harness.up()
        if not self.harness.virtual:
            aside = [c for c in self.wanted if c.waits]
            self._pool = ThreadPoolExecutor(max_workers=max(1, len(aside)), thread_name_prefix="kessel-case")
            for wanted in aside:
                run, harness = run_case, self.harness
                if self._needs_own_server(wanted):
                    own = harness.another(still=wanted.id in harness.still)
                    if own is None:
                        continue  # later, when the others are done
                    run, harness = _run_apart, own
                self._waiting[wanted.id] = self._pool.submit(run, harness, wanted, self.settings)

    def _needs_own_server(self, wanted: Case) -> bool:
        return RESTART in wanted.needs or wanted.id in self.harness.still

    def down(self) -> None:
        """Stop the harness."""
        for future in self._waiting.values():
            future.cancel()
        if self._pool is not None:
            self._pool.shutdown()
        self.harness.down()
        self.seconds = time.perf_counter() - self._start

    def outcome(self, case_id: str) -> Outcome:
        """Run a case, or return how it ended."""
        if case_id not in self.outcomes:
            if case_id in self._waiting:
                outcome = self._waiting[case_id].result()
            else:
                if self._needs_own_server(cases()[case_id]):
                    for future in self._waiting.values():
                        future.exception()
                outcome = run_case(self.harness, cases()[case_id], self.settings)
            self.outcomes[case_id] = outcome
        return self.outcomes[case_id]


def run_suite(
    harness: Harness,
    settings: Settings | None = None,
    *,
    report: Callable[[Outcome], None] = lambda outcome: None,
) -> Run:
    """Run the whole catalogue and return the run with its outcomes.

    Raises:
        ServerMissing: As `Harness.start`.
    """
    run = Run(harness, settings or Settings())
    run.up()
    try:
        for wanted in run.wanted:
            report(run.outcome(wanted.id))
    finally:
        run.down()
    return run


def under_ci() -> bool:
    """Whether a missing server is an error."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")

"""Runs cases against a harness; knows nothing of pytest."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.beside import (
    Servers,
    in_turn,
    needs_own_server,
    needs_quiet,
    runs_aside,
    with_own_files,
)
from kessel_conformance.catalogue import Case, catalogue_of, known_version, ordered
from kessel_conformance.harness import Harness
from kessel_conformance.harness_base import AnyHarness, NotShown, ServerMissing
from kessel_conformance.history import Violation
from kessel_conformance.opencase import OpenCase
from kessel_conformance.outcome import Outcome, Verdict
from kessel_conformance.processor import Processor, Pulse
from kessel_conformance.settings import Settings
from kessel_conformance.stores.bench import StoreBench
from kessel_conformance.stores.harness import StoreHarness
from kessel_conformance.watch import Watch
from kessel_core.values.nearest import did_you_mean

__all__ = ["Run", "run_case", "run_suite"]


#: One that nobody has started, and that notices nothing.
_NO_PULSE: Final = Pulse()


def _not_run(harness: AnyHarness, wanted: Case) -> Outcome | None:
    """Return how a case ends that does not apply, or whose subject is hidden; None if it is to be run."""
    if (why_not := wanted.skip_reason(harness)) is not None:
        return Outcome(case=wanted, verdict=Verdict.SKIP, reason=why_not)
    if (hidden := wanted.hidden(harness)) is not None:
        return Outcome(case=wanted, verdict=Verdict.NOT_SHOWN, reason=hidden[0], shows=hidden[1])
    return None


def _bench(harness: AnyHarness, wanted: Case, settings: Settings) -> OpenCase:
    """Return what a case works with; a context manager."""
    match harness:
        case Harness():
            return Bench(harness, wanted.clauses, settings)
        case StoreHarness():
            return StoreBench(harness, wanted.clauses, settings)
        case _:
            raise TypeError(f"{type(harness).__name__} is not a harness of this suite")


def run_case(harness: AnyHarness, wanted: Case, settings: Settings, pulse: Pulse = _NO_PULSE) -> Outcome:
    """Run one case on a harness that is up; if the pulse was late, a failure in real time is doubtful."""
    start, processor, beats = time.perf_counter(), Processor.so_far(), pulse.beats
    expected = harness.expected_failures.get(wanted.id)
    if (not_run := _not_run(harness, wanted)) is not None:
        if expected is None:
            return not_run
        why_not = f"it is not run ({not_run.reason}), so take it off the expected failures ({expected})"
        return Outcome(case=wanted, verdict=Verdict.FAIL, reason=why_not)
    if wanted.id in harness.disabled:
        return Outcome(case=wanted, verdict=Verdict.DISABLED, reason=harness.disabled[wanted.id])
    why_still = harness.still.get(wanted.id)
    verdict, example, is_late = Verdict.PASS, "", False
    reason = "" if why_still is None else f"on a server that stands still between calls: {why_still}"
    try:
        with Watch.case(wanted.id) as opens, _bench(harness, wanted, settings) as bench:
            opens(bench)
            wanted.run(bench)
    except Violation as exc:
        verdict, reason, example, is_late = Verdict.FAIL, exc.reason, exc.example, exc.is_late
    except ServerMissing as exc:
        verdict, reason = Verdict.ERROR, str(exc)
    except NotShown as exc:
        verdict, reason = Verdict.NOT_SHOWN, str(exc)
    except Exception as exc:
        # No clause was checked: something was raised that may not be, or the harness is wrong.
        verdict, reason, example = Verdict.FAIL, f"{type(exc).__name__}: {exc}", traceback.format_exc()
    if verdict is not Verdict.ERROR and (gone := harness.ended()) is not None:
        # Whatever was seen then, or was not: it says nothing about what is checked.
        verdict, reason = Verdict.ERROR, f"{gone}; {reason or 'it was there when the case began'}"
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
    in_real_time = wanted.real_time or not harness.virtual
    return Outcome(
        case=wanted,
        verdict=verdict,
        reason=reason,
        example=example,
        seconds=time.perf_counter() - start,
        is_doubtful=verdict is Verdict.FAIL
        and in_real_time
        and (is_late or Processor.so_far().was_busy_since(processor) or pulse.was_late_since(beats)),
    )


def _run_apart(harness: AnyHarness, wanted: Case, settings: Settings, pulse: Pulse = _NO_PULSE) -> Outcome:
    """Run one case on a harness that is brought up for it alone."""
    try:
        harness.up()
    except Exception as exc:
        reason = f"the harness does not come up: {exc}"
        return Outcome(case=wanted, verdict=Verdict.ERROR, reason=reason)
    try:
        return run_case(harness, wanted, settings, pulse)
    finally:
        harness.down()


def check_listed(harness: AnyHarness) -> None:
    """Refuse lists of the harness that name no case or give no reason.

    Raises:
        ValueError: With every mistake.
    """
    wrong: list[str] = []
    cases = catalogue_of(harness.kind).cases()
    for name in ("expected_failures", "disabled", "still"):
        for case_id, reason in getattr(harness, name).items():
            if case_id not in cases:
                wrong.append(f"{name}: {case_id!r} is not a case{did_you_mean(case_id, cases)}")
            elif not str(reason).strip():
                wrong.append(f"{name}: {case_id!r} needs a reason")
    if wrong:
        raise ValueError(", ".join(wrong))


#: Seconds between the beginnings of two cases that run side by side; more on a busy machine, which ends a
#: sleep late. A hundred that begin at once keep each other from what each has to do in time.
_APART: Final = 0.02


class Run:
    """One harness under a choice of cases. Cases that wait for real time run side by side. For one thread.

    `run_suite` returns one whose `outcomes` are complete, by the id of the case.

    Args:
        harness: What is checked.
        settings: What the person who runs the suite chose.
        wanted: The ids of the cases; None: all.
        aloud: While it is open, people see what is written to standard error; None: they always do.

    Raises:
        ValueError: The harness lists cases that there are not, or without a reason.
    """

    def __init__(
        self,
        harness: AnyHarness,
        settings: Settings,
        wanted: Iterable[str] | None = None,
        aloud: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        check_listed(harness)
        self.harness = harness
        self.settings = settings
        self._cases = catalogue_of(harness.kind).cases()
        names = self._cases if wanted is None else wanted
        #: In the order in which they are best asked for; any other gives the same outcomes.
        self.wanted: Sequence[Case] = in_turn(harness, [self._cases[name] for name in names])
        self.outcomes: dict[str, Outcome] = {}
        self.seconds = 0.0
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: dict[str, Future[Outcome]] = {}
        #: What this thread runs beside them, and what it has run before it was asked for.
        self._ahead: deque[Case] = deque()
        self._ran: dict[str, Outcome] = {}
        self._turn = threading.Lock()
        self._pulse = Pulse()
        self._servers = Servers(harness)
        self._watch = Watch(self._servers.down, aloud or nullcontext)
        self._start = 0.0

    def up(self) -> None:
        """Start the harness.

        Raises:
            ServerMissing: As `Harness.start`.
        """
        self._start = time.perf_counter()
        self._servers.up()
        self._pulse.start()
        self._watch.start()
        aside: list[Case] = []
        for wanted in self.wanted:
            if runs_aside(self.harness, wanted):
                aside.append(wanted)
            elif not needs_own_server(self.harness, wanted) and not needs_quiet(self.harness, wanted):
                self._ahead.append(wanted)
        # First those with a server of their own, which wait longest: for the ends of several leases.
        aside.sort(key=lambda one: not needs_own_server(self.harness, one))
        if aside:
            self._pool = ThreadPoolExecutor(max_workers=len(aside), thread_name_prefix="kessel-case")
            for wanted in aside:
                if needs_own_server(self.harness, wanted):
                    own = self.harness.another(still=wanted.id in self.harness.still)
                    if own is None:
                        continue  # later, when the others are done
                    run, harness = _run_apart, own
                else:
                    run, harness = run_case, with_own_files(self._servers.next(), wanted)
                self._waiting[wanted.id] = self._pool.submit(self._in_turn, run, harness, wanted)

    def _in_turn(self, run: Callable[..., Outcome], harness: AnyHarness, wanted: Case) -> Outcome:
        with self._turn:
            time.sleep(_APART)
        return run(harness, wanted, self.settings, self._pulse)

    def down(self) -> None:
        """Stop the harness."""
        for future in self._waiting.values():
            future.cancel()
        if self._pool is not None:
            self._pool.shutdown()
        self._pulse.stop()
        self._watch.stop()
        self._servers.down()
        self.seconds = time.perf_counter() - self._start

    def outcome(self, case_id: str) -> Outcome:
        """Run a case, or return how it ended; one whose failure is doubtful is repeated, alone."""
        if case_id not in self.outcomes:
            outcome = self._first(self._cases[case_id])
            failed = outcome
            for _ in range(self.settings.repeats):
                if not outcome.is_doubtful:
                    break
                outcome = self._alone(self._cases[case_id])
            if outcome is not failed and outcome.verdict is Verdict.PASS:
                outcome = attrs.evolve(outcome, reason=f"repeated, the machine was busy: {failed.reason}")
            self.outcomes[case_id] = outcome
        return self.outcomes[case_id]

    def _first(self, wanted: Case) -> Outcome:
        if wanted.id in self._waiting:
            self._work_until(self._waiting[wanted.id])
            return self._waiting[wanted.id].result()
        if needs_own_server(self.harness, wanted) or needs_quiet(self.harness, wanted):
            return self._alone(wanted)
        return self._ran.pop(wanted.id, None) or self._here(wanted)

    def _here(self, wanted: Case) -> Outcome:
        return run_case(self._servers.next(), wanted, self.settings, self._pulse)

    def _work_until(self, waiting: Future[Outcome]) -> None:
        """Run cases that will be asked for, instead of only waiting for one that runs aside."""
        while self._ahead and not waiting.done():
            ahead = self._ahead.popleft()
            if ahead.id not in self.outcomes:
                self._ran[ahead.id] = self._here(ahead)

    def _alone(self, wanted: Case) -> Outcome:
        """Run a case when those that run aside have ended."""
        for future in self._waiting.values():
            self._work_until(future)
            future.exception()
        own = self.harness.another(still=True) if wanted.id in self.harness.still else None
        if own is not None:
            return _run_apart(own, wanted, self.settings, self._pulse)
        return run_case(self.harness, wanted, self.settings, self._pulse)


def run_suite(
    harness: AnyHarness,
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

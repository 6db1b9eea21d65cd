"""Runs cases on a harness, for the tests of the suite."""

from __future__ import annotations

from collections.abc import Sequence

from kessel_conformance.harness_base import AnyHarness
from kessel_conformance.outcome import Outcome, Verdict
from kessel_conformance.runner import Run
from kessel_conformance.settings import Settings

__all__ = ["ended", "how_it_ended"]


def ended(harness: AnyHarness, settings: Settings, wanted: Sequence[str]) -> dict[str, Outcome]:
    """Run cases; return how each ended, in the order of the run."""
    run = Run(harness, settings, wanted)
    run.up()
    try:
        return {case.id: run.outcome(case.id) for case in run.wanted}
    finally:
        run.down()


def how_it_ended(harness: AnyHarness, case: str) -> tuple[Verdict, str]:
    """Run a case; return its verdict, and why."""
    outcome = ended(harness, Settings(shrink=False), [case])[case]
    return outcome.verdict, outcome.reason

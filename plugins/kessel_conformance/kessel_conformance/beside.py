"""Which cases run beside others, which alone, and in which order they are best asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kessel_conformance.catalogue import Case
from kessel_conformance.harness_base import AnyHarness

__all__ = ["in_turn", "needs_own_server", "runs_aside", "with_own_files"]


def needs_own_server(harness: AnyHarness, wanted: Case) -> bool:
    """Whether nothing else may use its server or its files meanwhile."""
    return wanted.alone or wanted.id in harness.still


def in_turn(harness: AnyHarness, cases: Iterable[Case]) -> list[Case]:
    """Return cases in the order in which they are best asked for, so that nobody waits who could work.

    First those that the thread runs itself on any clock, then those that run aside on a real one, then those
    that always do, then those that may want the server when all others are done; each group as it was.
    """

    def place(case: Case) -> tuple[bool, bool, bool]:
        return needs_own_server(harness, case), case.real_time, case.waits

    return sorted(cases, key=place)


def runs_aside(harness: AnyHarness, wanted: Case) -> bool:
    """Whether other cases run meanwhile."""
    return wanted.real_time or (wanted.waits and not harness.virtual)


def with_own_files(harness: AnyHarness, wanted: Case) -> AnyHarness:
    """Return the harness for a case that runs aside: nobody waits until another one has written."""
    if harness.has_server:
        return harness  # which knows one folder, or none
    folder = Path(harness.folder, wanted.id)
    folder.mkdir()
    return harness.in_folder(str(folder))

"""Which cases run beside others, which alone, in which order they are best asked for, and on which server."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from kessel_conformance.catalogue import Case
from kessel_conformance.harness_base import AnyHarness

__all__ = ["Servers", "in_turn", "needs_own_server", "needs_quiet", "runs_aside", "with_own_files"]


def needs_own_server(harness: AnyHarness, wanted: Case) -> bool:
    """Whether nothing else may use its server or its files meanwhile."""
    return wanted.alone or wanted.id in harness.still


def needs_quiet(harness: AnyHarness, wanted: Case) -> bool:
    """Whether no other case may work meanwhile, because it measures milliseconds of a real clock."""
    return wanted.quiet and not harness.virtual


def in_turn(harness: AnyHarness, cases: Iterable[Case]) -> list[Case]:
    """Return cases in the order in which they are best asked for, so that nobody waits who could work.

    First those that the thread runs itself on any clock, then those that run aside on a real one, then those
    that always do, then those that may want the server or all of the processor when all others are done; each
    group as it was.
    """

    def place(case: Case) -> tuple[bool, bool, bool, bool]:
        return needs_quiet(harness, case), needs_own_server(harness, case), case.real_time, case.waits

    return sorted(cases, key=place)


def runs_aside(harness: AnyHarness, wanted: Case) -> bool:
    """Whether other cases run meanwhile."""
    is_aside = wanted.real_time or (wanted.waits and not harness.virtual)
    return is_aside and not needs_quiet(harness, wanted)


def with_own_files(harness: AnyHarness, wanted: Case) -> AnyHarness:
    """Return the harness for a case that runs aside: nobody waits until another one has written."""
    if harness.has_server:
        return harness  # which knows one folder, or none
    folder = Path(harness.folder, wanted.id)
    folder.mkdir()
    return harness.in_folder(str(folder))


class Servers:
    """The harness of a run, and others like it among which the cases are shared out. For one thread.

    Args:
        harness: Says how many there are; fewer where `another` gives none.
    """

    def __init__(self, harness: AnyHarness) -> None:
        self._harness = harness
        self._up: list[AnyHarness] = []
        self._given = 0

    def up(self) -> None:
        """Start all of them.

        Raises:
            ServerMissing: As `Harness.start`; none is up then.
        """
        harness: AnyHarness | None = self._harness
        try:
            while harness is not None:
                harness.up()
                self._up.append(harness)
                is_last = len(self._up) >= self._harness.servers
                harness = None if is_last else self._harness.another()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """Stop all of them."""
        with ExitStack() as stack:  # whichever of it fails, the rest is done
            for harness in self._up:
                stack.callback(harness.down)
            self._up.clear()

    def next(self) -> AnyHarness:
        """Return the one for the next case."""
        self._given += 1
        return self._up[self._given % len(self._up)]

"""What a case may need of the place of the jobs: where it is, which processes have it; as `requirements`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kessel_conformance.requirements import Requirement
from kessel_core.contract import Durability, Reach

if TYPE_CHECKING:
    from kessel_conformance.harness import Harness

__all__ = ["FILES", "FORKS", "ONE_PROCESS", "OUTLIVES_A_PROCESS", "REFUSES_A_PASSWORD"]


class _OneProcess(Requirement):
    """One process has the jobs, so that its own clock counts their leases (contract, rule 5)."""

    name = "reach of one process"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        is_alone = harness.capabilities.reach is Reach.PROCESS
        return None if is_alone else "for adapters of one process, which count by its own clock"


class _OutlivesAProcess(Requirement):
    """What a process did that was killed can be seen by another one, at the same time or afterwards."""

    name = "reach or durability beyond this process"
    shows = "durability"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        declared = harness.capabilities
        is_there = declared.reach is not Reach.PROCESS or declared.durability is not Durability.NONE
        return None if is_there else "for adapters whose jobs others see, or that survive this process"

    def hidden(self, harness: Harness) -> str | None:
        """As `Requirement.hidden`."""
        is_seen = harness.capabilities.reach is not Reach.PROCESS or _is_in_tmp(harness)
        return (
            None if is_seen else "the address has no {tmp}, so that no process can be killed that was there"
        )


class _Files(Requirement):
    """The adapter keeps its jobs in files of the harness's folder, which can be moved away."""

    name = "files"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        if not _is_in_tmp(harness) or harness.has_server:
            return "for adapters whose jobs are in files of {tmp}"
        is_shared = harness.capabilities.reach is not Reach.PROCESS
        return (
            None
            if is_shared
            else "for adapters whose files several processes share; this one has a reach of one"
        )


class _RefusesAPassword(Requirement):
    """The harness knows an address whose user or password is refused."""

    name = "refused_url"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if harness.refused_url is not None else "for harnesses that give a refused_url"


class _Forks(Requirement):
    """The harness says that the adapter may be used in a forked child."""

    name = "forks"

    def missing(self, harness: Harness) -> str | None:
        """As `Requirement.missing`."""
        return None if harness.forks else "for harnesses that say forks"


def _is_in_tmp(harness: Harness) -> bool:
    """Whether it is opened in the harness's folder."""
    return any("{tmp}" in str(one) for one in (harness.url, *harness.options.values()))


#: Its jobs are in files of the harness's folder.
FILES: Final = _Files()
#: An adapter that is open when its process forks works in the child, too.
FORKS: Final = _Forks()
#: One process has the jobs, and its clock counts.
ONE_PROCESS: Final = _OneProcess()
#: A process can be killed, and another one sees what it did.
OUTLIVES_A_PROCESS: Final = _OutlivesAProcess()
#: There are users, with passwords, and one is known that is wrong.
REFUSES_A_PASSWORD: Final = _RefusesAPassword()

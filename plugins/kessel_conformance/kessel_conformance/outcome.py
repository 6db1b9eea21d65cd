"""How a case ended."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import attrs

from kessel_conformance.catalogue import Case

__all__ = ["FAILING", "Outcome", "Verdict"]


class Verdict(StrEnum):
    """How a case ended."""

    #: What it checks holds.
    PASS = "pass"  # noqa: S105
    #: It does not hold.
    FAIL = "fail"
    #: Listed as an expected failure, and failed.
    XFAIL = "expected failure"
    #: It is for others.
    SKIP = "skip"
    #: What it looks at is declared, but cannot be looked at in this run.
    NOT_SHOWN = "not shown"
    #: The harness or the server failed, not what is checked.
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

    #: What was checked.
    case: Case
    #: How it ended.
    verdict: Verdict
    #: Why, beginning with the clause if a promise was broken; empty if it passed.
    reason: str = ""
    #: The calls that showed a failure, with their times.
    example: str = ""
    #: How long it took.
    seconds: float = 0.0
    #: Whether it failed in real time on a machine too busy for that to prove anything.
    is_doubtful: bool = False
    #: Names of what it says something about: capabilities, facets; see `Case.shows`.
    shows: tuple[str, ...] = attrs.field(default=attrs.Factory(lambda self: self.case.shows, takes_self=True))

    @property
    def ok(self) -> bool:
        """Whether it lets the run pass."""
        return self.verdict not in FAILING

    @property
    def text(self) -> str:
        """The reason with the example, for people."""
        return "\n".join(filter(None, (self.reason, self.example)))

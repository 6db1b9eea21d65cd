"""What `kessel doctor` passes to an adapter and to plugins, and the findings that it gets back."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

import attrs

__all__ = ["DoctorContext", "Finding", "Level"]


class Level(StrEnum):
    """The severity of a finding of `kessel doctor`."""

    #: All is well.
    OK = "ok"
    #: Works, but somebody should look.
    WARNING = "warning"
    #: Does not work.
    ERROR = "error"


@attrs.frozen
class Finding:
    """One line of `kessel doctor`: what was checked, what was found, what to do."""

    #: Its severity.
    level: Level
    #: What was checked, in two or three words.
    subject: str
    #: What was found.
    detail: str
    #: What to do; empty when all is well.
    advice: str = ""


@attrs.frozen(kw_only=True)
class DoctorContext:
    """What `QueueAdapter.doctor` and the hook `kessel_doctor` may compare with what they find."""

    #: Queues that the configuration names.
    queues: tuple[str, ...]
    #: Types that this application has handlers for.
    types: frozenset[str]
    #: How long a stopping worker waits for its running jobs.
    grace: timedelta

"""What `kessel doctor` asks an adapter, and what it finds."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

import attrs

__all__ = ["DoctorContext", "Finding", "Level"]


class Level(StrEnum):
    """How bad a finding of `kessel doctor` is."""

    #: As it should be.
    OK = "ok"
    #: Works, but somebody should look.
    WARNING = "warning"
    #: Does not work.
    ERROR = "error"


@attrs.frozen
class Finding:
    """One line of `kessel doctor`: what was looked at, what was found, what to do."""

    #: How bad it is.
    level: Level
    #: What was looked at, two or three words.
    subject: str
    #: What was found.
    detail: str
    #: What to do; empty when all is well.
    advice: str = ""


@attrs.frozen(kw_only=True)
class DoctorContext:
    """What `QueueAdapter.doctor` may compare its findings with."""

    #: Queues that the configuration names.
    queues: tuple[str, ...]
    #: Types that this application has handlers for.
    types: frozenset[str]
    #: How long a stopping worker waits for its running jobs.
    grace: timedelta

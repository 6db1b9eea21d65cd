"""What another call does while a consumer waits: a case goes on when what was done is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import attrs

from kessel_core.contract import NO_PAUSE, Message

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["FALLS_ASLEEP", "SOON", "acts", "soon"]

#: A delay that a case waits for in real time.
SOON: Final = timedelta(milliseconds=150)
#: Seconds until a consumer waits, on a busy machine, too: one that does not yet finds the job by a look.
FALLS_ASLEEP: Final = 0.3


def acts(
    real: Bench, what: str, act: Callable[[], object], due_after: timedelta = NO_PAUSE
) -> Callable[[], None]:
    """Return a function that makes a call, and returns when what it did is due."""

    def acting() -> None:
        due = time.monotonic() + due_after.total_seconds()
        real.call(what, act)
        time.sleep(max(0.0, due - time.monotonic()))

    return acting


def soon(real: Bench, message: Message) -> Message:
    """Delay a job from now on, so that it is not due before `acts` expects it."""
    return attrs.evolve(message, delay=real.now() + SOON)

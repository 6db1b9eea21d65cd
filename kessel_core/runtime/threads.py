"""The threads that run jobs are made here, so that a clock may say when each of them runs (S43)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from kessel_core.clock import Clock

__all__ = ["MakesThreads", "new_thread"]


@runtime_checkable
class MakesThreads(Protocol):
    """A clock that also decides when threads run, as that of a simulation does."""

    def new_thread(self, work: Callable[[], None], name: str) -> threading.Thread:
        """Return a daemon thread that is not started yet."""
        ...


def new_thread(work: Callable[[], None], name: str, clock: Clock) -> threading.Thread:
    """Return a thread that is not started yet; daemon, so that what never ends does not keep the process."""
    if isinstance(clock, MakesThreads):
        return clock.new_thread(work, name)
    return threading.Thread(target=work, name=name, daemon=True)

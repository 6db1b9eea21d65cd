"""How long a thread was kept from the processor: on a busy machine a failure in real time proves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple, Self

__all__ = ["Processor"]

#: Time on the processor and time ready to run but not let, in nanoseconds (Linux, Documentation/scheduler/
#: sched-stats.rst: "schedstats" of a task).
_STATISTICS: Final = Path("/proc/thread-self/schedstat")
#: Seconds; less than that makes nothing late.
_SOME: Final = 0.1


class Processor(NamedTuple):
    """What the calling thread had of the processor so far, in seconds."""

    had: float
    #: How long it was ready to run, and had to wait for others.
    denied: float

    @classmethod
    def so_far(cls) -> Self:
        """Return it for the calling thread; nothing where the system does not tell."""
        try:
            had, denied, _ = _STATISTICS.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return cls(0.0, 0.0)
        return cls(int(had) / 1e9, int(denied) / 1e9)

    def was_busy_since(self, before: Processor) -> bool:
        """Whether the thread has since been kept from the processor for longer than it had it."""
        denied = self.denied - before.denied
        return denied > max(_SOME, self.had - before.had)

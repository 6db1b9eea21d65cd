"""How long a thread was kept from the processor: on a busy machine a failure in real time proves nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

__all__ = ["Processor", "Pulse"]

#: Time on the processor and time ready to run but not let, in nanoseconds (Linux, Documentation/scheduler/
#: sched-stats.rst: "schedstats" of a task).
_STATISTICS: Final = Path("/proc/thread-self/schedstat")
#: Seconds; less than that makes nothing late.
_SOME: Final = 0.1
#: Seconds between two looks of a pulse, and how late one is while the whole process stands still.
_BEAT: Final = 0.05
_STILL: Final = 0.5


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


class Pulse:
    """Notices when all threads of this process stand still, as during a long collection of garbage.

    A thread that waits for the interpreter's lock is not kept from the processor, and yet is late.
    """

    def __init__(self) -> None:
        self._stops = threading.Event()
        self._thread: threading.Thread | None = None
        #: When it last noticed that, by `time.perf_counter`.
        self._noticed = -1.0

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="kessel-pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; it may never have been started."""
        self._stops.set()
        if self._thread is not None:
            self._thread.join()

    def stood_still_since(self, begun: float) -> bool:
        """Whether the process stood still after a moment of `time.perf_counter`."""
        return self._noticed >= begun

    def _run(self) -> None:
        before = time.perf_counter()
        while not self._stops.wait(_BEAT):
            now = time.perf_counter()
            if now - before > _BEAT + _STILL:
                self._noticed = now
            before = now

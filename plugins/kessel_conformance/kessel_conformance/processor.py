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
#: Seconds by which the looks are late on the average where nothing is in time. With the cases of one run side
#: by side that was 5 ms, and 11 in no more than 1 case of 100: each thread gets its turn within the 5 ms of
#: `sys.getswitchinterval`. With four such runs on two cores it was 30 to 110.
_LATE: Final = 0.02
#: So many looks at least make an average; a case may be shorter.
_FEWEST: Final = 10


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
    """Notices when the threads of this process do not get their turn, or all of them stand still for long.

    A thread that waits for the interpreter's lock is not kept from the processor, and yet is late; and who
    waits for others, such as a server, needs as little of the processor as on a machine with nothing to do.
    """

    def __init__(self) -> None:
        self._stops = threading.Event()
        self._thread: threading.Thread | None = None
        #: By how many seconds each look was late.
        self._late: list[float] = []

    def start(self) -> None:
        """Begin to look, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="kessel-pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; it may never have been started."""
        self._stops.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def beats(self) -> int:
        """How often it has looked so far."""
        return len(self._late)

    def was_late_since(self, beats: int) -> bool:
        """Whether it did not get its turn after it had looked so often; a look or two do not tell."""
        looks = self._late[max(0, min(beats, self.beats - _FEWEST)) :]
        return bool(looks) and (max(looks) > _STILL or sum(looks) > _LATE * len(looks))

    def _run(self) -> None:
        before = time.perf_counter()
        while not self._stops.wait(_BEAT):
            now = time.perf_counter()
            self._late.append(now - before - _BEAT)
            before = now

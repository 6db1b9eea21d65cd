"""Progress of running jobs: the latest value, in the store (S27).

A handler only leaves its report with its lease. The worker's thread writes it, once a second at most; what
is left is written at the end of the attempt, before the settlement. Nothing here can fail a job.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final, Protocol

from kessel_core.clock import Clock
from kessel_core.contract.store import SET_A_STORE, Store
from kessel_core.errors import AdapterError, DecodeError, StoreRejected
from kessel_core.model.progress import Progress
from kessel_core.values.logs import get_logger
from kessel_core.wire.entries import decode_progress, encode_progress

__all__ = ["Reported", "Reporting", "Reports", "progress_of"]

log = get_logger("kessel.progress")

#: Where progress is, each under the id of its job.
SPACE: Final = "progress"
#: How long it is kept after the last report.
KEPT: Final = timedelta(days=1)
#: For how many seconds the end of an attempt does not try a store that has just failed.
_AWAY: Final = 10.0


class Reported:
    """What one attempt has reported; made with its first report."""

    __slots__ = ("job_id", "latest", "writing")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        #: What is not written yet.
        self.latest: Progress | None = None
        #: Held while it is written, so that an older value cannot overtake a newer one.
        self.writing = threading.Lock()


class Reporting(Protocol):
    """Whoever holds a job that may report; in a worker its lease."""

    #: None: it has not reported anything.
    reported: Reported | None

    @property
    def is_held(self) -> bool:
        """Whether the job is still held here, as far as is known, and this process may use the store."""
        ...


class Reports:
    """The reports of the jobs of one application; thread-safe.

    Args:
        store: Where they are written; None: nowhere.
        clock: The application's clock.
    """

    def __init__(self, store: Store | None, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._first = threading.Lock()
        self._has_warned = False
        #: Called when an attempt reports for the first time, so that nobody has to look whether one has.
        self.begun: list[Callable[[], None]] = []
        #: When the last write failed, on the monotonic clock; None: it did not.
        self._failed: float | None = None

    def note(self, held: Reporting, job_id: str, progress: Progress) -> None:
        """Take a report; the one before it is forgotten if it is not written yet."""
        if self._store is None:
            self._warn()
            return
        if not job_id:
            return  # nobody can ask for it
        reported = held.reported
        if reported is None:
            with self._first:  # two threads of a handler may report for the first time
                reported = held.reported = held.reported or Reported(job_id)
            for tell in tuple(self.begun):
                tell()
        reported.latest = progress

    def _warn(self) -> None:
        with self._first:
            first, self._has_warned = not self._has_warned, True
        if first:
            log.warning("progress of jobs is kept nowhere, because there is no store; %s", SET_A_STORE)

    def write(self, held: Reporting, *, is_last: bool = False) -> None:
        """Write what was reported since the last call; raises nothing.

        Args:
            held: The job.
            is_last: At the end of the attempt: a store that failed a moment ago is not waited for, because
                each job would wait for it.
        """
        reported = held.reported
        if reported is None or (is_last and self._has_just_failed()):
            return
        with reported.writing:
            latest = reported.latest
            if latest is None or not held.is_held:
                return
            reported.latest = None
            if not self._put(reported.job_id, latest) and reported.latest is None:
                reported.latest = latest

    def _has_just_failed(self) -> bool:
        failed = self._failed
        return failed is not None and self._clock.monotonic() < failed + _AWAY

    def _put(self, job_id: str, progress: Progress) -> bool:
        """Write one value; return whether there is no reason to try again."""
        assert self._store is not None
        try:
            self._store.put(SPACE, job_id, encode_progress(progress), ttl=KEPT)
        except StoreRejected as exc:  # it would be refused again; the store is well
            log.warning("%s", exc, extra={"job_id": job_id})
        except Exception as exc:
            is_known = isinstance(exc, AdapterError)
            level = logging.DEBUG if self._failed is not None and is_known else logging.WARNING
            trace = None if is_known else exc
            text = "job %s: progress not written: %s"
            log.log(level, text, job_id, exc, exc_info=trace, extra={"job_id": job_id})
            self._failed = self._clock.monotonic()
            return False
        self._failed = None
        return True


def progress_of(store: Store, job_id: str) -> Progress | None:
    """Return what a job reported last, or None; so is what cannot be read.

    Raises:
        AdapterError: The store cannot be asked.
    """
    try:
        entry = store.get(SPACE, job_id)
        return None if entry is None else decode_progress(entry.value)
    except StoreRejected:  # no entry has such a key, and no job such an id
        return None
    except DecodeError as exc:
        log.warning("job %s: %s", job_id, exc, extra={"job_id": job_id})
        return None

"""Events of jobs in the store, written behind: a log of what happened, not the truth (S39).

A watcher like anybody's: it takes note of an event and returns; one thread writes what was noted, half a
second later. Nothing here can fail or delay a job: what cannot be written is dropped, and counted.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
import time
import weakref
from collections import deque
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from kessel_core.clock import Clock
from kessel_core.contract.store import Store
from kessel_core.errors import AdapterError, StoreRejected
from kessel_core.features.events import DROPPED, SPACE
from kessel_core.handlers.context import JobContext
from kessel_core.hooks.specs import hookimpl
from kessel_core.model.history import Dropped, Event, EventKind
from kessel_core.model.ids import new_id
from kessel_core.model.job import Job
from kessel_core.model.result import JobResult
from kessel_core.model.settlement import Bury, Commit, Rollback, Settlement, Snooze
from kessel_core.values.logs import get_logger
from kessel_core.wire.events import encode_dropped, encode_events

__all__ = ["Recorder"]

log = get_logger("kessel.history")

#: How many events wait at most, and how many are written at once.
MOST_WAITING: Final = 10_000
_BATCH: Final = 500
#: Seconds from the first event of a batch to its writing, and from a failed write to the next.
_PAUSE: Final = 0.5
#: For how many seconds the end of a worker or manager waits for what is not written yet.
_AT_THE_END: Final = 5.0
#: Characters of a message that are kept.
_MESSAGE: Final = 500

_SETTLED_AS: Final[dict[type, str]] = {Commit: "commit", Rollback: "rollback", Bury: "bury"}
_recorders: Final[weakref.WeakSet[Recorder]] = weakref.WeakSet()


class _Noted(NamedTuple):
    """An event that waits to be written."""

    job_id: str
    #: Grows with every event of this process.
    number: int
    event: Event


class Recorder:
    """Writes the events of the jobs of one application; thread-safe.

    Args:
        keep: How long each event is kept.
        clock: The application's clock; the thread waits in real time, because nothing depends on it.
    """

    def __init__(self, keep: timedelta, clock: Clock) -> None:
        self._keep = keep
        self._clock = clock
        self._store: Store | None = None
        self._begin()
        _recorders.add(self)

    def _begin(self) -> None:
        """Begin with nothing, in this process."""
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._waiting: deque[_Noted] = deque()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._is_away = False
        self._dropped: Dropped | None = None
        self._noted = 0
        #: In every key, so that no two processes write the same.
        self._writer = new_id(self._clock.now())[-12:]
        self.worker = f"{socket.gethostname()}:{os.getpid()}"

    def open(self, store: Store) -> None:
        """Say where events are written."""
        self._store = store

    # --- what happens --------------------------------------------------------------------------

    @hookimpl
    def kessel_job_enqueued(self, request: Job) -> None:
        """Take note that a job was stored."""
        self.note(request.id, EventKind.REQUESTED, at=request.requested_at)

    @hookimpl
    def kessel_job_started(self, job: JobContext) -> None:
        """Take note that an attempt begins."""
        self.note(job.id, EventKind.STARTED, at=job.started_at, attempt=job.attempt)

    @hookimpl
    def kessel_job_settled(self, result: JobResult, settlement: Settlement) -> None:
        """Take note of how an attempt was settled."""
        self.note(
            result.id,
            EventKind.SNOOZED if isinstance(settlement, Snooze) else EventKind.SETTLED,
            attempt=result.attempt,
            settled_as=_SETTLED_AS.get(type(settlement)),
            pause=settlement.pause if isinstance(settlement, (Rollback, Snooze)) else None,
            was_run=result.started_at is not None,
            reason=str(result.reason) if result.reason else None,
            message=result.message[:_MESSAGE],
        )

    @hookimpl
    def kessel_job_finished(self, result: JobResult) -> None:
        """Take note that a job has ended."""
        self.note(
            result.id,
            EventKind.FINISHED,
            attempt=result.attempt,
            was_run=result.started_at is not None,
            status=str(result.status),
            reason=str(result.reason) if result.reason else None,
        )

    def note(
        self,
        job_id: str,
        kind: EventKind,
        *,
        at: datetime | None = None,
        attempt: int | None = None,
        settled_as: str | None = None,
        pause: timedelta | None = None,
        was_run: bool = False,
        status: str | None = None,
        reason: str | None = None,
        message: str = "",
    ) -> None:
        """Take note of an event; see `Event`. One of a job without an id is nobody's."""
        if not job_id:
            return
        event = Event(
            kind=kind,
            at=at or self._clock.now(),
            worker=self.worker,
            attempt=attempt,
            settled_as=settled_as,
            pause=pause,
            was_run=was_run,
            status=status,
            reason=reason,
            message=message,
        )
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                self._drop(event)
                return
            self._noted += 1
            self._waiting.append(_Noted(job_id, self._noted, event))
            if self._thread is None:
                self._start()
            elif len(self._waiting) in (1, _BATCH):
                self._changed.notify()

    def _start(self) -> None:
        """Start the thread; called with `changed` held. If there is none left, the next event tries again."""
        thread = threading.Thread(target=self._run, name="kessel-history", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            log.debug("the history of jobs is not written yet: %s", exc)
        else:
            self._thread = thread

    def _drop(self, event: Event) -> None:
        """Count an event that is written nowhere; called with `changed` held."""
        one = Dropped(worker=self.worker, since=event.at, until=event.at, count=1)
        self._dropped = one if self._dropped is None else _together(self._dropped, one)

    # --- writing -------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    return
                # What happens to a job in the meantime is written with it.
                self._changed.wait_for(lambda: self._is_closed or len(self._waiting) >= _BATCH, _PAUSE)
            if not self._write():
                time.sleep(_PAUSE)

    def flush(self, seconds: float = _AT_THE_END) -> None:
        """Write what waits, for so long at most; a store that is away is left to the thread."""
        end = time.monotonic() + seconds
        # At least once, because the thread may be writing the last of it.
        while self._write(end - time.monotonic()) and (self._waiting or self._dropped):
            pass

    def _write(self, seconds: float = 60.0) -> bool:
        """Write a batch; return whether the store took it, and was free for it so soon."""
        if seconds <= 0 or not self._writing.acquire(timeout=seconds):
            return False
        try:
            return self._write_batch()
        finally:
            self._writing.release()

    def _write_batch(self) -> bool:
        left: dict[str, list[_Noted]] = {}  # by job, what was taken and is not written yet
        try:
            with self._changed:
                for _ in range(min(_BATCH, len(self._waiting))):
                    noted = self._waiting.popleft()
                    left.setdefault(noted.job_id, []).append(noted)
            for job_id, together in tuple(left.items()):
                if not self._put(together):
                    return False
                del left[job_id]
            return self._put_dropped()
        finally:
            if left:  # also after a Ctrl-C, which falls where it likes
                with self._changed:
                    self._waiting.extendleft(reversed([one for those in left.values() for one in those]))
                    # The thread may have seen that nothing waits while somebody else tried to write it.
                    self._changed.notify()

    def _put(self, together: list[_Noted]) -> bool:
        """Write events of one job; return False if the store is away."""
        store, first = self._store, together[0]
        # The same key when it is tried again, because it may have been written.
        key = f"{first.job_id}/{self._number(first.event.at, first.number)}"
        if store is None:
            return True
        try:
            store.put(SPACE, key, encode_events([one.event for one in together]), ttl=self._keep)
        except StoreRejected as exc:  # it would be refused again
            extra = {"job_id": first.job_id}
            log.warning("job %s: its history is not written: %s", first.job_id, exc, extra=extra)
            with self._changed:
                for one in together:
                    self._drop(one.event)
        except Exception as exc:  # a store that fails in its own way, too, must not end the thread
            return self._failed(exc)
        self._is_away = False
        return True

    def _put_dropped(self) -> bool:
        store = self._store
        with self._changed:
            dropped, self._dropped = self._dropped, None
        if store is None or dropped is None:
            return True
        key = self._number(dropped.since, 0)
        try:
            store.put(DROPPED, key, encode_dropped(dropped), ttl=self._keep)
        except BaseException as exc:  # a Ctrl-C, too, must not lose the number
            with self._changed:
                self._dropped = dropped if self._dropped is None else _together(dropped, self._dropped)
            if not isinstance(exc, Exception):
                raise
            return self._failed(exc)
        log.warning("%d events of jobs are not in the history; the store did not keep up", dropped.count)
        return True

    def _failed(self, exc: Exception) -> bool:
        is_known = isinstance(exc, AdapterError)
        level = logging.DEBUG if self._is_away and is_known else logging.WARNING
        trace = None if is_known else exc
        log.log(level, "the history of jobs could not be written: %s", exc, exc_info=trace)
        self._is_away = True
        return False

    def _number(self, at: datetime, number: int) -> str:
        """Return a part of a key that sorts by time, and that nobody else makes."""
        return f"{int(at.timestamp() * 1_000_000):016x}-{self._writer}-{number:x}"

    def abandon(self) -> None:
        """Touch the store no more: its descriptors may be somebody else's by now."""
        self._store = None

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self.flush()
        with self._changed:
            left, self._is_closed = len(self._waiting), True
            self._changed.notify_all()
            thread = self._thread
        if left:
            log.warning("%d events of jobs are not in the history: the store is away", left)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def forked(self) -> None:
        """Forget, in a forked child, what the parent writes."""
        self._begin()


def _together(one: Dropped, other: Dropped) -> Dropped:
    return Dropped(
        worker=one.worker,
        since=min(one.since, other.since),
        until=max(one.until, other.until),
        count=one.count + other.count,
    )


def _after_fork_in_child() -> None:
    for recorder in list(_recorders):
        recorder.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


@atexit.register
def _at_exit() -> None:
    for recorder in list(_recorders):
        recorder.flush()

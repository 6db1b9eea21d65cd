"""Writes into the history of jobs what commands do to them, where a history is kept (S39)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

from kessel_core.model.history import EventKind

if TYPE_CHECKING:
    from kessel_core.cli.app import App
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.operations import StoredJob

__all__ = ["Note", "noted", "noting"]

#: Takes note of what was done to the job of an id, and when it was begun.
Note: TypeAlias = Callable[[str, EventKind, datetime], None]

#: After so many events those that wait are written, because a command can wait, and none is to be dropped.
_EVERY: Final = 1_000


@contextmanager
def noting(app: App, adapter: QueueAdapter) -> Iterator[Note]:
    """Yield a function that takes note; without `history.keep`, or a store, it does nothing."""
    keep = app.config.history.keep
    if keep is None:
        yield lambda job_id, kind, at: None
        return
    from kessel_core.clock import SystemClock
    from kessel_core.features.history import Recorder

    with app.store_beside(adapter) as (store, _):
        if store is None:
            yield lambda job_id, kind, at: None
            return
        recorder = Recorder(keep, SystemClock())
        recorder.open(store)
        count = 0

        def note(job_id: str, kind: EventKind, at: datetime) -> None:
            nonlocal count
            recorder.note(job_id, kind, at=at)
            count += 1
            if count % _EVERY == 0:
                recorder.flush()

        try:
            yield note
        finally:
            recorder.close()


def noted(operation: Callable[[StoredJob], None], kind: EventKind, note: Note) -> Callable[[StoredJob], None]:
    """Return an operation on a job that is noted if it succeeds."""

    def do(job: StoredJob) -> None:
        # From before it, because a worker may begin the job at once.
        at = datetime.now(UTC)
        operation(job)
        note(job.id, kind, at)

    return do

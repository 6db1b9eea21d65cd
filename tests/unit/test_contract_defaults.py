"""What `QueueAdapter` does for adapters that do not do better."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import Mock

import pytest

from kessel_core.contract import (
    AdapterUnavailable,
    Buried,
    Delete,
    DoctorContext,
    EnqueueRejected,
    EnqueueUnknown,
    Find,
    JobState,
    Level,
    Message,
    QueueAdapter,
    QueueStats,
    StoredJob,
    UnknownJob,
)


def test_s14_a_batch_is_not_tried_further_once_a_job_had_no_answer() -> None:
    """Each further job could wait for its own time-out, and the batch for hours."""
    messages = [Message(name, "q", b"", 1) for name in "abcde"]
    rejected, unknown = EnqueueRejected("b", "too large"), EnqueueUnknown("c", "no answer within 10 s")
    adapter = Mock()
    adapter.enqueue.side_effect = [None, rejected, unknown]
    outcomes = QueueAdapter.enqueue_many(adapter, messages)
    assert outcomes[:3] == [None, rejected, unknown]
    assert [type(outcome) for outcome in outcomes[3:]] == [AdapterUnavailable] * 2
    assert "job c had no answer" in str(outcomes[4])
    assert adapter.enqueue.call_count == 3


def test_s9_doctor_asks_the_backend_even_if_no_queue_is_named() -> None:
    """Else a backend that is gone looks well."""
    context = DoctorContext(queues=(), types=frozenset(), grace=timedelta(seconds=1))
    adapter = Mock()
    adapter.queues.side_effect = AdapterUnavailable("connection refused")
    [finding] = QueueAdapter.doctor(adapter, context)
    assert (finding.level, finding.detail) == (Level.ERROR, "connection refused")
    adapter.queues.side_effect = [["a", "b"], []]
    adapter.stats.side_effect = lambda queue: QueueStats(queue=queue, ready=2)
    assert [finding.detail for finding in QueueAdapter.doctor(adapter, context)] == ["4 jobs in a, b"]
    assert [finding.detail for finding in QueueAdapter.doctor(adapter, context)] == ["0 jobs in no queue"]


class _Holding(Delete, Find):
    """Holds one job, in a state; and what was deleted."""

    def __init__(self, state: JobState, queue: str = "q") -> None:
        self.job: StoredJob | None = StoredJob(id="a", queue=queue, state=state, body=b"")
        self.deleted: list[tuple[str, str]] = []

    def find(self, job_id: str) -> StoredJob | None:
        return self.job

    def delete(self, queue: str, job_id: str) -> None:
        self.deleted.append((queue, job_id))


@pytest.mark.parametrize(
    ("shown", "now", "is_deleted"),
    [
        (JobState.BURIED, _Holding(JobState.READY), False),
        (JobState.BURIED, _Holding(JobState.DELAYED), False),
        (JobState.BURIED, _Holding(JobState.BURIED), True),
        (JobState.BURIED, _Holding(JobState.READY, "another"), True),
        (JobState.DELAYED, _Holding(JobState.READY), True),
    ],
)
def test_s8_a_job_that_was_shown_as_buried_is_deleted_as_a_buried_one(
    shown: JobState, now: _Holding, is_deleted: bool
) -> None:
    """S8: what was kicked since is somebody's work again."""
    job = StoredJob(id="a", queue="q", state=shown, body=b"")
    if is_deleted:
        now.delete_shown(job)
    else:
        with pytest.raises(UnknownJob):
            now.delete_shown(job)
    assert now.deleted == [("q", "a")] * is_deleted


class _Listing(Delete, Buried):
    """Holds one job, in a state, and finds none by its id; and what was deleted."""

    def __init__(self, state: JobState) -> None:
        self.state = state
        self.deleted: list[str] = []

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        job = StoredJob(id="a", queue=queue, state=self.state, body=b"")
        return [job] if self.state is JobState.BURIED else []

    def kick(self, queue: str, job_id: str) -> None:
        self.state = JobState.READY

    def delete(self, queue: str, job_id: str) -> None:
        self.deleted.append(job_id)


def test_s8_where_no_job_is_found_by_its_id_the_buried_are_looked_through() -> None:
    """S8: without `Find`, too, what was kicked since it was shown stays."""
    adapter = _Listing(JobState.BURIED)
    (job,) = adapter.buried("q")
    adapter.delete_shown(job)
    assert adapter.deleted == ["a"]
    adapter.kick("q", "a")
    with pytest.raises(UnknownJob):
        adapter.delete_shown(job)
    assert adapter.deleted == ["a"]

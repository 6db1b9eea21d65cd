"""What adapters that count and show their jobs tell `kessel doctor` of them alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import attrs
import pytest

from kessel_core.contract import JobState, Level, QueueStats, StoredJob, jobs_findings, lease_findings

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@attrs.frozen
class Shown:
    """A queue whose next ready job is as old as that; None: it has no ready job."""

    age: timedelta | None = None
    buried: int = 0

    def stats(self, queue: str) -> QueueStats:
        return QueueStats(
            queue=queue, ready=int(self.age is not None), delayed=2, reserved=3, buried=self.buried
        )

    def peek(self, queue: str, state: JobState, limit: int = 1) -> Sequence[StoredJob]:
        if self.age is None or state is not JobState.READY:
            return []
        job = StoredJob(id="a", queue=queue, state=state, body=b"", priority=1, enqueued_at=NOW - self.age)
        return [job][:limit]


@pytest.mark.parametrize(
    ("shown", "level", "detail", "advice"),
    [
        (Shown(), Level.OK, "q: 0 ready, 2 delayed, 3 reserved, 0 buried", ""),
        (Shown(DAY), Level.OK, "q: 1 ready, 2 delayed, 3 reserved, 0 buried", ""),
        (Shown(-DAY), Level.OK, "q: 1 ready, 2 delayed, 3 reserved, 0 buried", ""),
        (
            Shown(2 * DAY),
            Level.WARNING,
            "q: 1 ready, 2 delayed, 3 reserved, 0 buried; the next one has waited for 2 days",
            "does a worker serve this queue?",
        ),
        (
            Shown(2 * DAY, buried=1),
            Level.WARNING,
            "q: 1 ready, 2 delayed, 3 reserved, 1 buried",
            "look at them: kessel buried --queue q",
        ),
    ],
)
def test_each_queue_has_a_line_that_says_what_somebody_should_look_at(
    shown: Shown, level: Level, detail: str, advice: str
) -> None:
    [finding] = jobs_findings(shown, ["q"], NOW)
    assert (finding.level, finding.detail, finding.advice) == (level, detail, advice)
    assert len(list(jobs_findings(shown, ["q", "r"], NOW))) == 2
    assert list(jobs_findings(shown, [], NOW)) == []


def test_lease_of_less_than_five_seconds_is_a_warning() -> None:
    [finding] = lease_findings(timedelta(seconds=4.9))
    assert finding.level is Level.WARNING and finding.detail.startswith("only 4.9 s: ")
    assert list(lease_findings(timedelta(seconds=5))) == []

"""Mutants of the reference adapter that write a long queue anew without all of it; as `mutants.py`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import mutant
from reference import DISKS, Disk, Record, Reference

from kessel_core.contract import JobState

#: So many jobs that are gone make a log long.
_LONG = 100


def _gone(adapter: Any, queue: str) -> int:
    """Count one more job of a queue that has gone."""
    gone: Counter[str] = adapter.disk.__dict__.setdefault("gone", Counter())
    gone[queue] += 1
    return gone[queue]


def _left_in(adapter: Any, queue: str) -> list[Record]:
    return [record for record in adapter.disk.records if record.message.queue == queue]


def _anew(change: Callable[[Any, Record], object]) -> Callable[[Any, Record], None]:
    """The method that removes a job, and changes all others when their queue is written anew."""

    def removes(adapter: Any, record: Record) -> None:
        Reference.removes(adapter, record)
        if _gone(adapter, record.message.queue) % _LONG == 0:
            for other in _left_in(adapter, record.message.queue):
                change(adapter, other)

    return removes


def _rewrites(name: str, what: str, **values: Callable[[Any, Record], Any]) -> None:
    def change(adapter: Any, record: Record) -> None:
        for field, value in values.items():
            setattr(record, field, value(adapter, record))

    mutant(f"anew_{name}", f"writes a long queue anew {what}", removes=_anew(change))


_rewrites("without_kicks", "without the counts of kicks", kicks=lambda s, r: 0)
_rewrites("without_messages", "without the messages of burials", text=lambda s, r: "")
_rewrites("without_snoozes", "without the counts of snoozes", snoozes=lambda s, r: 0)
_rewrites("by_arrival", "with its burials in the order of arrival", buried_number=lambda s, r: r.number)
_rewrites("without_priorities", "without the priorities", priority=lambda s, r: min(r.priority, 60))
_rewrites(
    "without_delays",
    "without the delays",
    ready_at=lambda s, r: 0.0 if r.state is JobState.READY else r.ready_at,
)
_rewrites(
    "without_holders",
    "without who holds what",
    state=lambda s, r: JobState.READY if r.state is JobState.RESERVED else r.state,
    ready_at=lambda s, r: 0.0 if r.state is JobState.RESERVED else r.ready_at,
)


def _is_young(adapter: Any, record: Record) -> None:
    adapter.disk.__dict__.setdefault("young", {})[record.number] = adapter.now()


def _young(adapter: Any, record: Record, now: float) -> Any:
    since = adapter.disk.__dict__.get("young", {}).get(record.number, 0.0)
    return Reference.ready_for(adapter, record, now) if not since else timedelta(seconds=now - since)


mutant(
    "anew_is_young",
    "takes all jobs of a queue that is written anew for new ones",
    removes=_anew(_is_young),
    ready_for=_young,
)


def _drops(adapter: Any, queue: str) -> None:
    """Throw a long queue away once nothing in it is ready."""
    left = _left_in(adapter, queue)
    ready = [record for record in left if record.state is JobState.READY and adapter.is_ready(record)]
    if _gone(adapter, queue) >= _LONG and not ready:
        for record in left:
            adapter.disk.records.remove(record)


def _removes_or_drops(adapter: Any, record: Record) -> None:
    Reference.removes(adapter, record)
    _drops(adapter, record.message.queue)


def _deletes_or_drops(adapter: Any, queue: str, job_id: str) -> None:
    Reference.delete(adapter, queue, job_id)
    with adapter.lock:
        _drops(adapter, queue)


mutant("drops_after_commits", "drops a long queue once no job in it is ready", removes=_removes_or_drops)
mutant(
    "drops_after_deletes",
    "drops a long queue once all jobs that are ready were deleted",
    delete=_deletes_or_drops,
)


def _purges_pause(adapter: Any, queue: str) -> int:
    with adapter.lock:
        count = Reference.purge(adapter, queue)
        if count > _LONG and not _left_in(adapter, queue):
            adapter.disk.paused.pop(queue, None)
        return count


mutant("purge_resumes_long", "forgets the pause of a long queue that is purged", purge=_purges_pause)


def _removes_for_itself(adapter: Any, record: Record) -> None:
    """Write everything into a new file, which others do not notice who have the old one open."""
    Reference.removes(adapter, record)
    if _gone(adapter, record.message.queue) % _LONG == 0:
        old = adapter.disk
        (name,) = [name for name, disk in DISKS.items() if disk is old]
        fresh = Disk(list(old.records), old.entries, old.counter, old.paused, old.guard, old.changed)
        adapter.disk = DISKS[name] = fresh


mutant(
    "anew_for_itself",
    "writes a long queue anew, and others read on in the old one",
    removes=_removes_for_itself,
)

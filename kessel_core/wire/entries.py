"""Progress and entries of workers as JSON, as they are in the store.

Whoever reads may be older or newer than who wrote: keys that are not known are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from kessel_core.errors import DecodeError, Problem
from kessel_core.model.json import JsonValue
from kessel_core.model.progress import Progress
from kessel_core.model.worker import BusyJob, WorkerEntry, WorkerState
from kessel_core.wire.requests import dump, iso

__all__ = [
    "decode_progress",
    "decode_worker",
    "encode_progress",
    "encode_worker",
    "progress_fields",
    "worker_fields",
]

T = TypeVar("T")


def progress_fields(progress: Progress) -> dict[str, JsonValue]:
    """Return progress as a JSON object."""
    return {
        "done": progress.done,
        "total": progress.total,
        "note": progress.note,
        "at": iso(progress.at),
    }


def encode_progress(progress: Progress) -> bytes:
    """Encode progress."""
    return dump(progress_fields(progress)).encode()


def decode_progress(body: bytes) -> Progress:
    """Decode what `encode_progress` wrote.

    Raises:
        DecodeError: The bytes are something else.
    """
    return _decoded(body, "progress", _progress)


def _progress(fields: Any) -> Progress:
    return Progress.checked(
        fields["done"], fields.get("total"), fields.get("note", ""), _moment(fields["at"])
    )


def worker_fields(entry: WorkerEntry) -> dict[str, JsonValue]:
    """Return the entry of a worker as a JSON object."""
    return {
        "id": entry.id,
        "host": entry.host,
        "pid": entry.pid,
        "version": entry.version,
        "state": str(entry.state),
        "queues": list(entry.queues),
        "types": list(entry.types),
        "slots": entry.slots,
        "busy": entry.busy,
        "disconnected": entry.disconnected,
        "jobs": [
            {"id": job.id, "type": job.type, "queue": job.queue, "since": iso(job.since)}
            for job in entry.jobs
        ],
        "counts": dict(entry.counts),
        "started_at": iso(entry.started_at),
        "seen_at": iso(entry.seen_at),
    }


def encode_worker(entry: WorkerEntry) -> bytes:
    """Encode the entry of a worker."""
    return dump(worker_fields(entry)).encode()


def decode_worker(body: bytes) -> WorkerEntry:
    """Decode what `encode_worker` wrote.

    Raises:
        DecodeError: The bytes are something else.
    """
    return _decoded(body, "the entry of a worker", _worker)


def _worker(fields: Any) -> WorkerEntry:
    return WorkerEntry(
        id=fields["id"],
        host=fields["host"],
        pid=fields["pid"],
        version=fields["version"],
        state=WorkerState(fields["state"]),
        queues=tuple(fields["queues"]),
        types=tuple(fields["types"]),
        slots=fields["slots"],
        busy=fields["busy"],
        disconnected=fields.get("disconnected", 0),
        jobs=tuple(
            BusyJob(
                id=job["id"],
                type=job["type"],
                queue=job["queue"],
                since=_moment(job["since"]),
            )
            for job in fields["jobs"]
        ),
        counts=fields["counts"],
        started_at=_moment(fields["started_at"]),
        seen_at=_moment(fields["seen_at"]),
    )


def _decoded(body: bytes, what: str, read: Callable[[Any], T]) -> T:
    try:
        return read(json.loads(body))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as exc:
        why = f"{type(exc).__name__}: {exc}"
        raise DecodeError(body, [Problem(("$",), why)], f"it is not {what}") from exc


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment

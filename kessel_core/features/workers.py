"""Entries of workers in the store (S27): writing, removing and listing them."""

from __future__ import annotations

from typing import Final

from kessel_core.contract.store import LARGEST_PAGE, Store
from kessel_core.errors import DecodeError
from kessel_core.model.worker import ENTRY_LIVES, WorkerEntry
from kessel_core.values.logs import get_logger
from kessel_core.wire.entries import decode_worker, encode_worker

__all__ = ["listed_workers", "remove_entry", "write_entry"]

log = get_logger("kessel.worker")

#: Where they are, each under the id of the worker.
SPACE: Final = "workers"


def write_entry(store: Store, entry: WorkerEntry) -> None:
    """Write what a worker says of itself, for the next thirty seconds."""
    store.put(SPACE, entry.id, encode_worker(entry), ttl=ENTRY_LIVES)


def remove_entry(store: Store, worker_id: str) -> None:
    """Remove the entry of a worker that has ended."""
    store.delete(SPACE, worker_id)


def listed_workers(store: Store) -> list[WorkerEntry]:
    """Return the workers that have an entry, in the order of their start.

    Entries that cannot be read are left out, with a line in the log.

    Raises:
        AdapterError: The store cannot be asked.
    """
    found: list[WorkerEntry] = []
    last = ""
    while page := store.scan(SPACE, after=last, limit=LARGEST_PAGE):
        for entry in page:
            try:
                found.append(decode_worker(entry.value))
            except DecodeError as exc:
                log.warning("worker %s: %s", entry.key, exc)
        last = page[-1].key
    return sorted(found, key=lambda one: (one.started_at, one.id))

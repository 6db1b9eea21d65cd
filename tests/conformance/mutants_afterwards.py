"""Mutants of the reference adapter that forget what ends by itself; as `mutants.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import mutant
from reference import Reference

from kessel_core.contract import JobState, Message


def _enqueued(adapter: Any, message: Message) -> None:
    Reference.enqueue(adapter, message)
    adapter.__dict__.setdefault("names", set()).add(message.queue)


def _taken(adapter: Any, queues: Sequence[str]) -> Any:
    Reference.tick(adapter)
    return Reference.take(adapter, queues)


def _next_change(adapter: Any, queues: Sequence[str]) -> datetime | None:
    if any(adapter.is_ready(record) for queue in queues for record in adapter.of(queue, JobState.READY)):
        return adapter.clock.now()  # type: ignore[no-any-return]
    return Reference.next_change(adapter, queues)


mutant(
    "queues_for_ever",
    "lists every queue that there ever was",
    enqueue=_enqueued,
    queues=lambda s: sorted(s.__dict__.get("names", set())),
)
mutant("leases_end_in_take", "looks for ended leases only in a reserve", tick=lambda s: None, take=_taken)
mutant("next_change_of_ready", "takes a ready job for a change to come", next_change=_next_change)

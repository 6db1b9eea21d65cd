"""Mutants of the reference adapter whose faults are hidden by something else; as `mutants.py`.

By a check that stands before them, by a look that came first, or because they are off by a part of a second.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import attrs
from breaking import mutant
from reference import Held, Record, Reference

from kessel_core import IdHeld
from kessel_core.contract import (
    NO_PAUSE,
    Bury,
    Commit,
    JobState,
    Message,
    Reservation,
    Settlement,
    StoredJob,
)

# --- what a settlement brings along ---


def _brings_though_stale(
    adapter: Reference, held: Reservation, settlement: Settlement, kind: type[Commit] | type[Bury]
) -> None:
    """What is outdated is refused, but not before that is stored which comes along."""
    assert isinstance(held, Held)
    adapter.tick()
    if isinstance(settlement, kind) and not adapter.is_late(held) and adapter.is_stale(held):
        adapter.brings(settlement)
    Reference.settle(adapter, held, settlement)


for _kind, _what in ((Commit, "commit"), (Bury, "burial")):
    mutant(
        f"late_{_what}_follows",
        f"stores what a {_what} brings along although another holds the job",
        settle=lambda s, r, st, kind=_kind: _brings_though_stale(s, r, st, kind),
    )


def _brings_first(adapter: Reference, held: Reservation, settlement: Settlement) -> None:
    with adapter.lock:
        adapter.record_of(held)
        if isinstance(settlement, Commit):
            adapter.checked(settlement)
            adapter.brings(settlement)
            settlement = Commit()
        Reference.settle(adapter, held, settlement)


def _replaces_buried(adapter: Reference, settlement: Commit | Bury) -> None:
    for message in settlement.follow if isinstance(settlement, Bury) else ():
        for record in [r for r in adapter.disk.records if r.message.id == message.id]:
            if record.state is JobState.BURIED:
                adapter.disk.records.remove(record)
    Reference.brings(adapter, settlement)


mutant(
    "follow_before_removed",
    "stores the follow-ups of a commit before it removes its job",
    settle=_brings_first,
)
mutant(
    "follow_replaces_buried",
    "lets a follow-up replace the buried job whose id it has",
    brings=_replaces_buried,
)

# --- at the first look ---


def _as_of_last_look(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, but what time has done since somebody else looked is not seen."""

    def mutated(adapter: Reference, *arguments: Any) -> Any:
        with adapter.lock:
            looked = adapter.disk.__dict__.get("looked", 0.0)
            adapter.__dict__["now"] = lambda: looked
            try:
                return method(adapter, *arguments)
            finally:
                del adapter.__dict__["now"]

    return mutated


def _looks(adapter: Reference) -> None:
    adapter.disk.__dict__["looked"] = adapter.now()
    Reference.tick(adapter)


def _says_last_state(adapter: Reference, message: Message) -> None:
    if adapter.is_known(message):
        _as_of_last_look(Reference.enqueue)(adapter, message)
    Reference.enqueue(adapter, message)


for _name, _what, _method in (
    ("find", "finds a job", _as_of_last_look(Reference.find)),
    ("peek", "lists jobs", _as_of_last_look(Reference.peek)),
    ("stats", "counts jobs", _as_of_last_look(Reference.stats)),
    ("purge", "purges jobs", _as_of_last_look(Reference.purge)),
    ("enqueue", "tells the state of a held id", _says_last_state),
):
    mutant(
        f"{_name}_sees_last_look",
        f"{_what} as somebody last saw them"
        if _what.endswith("jobs")
        else f"{_what} as somebody last saw it",
        tick=_looks,
        **{_name: _method},
    )

# --- a request that is repeated ---


def _changed(
    adapter: Reference, message: Message, state: JobState, change: Callable[[Record, Message], None]
) -> None:
    try:
        Reference.enqueue(adapter, message)
    except IdHeld as exc:
        if exc.state == state:
            change(adapter.record_named(message.id), message)
        raise


def _takes_delay(record: Record, message: Message) -> None:
    record.ready_at = 0.0 if message.delay is None else message.delay.timestamp()


def _takes_queue(record: Record, message: Message) -> None:
    record.message = attrs.evolve(record.message, queue=message.queue)


_CHANGES: dict[str, Callable[[Record, Message], None]] = {
    "priority": lambda record, message: setattr(record, "priority", message.priority),
    "body": lambda record, message: setattr(record, "body", message.body),
    "queue": _takes_queue,
}
for _field, _change in _CHANGES.items():
    for _state in (JobState.READY, JobState.RESERVED, JobState.BURIED):
        mutant(
            f"repeated_{_field}_of_{_state}",
            f"gives a {_state} job the {_field} of a request that is repeated",
            enqueue=lambda s, m, state=_state, change=_change: _changed(s, m, state, change),
        )
mutant(
    "repeated_delay",
    "gives a delayed job the delay of a request that is repeated",
    enqueue=lambda s, m: _changed(s, m, JobState.DELAYED, _takes_delay),
)
mutant(
    "repeated_sooner",
    "lets a repeated request make a job more urgent, and no less",
    enqueue=lambda s, m: _changed(
        s, m, JobState.RESERVED, lambda r, m: setattr(r, "priority", min(r.priority, m.priority))
    ),
)

# --- parts of a second ---


def _floor(seconds: float) -> float:
    return math.floor(seconds * 1000 + 1e-4) / 1000


def _cut(adapter: Reference, record: Record, state: JobState, field: str) -> StoredJob:
    shown = Reference.stored(adapter, record, state)
    moment = getattr(shown, field)
    return shown if moment is None else attrs.evolve(shown, **{field: moment.replace(microsecond=0)})


mutant("delay_floor_ms", "cuts delays to whole milliseconds", due=lambda s, m: _floor(m.timestamp()))
for _kind, _rule in (("rollback", "pause_ends"), ("snooze", "snooze_ends"), ("queue", "queue_pause_ends")):
    mutant(
        f"{_kind}_pause_floor_ms",
        f"cuts the pause of a {_kind} to whole milliseconds",
        **{
            _rule: lambda s, *told, rule=_rule: getattr(Reference, rule)(
                s, *told[:-1], told[-1] // timedelta(milliseconds=1) * timedelta(milliseconds=1)
            )
        },
    )
    mutant(
        f"{_kind}_pause_of_a_ms_is_none",
        f"takes the pause of a {_kind} of a millisecond for none",
        **{
            _rule: lambda s, *told, rule=_rule: getattr(Reference, rule)(
                s, *told[:-1], told[-1] if told[-1] > timedelta(milliseconds=1) else NO_PAUSE
            )
        },
    )
for _field in ("due", "enqueued_at", "buried_at"):
    mutant(
        f"shown_{_field}_in_seconds",
        f"shows {_field} in whole seconds",
        stored=lambda s, r, state, field=_field: _cut(s, r, state, field),
    )

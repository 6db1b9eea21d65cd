"""Mutants of the reference adapter whose faults are hidden by something else; as `mutants.py`.

By a check that stands before them, by a look that came first, or because they are off by a part of a second.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from breaking import mutant
from reference import Held, Reference

from kessel_core.contract import (
    Bury,
    Commit,
    JobState,
    Reservation,
    Settlement,
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

"""Adapters on SQLite that leave something behind; other processes import them."""

from __future__ import annotations

import threading

import attrs
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.plugin import SPEC

from kessel_core.contract import AdapterSpec, Bury, Commit, Consumer, Reservation, Settlement

__all__ = ["SPECS"]


class InTwoSteps(SqliteAdapter):
    """Stores what a settlement brings along, and then settles."""

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        if isinstance(settlement, (Commit, Bury)):
            for message in settlement.follow:
                self.put(message)
            settlement = attrs.evolve(settlement, follow=())
        super().end(reservation, settlement)


class LeavesThread(SqliteAdapter):
    """Begins a thread with each consumer, which goes on when everything is closed."""

    def consumer(self, queues: list[str]) -> Consumer:  # type: ignore[override]  # any sequence
        threading.Thread(target=threading.Event().wait, name="left", daemon=True).start()
        return super().consumer(queues)


#: By the name of the case.
SPECS: dict[str, AdapterSpec] = {
    "following.killed_process": attrs.evolve(SPEC, open=InTwoSteps),
    "adapter.close_ends_threads": attrs.evolve(SPEC, open=LeavesThread),
}

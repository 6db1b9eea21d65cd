"""Where jobs have to be in the end, and where they are found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Final, NoReturn

import attrs

from kessel_conformance.history import History
from kessel_conformance.requirements import LEASE
from kessel_core.contract import NO_PAUSE, Buried, Message

if TYPE_CHECKING:
    from datetime import datetime

    from kessel_conformance.bench import Bench

__all__ = ["BURIED", "GONE", "MAYBE", "READY", "Entry", "Ledger"]

READY: Final = frozenset({"ready"})
BURIED: Final = frozenset({"buried"})
GONE: Final = frozenset({"gone"})
#: Stored or not, committed or not: nobody can know.
MAYBE: Final = READY | GONE
#: Queues that one consumer drains in the end.
_AT_ONCE: Final = 40


@attrs.define(eq=False, kw_only=True)
class Entry:
    """One job, and where it has to be in the end."""

    message: Message
    #: Says that a promise was broken, with the calls that led there.
    broken: Callable[[str], NoReturn]
    #: `READY`, `BURIED`, `GONE`, or several of them.
    places: frozenset[str] = READY
    #: Follows "although", or a colon.
    why: str = "it was acknowledged"
    #: It must be ready at once, and not only when a lease is over.
    soon: bool = False
    #: It may be held until a lease is over.
    holds: bool = False
    #: What `attempt` its next delivery must have.
    attempt: int | None = None
    found: list[str] = attrs.field(factory=list)


class Ledger:
    """Entries for the jobs of many queues.

    Args:
        bench: Whose adapter delivers the jobs in the end.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.entries: list[Entry] = []

    def settle_up(self, since: datetime) -> None:
        """Look for every job, once at once and once when all leases are over.

        Args:
            since: When the latest lease began.
        """
        bench = self.bench
        bench.history = History(bench.clock)
        holds = any(entry.holds for entry in self.entries)
        if any(entry.soon for entry in self.entries):
            bench.let_pass(bench.slack if holds else NO_PAUSE)
            self._look()
            for entry in self.entries:
                if entry.soon and not entry.found:
                    entry.broken(f"{self._name(entry)} is not ready, although {entry.why}")
        sees_all = not holds or LEASE.is_met(bench.harness)
        if holds and sees_all:
            bench.until(since + bench.lease + bench.slack)
        self._look()
        self._look_at_buried()
        for entry in self.entries:
            self._judge(entry, sees_all=sees_all)

    def _name(self, entry: Entry) -> str:
        return self.bench.label(entry.message.body)

    def _judge(self, entry: Entry, *, sees_all: bool) -> None:
        name = self._name(entry)
        if len(entry.found) > 1:
            entry.broken(f"there are {len(entry.found)} jobs {name}; it was enqueued once")
        place = entry.found[0] if entry.found else "gone"
        is_unseen = place == "gone" and "ready" in entry.places and entry.holds and not sees_all
        if place not in entry.places and not is_unseen:
            expected = " or ".join(sorted(entry.places))
            entry.broken(f"{name} is {place}, expected {expected}: {entry.why}")

    def _look(self) -> None:
        """Deliver and commit whatever is ready."""
        known = {entry.message.body: entry for entry in self.entries}
        queues = list(dict.fromkeys(entry.message.queue for entry in self.entries))
        for start in range(0, len(queues), _AT_ONCE):
            with closing(self.bench.adapter.consumer(queues[start : start + _AT_ONCE])) as consumer:
                while (held := self.bench.reserve(consumer)) is not None:
                    entry = known.get(held.body)
                    if entry is None:
                        self.bench.broken(f"a body was delivered that nobody enqueued: {held.body!r:.80}")
                    entry.found.append("ready")
                    if entry.attempt is not None:
                        attempt = self.bench.attempt(consumer, held)
                        if attempt != entry.attempt:
                            entry.broken(f"attempt {attempt}, expected {entry.attempt}: {entry.why}")
                    self.bench.settle(consumer, held)

    def _look_at_buried(self) -> None:
        buried = [entry for entry in self.entries if "buried" in entry.places]
        if not self.bench.has(Buried):  # nobody can see it, so it may be there
            for entry in buried:
                entry.places |= GONE
            return
        for queue in dict.fromkeys(entry.message.queue for entry in buried):
            bodies = [job.body for job in self.bench.facet(Buried).buried(queue)]
            for entry in self.entries:
                if entry.message.queue == queue:
                    entry.found += ["buried"] * bodies.count(entry.message.body)

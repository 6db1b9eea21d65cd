"""What adapters over a network have in common, beside their pool and their line (E8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import cast

from kessel_core.contract.base import WaitingAdapter
from kessel_core.contract.facets import F, FacetKind
from kessel_core.contract.serverline import ServerLine
from kessel_core.contract.store import Store
from kessel_core.model.settlement import Bury, Commit, Settlement

__all__ = ["ServerAdapter"]


class ServerAdapter(WaitingAdapter):
    """A queue whose consumers wait in a `ServerLine`, with a store beside it.

    To implement: as for `WaitingAdapter`; `line` and `store`, which are set by the constructor; and
    `looks_again`, which here calls `line.plan` with the time until a delay, pause or lease may end that the
    line has not been told of, and returns None, or when a slot has to look for itself. That time comes from
    the same step as the `take` that found nothing: what became ready between the two would be in neither. The
    inherited one lets every slot that waits look each tenth of a second.

    Rule 9 says what to announce; `announce_stored` and `announce_brought` do so for batches and for what a
    settlement brings along. If the server does not answer, something may have become ready all the same: call
    `line.wake_all`, and hear what the server tells of that call later. A queue without a store derives from
    `WaitingAdapter`, with such a line.
    """

    #: Those of this process who wait, for jobs and for entries.
    line: ServerLine
    #: Small facts beside the jobs.
    store: Store

    def facet(self, kind: FacetKind[F]) -> F | None:
        """Return a facet: the store, or this adapter."""
        if kind is Store:
            return cast("F", self.store)
        return super().facet(kind)

    def announce_stored(self, ready: Mapping[str, int], first_due: Mapping[str, datetime]) -> None:
        """Notify waiting consumers of a batch that is stored, as `kinds_of` tells it."""
        if self.line.is_empty:
            return
        for queue, count in ready.items():
            self.line.announce(queue, count)
        for queue, due in first_due.items():
            self.announce(queue, due)

    def announce_brought(self, settlement: Settlement) -> None:
        """Notify whoever waits for what a settlement has brought along (S20)."""
        if not isinstance(settlement, (Commit, Bury)):
            return
        for message in settlement.follow:
            self.announce(message.queue, message.delay)
        for put in settlement.puts:
            self.line.announce_entry(put.space, put.key)

"""Trials: calls over a connection that breaks, and what has to be true of their jobs afterwards.

The adapter under trial talks through a `FaultProxy`; what it did is seen by the case's own adapter, which
does not. Jobs are looked for when all trials are done, and the leases that broken calls left are over.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kessel_conformance.call import Call
from kessel_conformance.faults import NO_FAULT, Fault, faults_of
from kessel_conformance.ledger import Ledger
from kessel_conformance.near import near_adapter
from kessel_conformance.proxy import Traffic
from kessel_conformance.requirements import requirement

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["Trials"]


class Trials:
    """The trials of one case; a context manager. For one thread.

    Args:
        bench: The case's own adapter, past the proxy.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._near = near_adapter(bench)
        self._ledger = Ledger(bench)
        self._number = 0
        #: When the latest lease may have begun.
        self._acted_at = bench.now()

    def __enter__(self) -> Self:
        self._near.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._near.__exit__(kind, exc, trace)

    # --- trials ----------------------------------------------------------------------------------------

    def run(self, kinds: Sequence[type[Call]], points: int) -> None:
        """Try calls under every fault, those that the adapter has the facets for.

        Args:
            kinds: The calls.
            points: At how many places requests and answers are cut.
        """
        self._tried(
            [
                (kind, fault)
                for kind in kinds
                if self._is_possible(kind)
                for fault in kind.faults or faults_of(self._undisturbed(kind), points)
            ]
        )

    def run_under(self, fault: Fault, kind: type[Call]) -> None:
        """Try one call under one fault, if the adapter has the facets for it."""
        if self._is_possible(kind):
            self._tried([(kind, fault)])

    def _is_possible(self, kind: type[Call]) -> bool:
        harness, needs = self.bench.harness, [requirement(need) for need in kind.needs]
        return all(need.is_met(harness) for need in needs)

    def _undisturbed(self, kind: type[Call]) -> Traffic:
        """Make a call while nothing is broken; return what it sends and receives."""
        healthy = self._prepared(kind, NO_FAULT)
        traffic = self._acted(healthy)
        healthy.close()
        return traffic

    def _tried(self, pairs: Sequence[tuple[type[Call], Fault]]) -> None:
        """Try calls one after the other; those before which part of the lease passes come last, together."""
        late: list[Call] = []
        for kind, fault in pairs:
            call = self._prepared(kind, fault)
            if kind.lease_passes:
                late.append(call)
            else:
                self._acted(call)
                call.close()
        if late:
            self.bench.let_pass(self.bench.lease * max(call.lease_passes for call in late))
        for call in late:
            self._acted(call)
        for call in late:
            self.bench.history = call.history
            call.later()
            call.close()

    def _prepared(self, kind: type[Call], fault: Fault) -> Call:
        call = kind(self._near, self._ledger, self._number, fault)
        self._number += 1
        self.bench.history = call.history
        call.prepare()
        return call

    def _acted(self, call: Call) -> Traffic:
        self.bench.history = call.history
        before = self._near.proxy.traffic
        call.fault.begin(self._near.proxy)
        answer = call.asked(f"{call.name}, while {call.fault.label}", call.act)
        self._near.proxy.end_faults()
        traffic = self._near.proxy.traffic - before
        self._acted_at = self.bench.now()
        call.is_unnoticed |= answer.error is None
        call.judge(answer)
        call.again()
        return traffic

    def finish(self) -> None:
        """Look for every job, once at once and once when all leases are over."""
        self._ledger.settle_up(self._acted_at)

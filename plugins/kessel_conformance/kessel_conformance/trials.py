"""Trials: calls over a connection that breaks, and what has to be true of their jobs afterwards.

The adapter under trial talks through a `FaultProxy`; what it did is seen by the case's own adapter, which
does not. Jobs are looked for when all trials are done, and the leases that broken calls left are over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from kessel_conformance.call import GONE, Call, Expected
from kessel_conformance.faults import NO_FAULT, Fault, faults_of
from kessel_conformance.history import History
from kessel_conformance.near import Near
from kessel_conformance.opencase import MICRO
from kessel_conformance.proxy import Traffic
from kessel_conformance.requirements import LEASE, requirement
from kessel_core.contract import NO_PAUSE, Buried

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["Trials"]

#: Queues that one consumer drains in the end.
_AT_ONCE: Final = 40


class Trials:
    """The trials of one case; a context manager. For one thread.

    Args:
        bench: The case's own adapter, past the proxy.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._near = Near(bench)
        self._calls: list[Call] = []
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
        for kind in kinds:
            if self._is_possible(kind):
                healthy = self._prepared(kind, NO_FAULT)
                traffic = self._acted(healthy)
                healthy.close()
                self._tried(kind, faults_of(traffic, points))

    def run_under(self, fault: Fault, kind: type[Call]) -> None:
        """Try one call under one fault, if the adapter has the facets for it."""
        if self._is_possible(kind):
            self._tried(kind, [fault])

    def _is_possible(self, kind: type[Call]) -> bool:
        harness, needs = self.bench.harness, [requirement(need) for need in kind.needs]
        return not any(need.missing(harness) or need.hidden(harness) for need in needs)

    def _tried(self, kind: type[Call], faults: Sequence[Fault]) -> None:
        if not kind.lease_passes:
            for fault in faults:
                call = self._prepared(kind, fault)
                self._acted(call)
                call.close()
            return
        calls = [self._prepared(kind, fault) for fault in faults]
        self.bench.let_pass(self.bench.lease * kind.lease_passes)
        for call in calls:
            self._acted(call)
        for call in calls:
            self.bench.history = call.history
            call.later()
            call.close()

    def _prepared(self, kind: type[Call], fault: Fault) -> Call:
        call = kind(self._near, len(self._calls), fault)
        self._calls.append(call)
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

    # --- the end ---------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Look for every job, once at once and once when all leases are over."""
        bench = self.bench
        bench.history = History(bench.clock)
        holds = any(call.holds for call in self._calls)
        if any(job.soon for _, job in self._jobs()):
            bench.let_pass(bench.slack if holds else NO_PAUSE)
            self._look()
            for call, job in self._jobs():
                if job.soon and not job.found:
                    call.broken(f"{call.label(job.message)} is not ready, although {job.why}")
        sees_all = not holds or (LEASE.missing(bench.harness) or LEASE.hidden(bench.harness)) is None
        if holds and sees_all:
            bench.until(self._acted_at + bench.lease + bench.slack + MICRO)
        self._look()
        self._look_at_buried()
        for call, job in self._jobs():
            name = call.label(job.message)
            if len(job.found) > 1:
                call.broken(f"there are {len(job.found)} jobs {name}; it was enqueued once")
            place = job.found[0] if job.found else "gone"
            unseen = place == "gone" and "ready" in job.places and call.holds and not sees_all
            if place not in job.places and not unseen:
                call.broken(f"{name} is {place}, expected {' or '.join(sorted(job.places))}: {job.why}")

    def _jobs(self) -> Iterator[tuple[Call, Expected]]:
        return ((call, job) for call in self._calls for job in call.jobs)

    def _look(self) -> None:
        """Deliver and commit whatever is ready."""
        known = {job.message.body: (call, job) for call, job in self._jobs()}
        queues = list(dict.fromkeys(call.queue for call in self._calls))
        for start in range(0, len(queues), _AT_ONCE):
            with closing(self.bench.adapter.consumer(queues[start : start + _AT_ONCE])) as consumer:
                while (held := self.bench.reserve(consumer)) is not None:
                    if held.body not in known:
                        self.bench.broken(f"a body was delivered that nobody enqueued: {held.body!r:.80}")
                    call, job = known[held.body]
                    job.found.append("ready")
                    if job.attempt is not None:
                        attempt = self.bench.attempt(consumer, held)
                        if attempt != job.attempt:
                            call.broken(f"attempt {attempt}, expected {job.attempt}: {job.why}")
                    self.bench.settle(consumer, held)

    def _look_at_buried(self) -> None:
        for call in self._calls:
            if not any("buried" in job.places for job in call.jobs):
                continue
            if not self.bench.has(Buried):  # nobody can see it, so it may be there
                for job in call.jobs:
                    job.places |= GONE
                continue
            bodies = [one.body for one in self.bench.facet(Buried).buried(call.queue)]
            for job in call.jobs:
                job.found += ["buried"] * bodies.count(job.message.body)

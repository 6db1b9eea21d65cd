"""A process that is killed while it settles a job that brings others along (S20)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from kessel_conformance.deeds import Deed
from kessel_conformance.dying import Death, Extent
from kessel_conformance.elsewhere import Elsewhere
from kessel_conformance.kills import deaths_in, let_die
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import CONNECTION
from kessel_core.contract import Buried, Bury, Commit, Message, Put, Store

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["kill_while_it_brings"]

_SPACE: Final = "conformance"
#: The deed in which they are killed.
_SETTLES: Final = 2
#: Follows the body of a job that is buried.
_BURIED: Final = b" (buried)"
#: Less urgent than the jobs that processes are given, one after the other; more than these are.
_LATER: Final = 60_000
#: Queues that one consumer drains in the end.
_AT_ONCE: Final = 40


def kill_while_it_brings(bench: Bench) -> None:
    """Kill a process in each step of settlements that bring jobs along: all of that is done, or nothing."""
    lives: list[_Bringer] = []
    with Elsewhere(bench) as elsewhere:
        for is_burial in (False, True) if bench.has(Buried) else (False,):
            for and_reserves in (False, True):
                way = _Way(bench, is_burial=is_burial, and_reserves=and_reserves)
                lives.append(way.bringer())
                for death in deaths_in(lives[-1].lives(elsewhere, Death()), way.most, (_SETTLES,)):
                    lives.append(way.bringer())
                    lives[-1].lives(elsewhere, death)
    bench.until(bench.now() + bench.lease + bench.slack + MICRO)
    came = _came(bench, lives)
    for one in lives:
        one.judge(came)


def _came(bench: Bench, lives: list[_Bringer]) -> Counter[bytes]:
    """Deliver all that is ready, and list what is buried."""
    queues = list(dict.fromkeys(message.queue for one in lives for message in one.messages))
    came = Counter[bytes]()
    for start in range(0, len(queues), _AT_ONCE):
        came.update(bench.drain(bench.consumer(*queues[start : start + _AT_ONCE])))
    for queue in dict.fromkeys(one.job.queue for one in lives if one.way.is_burial):
        came.update(job.body + _BURIED for job in bench.facet(Buried).buried(queue, len(lives)))
    return came


class _Way:
    """One way in which a job ends and brings others along."""

    def __init__(self, bench: Bench, *, is_burial: bool, and_reserves: bool) -> None:
        self.bench = bench
        self.is_burial = is_burial
        self.and_reserves = and_reserves
        self.name = f"{'buried' if is_burial else 'committed'}{'-and' if and_reserves else ''}"
        # Most ways are one way of an adapter.
        self.most = bench.settings.amounts.kills * (2 if is_burial or and_reserves else 8)
        least, most = bench.capabilities.priorities or (0, 0)
        # In one queue, so that each process finds as many queues as the one before it. Not on a server: what
        # a process asked for last is done when it is dead, and would take the job of the next one.
        self._is_shared = most - least > _LATER and not CONNECTION.is_met(bench.harness)
        self._number = 0

    def bringer(self) -> _Bringer:
        """Enqueue a job for a process, more urgent than all before, and one that it may take afterwards."""
        bench = self.bench
        self._number += 1
        queue = bench.queue_named(self.name if self._is_shared else f"{self.name}{self._number}")
        job = bench.put(queue=queue, priority=_LATER - self._number if self._is_shared else _LATER)
        brought = [bench.message(queue=bench.queue_named(f"{self.name}.{name}")) for name in "ab"]
        stays = [bench.put(queue=queue)] if self.and_reserves else []
        return _Bringer(bench, self, job, brought, stays)


class _Bringer:
    """Reserves a job, and settles it with two follow-ups in other queues, and an entry where it can."""

    def __init__(
        self, bench: Bench, way: _Way, job: Message, brought: list[Message], stays: list[Message]
    ) -> None:
        self.bench = bench
        self.way = way
        self.job = job
        self.brought = brought
        #: Jobs that nobody settles.
        self.stays = stays
        self.messages = [job, *brought, *stays]
        self.key = f"{bench.namespace}-{bench.label(job.body)}"
        self.how = ""
        self.done = 0

    def lives(self, elsewhere: Elsewhere, death: Death) -> Extent:
        """Let a process do it until it is killed; return how long all of it is."""
        follow = tuple(self.brought)
        puts = (Put(_SPACE, self.key, b"1"),) if self.bench.has(Store) else ()
        done = Commit(follow=follow, puts=puts)
        end = Bury("error", follow=follow, puts=puts) if self.way.is_burial else done
        deeds = [Deed(reserves=self.job.queue), Deed(settles=end, and_reserves=self.way.and_reserves)]
        self.done, extent = let_die(self.bench, elsewhere, deeds, death)
        self.how = "it ended after its last call" if death == Death() else f"killed {death}"
        return extent

    def judge(self, came: Counter[bytes]) -> None:
        """Check that the job is there, or what it brings along, when the lease is over."""
        bench = self.bench
        label = bench.label(self.job.body)
        here = bench.labels([one.body for one in self.messages for _ in range(came[one.body])])
        stays = bench.labels([one.body for one in self.stays])
        before, after = [label, *stays], [*bench.labels([one.body for one in self.brought]), *stays]
        if self.way.is_burial:
            here += [f"{label} (buried)"] * came[self.job.body + _BURIED]
            after.append(f"{label} (buried)")
        if bench.has(Store):
            here += ["its entry"] * (bench.facet(Store).get(_SPACE, self.key) is not None)
            after.append("its entry")
        allowed = [after] if self.done == _SETTLES else [before, after]
        expected = " or ".join(map(", ".join, allowed))
        what = f"{', '.join(here) or 'nothing'} came, expected {expected}"
        bench.check(here in allowed, f"{what}: a process settled a job that brings along two, {self.how}")

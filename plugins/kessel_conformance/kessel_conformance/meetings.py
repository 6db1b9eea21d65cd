"""Pairs of calls about one job that may meet at any moment, and what may come of it (S7, S9, S14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import DEDUPE, DELAYS, FENCING, LEASE, Need, requirement
from kessel_core import IdHeld, LeaseLost, UnknownJob
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Buried,
    Bury,
    Delete,
    Reservation,
    Rollback,
    Settlement,
    need,
)

if TYPE_CHECKING:
    from kessel_conformance.bench import Bench

__all__ = ["KINDS", "Kind", "Meeting"]


class Meeting:
    """A job that is alone in its queue, and two who make calls about it, each in a thread of its own.

    Args:
        benches: Of the first, and of the second.
        queue: Where the job is.

    Attributes:
        came: How often one of them has reserved it.
        done: How often each call that may be refused was not.
        is_too_late: Whether a lease was over on a busy machine.
    """

    def __init__(self, benches: tuple[Bench, Bench], queue: str) -> None:
        self.benches = benches
        self.message = benches[0].message(queue=queue)
        self.consumers = [bench.adapter.consumer([queue]) for bench in benches]
        self.came = 0
        self.done: Counter[str] = Counter()
        self.is_too_late = False
        self._held: Reservation | None = None
        self._taken: list[tuple[int, Reservation]] = []

    def commits(self) -> None:
        """Commit what the two have taken; each may believe that it is the only one."""
        for who, held in self._taken:
            self._in_time(held, partial(self.consumers[who].settle, held, COMMIT))

    def close(self) -> None:
        """Close the consumers."""
        for consumer in self.consumers:
            consumer.close()

    # --- before the two calls ---

    def is_ready(self) -> None:
        """Let the job be ready."""
        self.benches[0].adapter.enqueue(self.message)

    def is_delayed(self) -> None:
        """Let the job be delayed, for a moment."""
        bench = self.benches[0]
        self.message = bench.message(queue=self.message.queue, delay=bench.slack)
        bench.adapter.enqueue(self.message)

    def is_held(self) -> None:
        """Let the first hold the job."""
        self.is_ready()
        self._held = self.consumers[0].reserve(NO_PAUSE)

    def is_buried(self) -> None:
        """Let the job be buried."""
        self.is_held()
        self.settles(Bury("error", "it failed"))

    def is_missing(self) -> None:
        """Let there be no job."""

    # --- calls of the first and of the second ---

    def sends(self, who: int) -> None:
        """Enqueue the job."""
        self._tries("enqueue", IdHeld, lambda: self.benches[who].adapter.enqueue(self.message))

    def takes(self, who: int) -> None:
        """Reserve."""
        held = self.consumers[who].reserve(NO_PAUSE)
        if held is not None:
            self.came += 1
            self._taken.append((who, held))

    def deletes(self, who: int) -> None:
        """Delete the job."""
        facet = need(self.benches[who].adapter, Delete)
        self._tries("delete", UnknownJob, lambda: facet.delete(self.message.queue, self.message.id))

    def kicks(self, who: int) -> None:
        """Kick the job."""
        facet = need(self.benches[who].adapter, Buried)
        self._tries("kick", UnknownJob, lambda: facet.kick(self.message.queue, self.message.id))

    # --- calls of the first, who holds it ---

    @property
    def held(self) -> Reservation:
        """What the first holds."""
        if self._held is None:
            self.benches[0].broken("a ready job was not delivered")
        return self._held

    def settles(self, settlement: Settlement = COMMIT) -> None:
        """Settle it."""
        self._in_time(self.held, lambda: self.consumers[0].settle(self.held, settlement))

    def settles_late(self) -> None:
        """Commit it, if nobody else has got it."""
        self._tries("commit", LeaseLost, lambda: self.consumers[0].settle(self.held, COMMIT))

    def extends(self) -> None:
        """Extend its lease, as a heartbeat does, which may come after the settlement."""
        with suppress(LeaseLost):
            self.consumers[0].extend(self.held)

    def _tries(self, what: str, refusal: type[Exception], call: Callable[[], object]) -> None:
        try:
            call()
        except refusal:
            return
        self.done[what] += 1

    def _in_time(self, held: Reservation, call: Callable[[], object]) -> None:
        try:
            call()
        except LeaseLost:
            now = self.benches[0].clock.monotonic()
            self.is_too_late = held.deadline is not None and now >= held.deadline
            if not self.is_too_late:
                raise


def _no_time(_: Bench) -> timedelta:
    return NO_PAUSE


def _a_lease(bench: Bench) -> timedelta:
    return bench.lease + bench.slack + MICRO


@attrs.frozen(kw_only=True)
class Kind:
    """Two calls."""

    #: Both of them, the first one first.
    what: str
    needs: tuple[Need, ...] = ()
    #: Where the job is before.
    begins: Callable[[Meeting], object] = Meeting.is_ready
    first: Callable[[Meeting], object]
    second: Callable[[Meeting], object]
    #: How often the job has to come, to either or to who looks later.
    comes: Callable[[Meeting], int] = lambda _: 1
    #: A call that is to be done by one of the two.
    once: str = ""
    #: What has to pass before the calls, and after them.
    before: Callable[[Bench], timedelta] = _no_time
    after: Callable[[Bench], timedelta] = _no_time
    #: Whether both are calls of one consumer.
    is_of_one: bool = False

    def applies(self, bench: Bench) -> bool:
        """Whether an adapter can do it."""
        return all(requirement(one).is_met(bench.harness) for one in self.needs)

    def is_at_once(self, bench: Bench) -> bool:
        """Whether nothing has to pass."""
        return not self.before(bench) and not self.after(bench)


KINDS: Final[Sequence[Kind]] = (
    Kind(what="a reserve, and another one", first=lambda m: m.takes(0), second=lambda m: m.takes(1)),
    Kind(
        what="a reserve of a job whose delay is over, and another one",
        needs=(DELAYS,),
        begins=Meeting.is_delayed,
        first=lambda m: m.takes(0),
        second=lambda m: m.takes(1),
        before=lambda bench: 2 * bench.slack,
    ),
    Kind(
        what="an enqueue, and a reserve",
        begins=Meeting.is_missing,
        first=lambda m: m.sends(0),
        second=lambda m: m.takes(1),
        once="enqueue",
    ),
    Kind(
        what="an enqueue, and another one under the same id",
        needs=(DEDUPE,),
        begins=Meeting.is_missing,
        first=lambda m: m.sends(0),
        second=lambda m: m.sends(1),
        once="enqueue",
    ),
    Kind(
        what="a delete, and a reserve",
        needs=(Delete,),
        first=lambda m: m.deletes(0),
        second=lambda m: m.takes(1),
        comes=lambda m: 1 - m.done["delete"],
    ),
    Kind(
        what="a reserve, and a delete",
        needs=(Delete,),
        first=lambda m: m.takes(0),
        second=lambda m: m.deletes(1),
        comes=lambda m: 1 - m.done["delete"],
    ),
    Kind(
        what="a kick, and another one",
        needs=(Buried,),
        begins=Meeting.is_buried,
        first=lambda m: m.kicks(0),
        second=lambda m: m.kicks(1),
        once="kick",
    ),
    Kind(
        what="a kick, and a delete",
        needs=(Buried, Delete),
        begins=Meeting.is_buried,
        first=lambda m: m.kicks(0),
        second=lambda m: m.deletes(1),
        comes=lambda m: 1 - m.done["delete"],
    ),
    Kind(
        what="a commit, and a reserve",
        begins=Meeting.is_held,
        first=Meeting.settles,
        second=lambda m: m.takes(1),
        comes=lambda _: 0,
    ),
    Kind(
        what="a rollback, and a reserve",
        begins=Meeting.is_held,
        first=lambda m: m.settles(Rollback(NO_PAUSE)),
        second=lambda m: m.takes(1),
        after=lambda bench: bench.slack,
    ),
    Kind(
        what="a commit, and an extension of the lease",
        needs=(LEASE,),
        begins=Meeting.is_held,
        first=Meeting.settles,
        second=Meeting.extends,
        comes=lambda _: 0,
        after=_a_lease,
        is_of_one=True,
    ),
    Kind(
        what="an extension of the lease, and a commit",
        needs=(LEASE,),
        begins=Meeting.is_held,
        first=Meeting.extends,
        second=Meeting.settles,
        comes=lambda _: 0,
        after=_a_lease,
        is_of_one=True,
    ),
    Kind(
        what="a commit after the end of the lease, and a reserve",
        needs=(LEASE, FENCING),
        begins=Meeting.is_held,
        first=Meeting.settles_late,
        second=lambda m: m.takes(1),
        comes=lambda m: 1 - m.done["commit"],
        before=_a_lease,
    ),
    Kind(
        what="a reserve of a job whose lease is over, and a late commit",
        needs=(LEASE, FENCING),
        begins=Meeting.is_held,
        first=lambda m: m.takes(0),
        second=Meeting.settles_late,
        comes=lambda m: 1 - m.done["commit"],
        before=_a_lease,
    ),
)

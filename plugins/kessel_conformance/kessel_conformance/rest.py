"""What else is in a queue through which many jobs pass, and how it has to be afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.history import shown
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import ATTEMPTS, COUNTS, DELAYS, KICKS, PRIORITIES, TIE_BREAK
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Browse,
    Buried,
    Bury,
    JobState,
    Message,
    Pause,
    Reservation,
    StoredJob,
)

__all__ = ["Rest"]

#: Jobs of those that pass through which are there at a time.
_PORTION: Final = 50
_HOUR: Final = timedelta(hours=1)
#: How old the job is that is ready for longest, on a virtual clock.
_OLD: Final = timedelta(seconds=2)
_STATES: Final = (JobState.READY, JobState.DELAYED, JobState.BURIED)


class Rest:
    """Jobs in every state in the queue of a case; what one adapter sees of them another one has to see, too.

    Args:
        bench: Whose queue it is.
        is_ready: Whether jobs are ready, too, which come after those that pass through.
    """

    def __init__(self, bench: Bench, *, is_ready: bool) -> None:
        self.bench = bench
        self._is_ready = is_ready
        self._began = bench.now()
        #: Whether its lease may be over, on a busy machine.
        self._is_unsure = False
        #: The longest look, on a busy machine: an age that a server tells is older when it arrives.
        self._took = NO_PAUSE
        #: Whether the job that was held is gone.
        self._is_settled = False
        #: Jobs that were added at the end, which come after all others.
        self._added: list[Message] = []
        #: Those that are ready, in their order, and how often each was tried, snoozed and kicked.
        self._ready: list[tuple[Message, tuple[int, int, int]]] = []

    # --- before ----------------------------------------------------------------------------------------

    def make(self) -> None:
        """Bring jobs into all states that the adapter has."""
        bench = self.bench
        message = bench.put(priority=95)
        self._holder = bench.consumer()
        self._held = bench.gets(self._holder, message, "the job that is held")
        if self._is_ready:
            self._make_ready()
        self._buried = self._bury() if bench.has(Buried) else []
        if DELAYS.is_met(bench.harness):
            bench.put(delay=_HOUR)
        if bench.has(Pause):
            paused = bench.put(queue=bench.queue_named("paused"))
            bench.pause(paused.queue, _HOUR)
        self._ready_at = bench.now()
        lease = bench.capabilities.lease or _OLD
        bench.let_pass(min(_OLD, lease / 4) if bench.harness.virtual else NO_PAUSE)
        self._extend()
        self._seen = self._look(bench)
        buried = [job.body for job in self._seen.get(JobState.BURIED, [])]
        bench.equal(bench.labels(buried), bench.labels(self._buried), "what is buried, oldest burial first")

    def _make_ready(self) -> None:
        bench = self.bench
        consumer = bench.consumer()
        tried = bench.put(priority=60)
        bench.roll_back(consumer, bench.gets(consumer, tried, "the job"))
        self._extend()
        bench.snooze(consumer, bench.gets(consumer, tried, "the job that was rolled back"))
        self._extend()
        if bench.has(Buried):
            kicked = bench.put(priority=50)
            bench.settle(consumer, bench.gets(consumer, kicked, "the most urgent job"), Bury("error", "no"))
            (job,) = bench.buried()
            bench.kick(job.id)
            self._ready.append((kicked, (1, 0, 1)))
        self._ready += [(tried, (2, 1, 0)), (bench.put(priority=70), (1, 0, 0))]

    def _bury(self) -> list[bytes]:
        """Bury three jobs in an order that is neither that of their ids nor that of their arrival."""
        bench = self.bench
        jobs = [bench.put(priority=40) for _ in range(3)]
        holders = [bench.consumer() for _ in jobs]
        held = [bench.taken(holder) for holder in holders]
        ids = sorted(range(3), key=lambda number: held[number].id or "")
        order = next(order for order in ((1, 2, 0), (2, 0, 1), (2, 1, 0)) if list(order) != ids)
        for number in order:
            story = f"of {bench.label(held[number].body)}\n" * 20
            bench.settle(holders[number], held[number], Bury("timeout", story))
            bench.let_pass(max(bench.grain, MICRO) if bench.harness.virtual else NO_PAUSE)
        return [held[number].body for number in order]

    # --- meanwhile -------------------------------------------------------------------------------------

    def pass_through(self, count: int) -> None:
        """Enqueue and commit many jobs, in portions."""
        bench = self.bench
        urgent = 1 if PRIORITIES.is_met(bench.harness) else 65536
        consumer = bench.consumer()
        for _ in range(count // _PORTION):
            jobs = [bench.message(priority=urgent) for _ in range(_PORTION)]
            bench.send_many(jobs)
            bodies = {job.body for job in jobs}
            held: Reservation | None = bench.taken(consumer)
            while held is not None and held.body in bodies:
                bodies.remove(held.body)
                if not bodies:
                    bench.settle(consumer, held)
                    break
                held = bench.settle_and_reserve(consumer, held, COMMIT)
            left = bench.labels(sorted(bodies))
            bench.check(not bodies, f"{left} did not come, although they are the most urgent ones")
            self._extend()

    def _extend(self) -> None:
        if self._holds() and self.bench.capabilities.lease is not None:
            self.bench.extend(self._holder, self._held)

    def _holds(self) -> bool:
        """Whether the lease is surely not over; a look takes long on a busy machine."""
        deadline, slack = self._held.deadline, self.bench.slack.total_seconds()
        self._is_unsure |= deadline is not None and self.bench.clock.monotonic() >= deadline - slack
        return not self._is_unsure

    # --- afterwards ------------------------------------------------------------------------------------

    def check(self, views: Sequence[tuple[str, Bench]]) -> None:
        """Compare what several adapters see with what was there, and what each adds; end what is held."""
        for whose, view in views:
            self._extend()
            self._is_same(view, whose)
        for _, view in views:
            self._added.append(view.put(priority=90))
        for whose, view in views:
            self._extend()
            self._is_same(view, f"{whose}, after each has added a job,")
        self._extend()
        if self._holds():
            self.bench.settle(self._holder, self._held)
            self._is_settled = True

    def ends(self) -> None:
        """Deliver what is ready."""
        bench = self.bench
        consumer = bench.consumer()
        has = bench.harness
        for message, (tried, snoozed, kicked) in self._ready:
            held = bench.gets(consumer, message, "the next one of the jobs that were passed by")
            if ATTEMPTS.is_met(has):
                bench.equal(bench.attempt(consumer, held), tried, "its attempt", "S10")
                bench.equal(held.snoozes, snoozed, "its snoozes", "S21")
            if KICKS.is_met(has):
                seen = bench.call("ask for its kicks", partial(consumer.kicks, held), "a number")
                bench.equal(seen, kicked, "its kicks", "S22")
            bench.settle(consumer, held)
        came = [body for body in bench.drain(consumer) if body != self._held.body]
        added = [job.body for job in self._added]
        bench.equal(bench.labels(sorted(came)), bench.labels(sorted(added)), "jobs that came after them")

    def reopen(self) -> None:
        """Look with an adapter that has been opened since."""
        self.bench.reopen()
        self._is_same(self.bench, "one that was opened anew")

    def _look(self, view: Bench) -> dict[JobState, list[StoredJob]]:
        """List all that can be listed, without what is held; a moment may be off by how long that took."""
        found, began = {}, view.now()
        for state in _STATES:
            if view.has(Browse):
                found[state] = view.peek(state, 30)
            elif state is JobState.BURIED and view.has(Buried):
                found[state] = view.buried(30)
        held = self._held.body
        self._took = max(self._took, view.now() - began)
        return {state: [job for job in jobs if job.body != held] for state, jobs in found.items()}

    def _is_same(self, view: Bench, whose: str) -> None:
        bench = self.bench
        for state, jobs in self._look(view).items():
            what = f"{state} jobs that {whose} sees"
            before = self._seen[state]
            expected = [job.body for job in before]
            if state is JobState.READY:
                expected += [job.body for job in self._added]
            got, wanted = bench.labels([job.body for job in jobs]), bench.labels(expected)
            if not (PRIORITIES.is_met(bench.harness) and TIE_BREAK.is_met(bench.harness)):
                got, wanted = sorted(got), sorted(wanted)
            view.equal(got, wanted, what)
            now = {job.body: job for job in jobs}
            for old in before:
                for name, was, is_now in _differences(old, now[old.body], bench.slack + 2 * self._took):
                    what = f"{name} of {bench.label(old.body)} was {shown(was)}"
                    view.broken(f"{what}, and {whose} sees {shown(is_now)}")
        self._is_counted(view, whose)

    def _is_counted(self, view: Bench, whose: str) -> None:
        bench = self.bench
        before = view.now()
        stats = view.stats()
        if bench.has(Pause):
            paused = view.stats(bench.queue_named("paused")).paused
            view.check(paused is not None, f"{whose} does not see the pause of another queue any more")
        if COUNTS.is_met(bench.harness):
            late = int(DELAYS.is_met(bench.harness))
            view.equal((stats.delayed, stats.buried), (late, len(self._buried)), f"what {whose} counts")
            if self._is_settled or self._holds():
                ready = len(self._ready) + len(self._added)
                view.equal(stats.ready, ready, f"ready jobs that {whose} counts")
        age = stats.oldest_ready
        if age is not None and self._ready:
            least, most = before - self._ready_at - bench.slack, bench.now() - self._began + bench.slack
            label = bench.label(self._ready[0][0].body)
            what = (
                f"{whose} sees that {label} has been ready for {shown(age)}, expected {shown(least)} at least"
            )
            view.check(least <= age <= most, f"{what} and {shown(most)} at most")


def _differences(old: StoredJob, new: StoredJob, slack: timedelta) -> Iterator[tuple[str, object, object]]:
    for name in ("id", "queue", "state", "priority", "attempt", "snoozes", "reason", "message"):
        was, is_now = getattr(old, name), getattr(new, name)
        if was != is_now:
            yield name, was, is_now
    for name in ("enqueued_at", "due", "buried_at"):
        was, is_now = getattr(old, name), getattr(new, name)
        if (was is None) != (is_now is None) or (was is not None and abs(is_now - was) > slack):
            yield name, was, is_now

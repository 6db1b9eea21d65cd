"""Each promise that the ledger of a simulation checks, kept and broken by one event (S43)."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Any, Final

import attrs
import pytest

from kessel_core import Outcome, Status
from kessel_core.contract import (
    COMMIT,
    Attempts,
    Bury,
    Capabilities,
    Commit,
    JobState,
    Message,
    Reach,
    Reservation,
    Rollback,
    Snooze,
    StoredJob,
)
from kessel_core.model.job import Job
from kessel_core.testing import Violation
from kessel_core.testing.simulation.ledger import Ledger
from kessel_core.testing.simulation.strands import Strands
from kessel_core.wire.requests import encode
from kessel_core.wire.results import outcome_fields

SECOND: Final = timedelta(seconds=1)
LEASE: Final = 60.0
PROMISES: Final = Capabilities(
    reach=Reach.PROCESS,
    priorities=(0, 2**32 - 1),
    attempts=Attempts.SERVER,
    lease=timedelta(seconds=LEASE),
    delay_granularity=timedelta(microseconds=1),
    dedupe=True,
)


class Bench:
    """A ledger, a clock that moves by hand, and what a queue would say."""

    def __init__(self, promises: Capabilities = PROMISES, kept: bool | None = None) -> None:
        self.clock = Strands(Random(1), lambda: None)
        self.states: dict[str, JobState] = {}
        is_kept = None if kept is None else lambda job_id: bool(kept)
        self.ledger = Ledger(self.clock, promises, self, lambda job_type: 3, is_kept)  # type: ignore[arg-type]

    def find(self, job_id: str) -> StoredJob | None:
        state = self.states.get(job_id)
        message = self.ledger.jobs[job_id].message
        return None if state is None else StoredJob(id=job_id, queue="q", state=state, body=message.body)

    def wait(self, seconds: float) -> None:
        never = threading.Condition()
        with never:
            self.clock.wait(never, seconds)

    def job(self, job_id: str = "a", **fields: Any) -> Job:
        return Job(id=job_id, type="t", queue="q", **fields)

    def store(self, job_id: str = "a", priority: int = 5, **fields: Any) -> None:
        job = self.job(job_id, priority=priority, **fields)
        self.ledger.stored(Message(job_id, "q", encode(job), priority, job.not_before, job.expires_at))

    def deliver(self, job_id: str = "a", attempt: int = 1, body: bytes | None = None) -> Reservation:
        known = self.ledger.jobs.get(job_id)
        stored = known.message.body if known is not None else b""
        deadline = self.clock.monotonic() + LEASE
        reservation = Reservation(job_id, "q", stored if body is None else body, attempt, deadline)
        self.ledger.delivered(reservation, ("q",))
        return reservation

    @property
    def broken(self) -> str | None:
        found = self.ledger.violation
        return None if found is None else found.clause


def stored(bench: Bench, job_id: str = "a", **fields: Any) -> Reservation:
    bench.store(job_id, **fields)
    return bench.deliver(job_id)


def told(bench: Bench, of: str, job_id: str) -> Message:
    payload = outcome_fields(Outcome(id=of, type="t", ref=None, status=Status.SUCCESS, attempt=1))
    job = attrs.evolve(bench.job(job_id), type="told", payload=payload)
    return Message(job_id, "q", encode(job), 5)


Step = Callable[[Bench], object]


def twice(bench: Bench) -> None:
    bench.store()
    bench.store()


def again_after_its_end(bench: Bench) -> None:
    bench.ledger.settled(stored(bench), COMMIT)
    bench.deliver(attempt=2)


def before_its_delay(bench: Bench) -> None:
    bench.store(not_before=bench.clock.now() + SECOND)
    bench.deliver()


def before_its_pause(bench: Bench) -> None:
    bench.ledger.settled(stored(bench), Rollback(SECOND))
    bench.deliver(attempt=2)


def while_it_is_held(bench: Bench) -> None:
    stored(bench)
    bench.wait(LEASE - 1)
    bench.deliver(attempt=2)


def counted_too_low(bench: Bench) -> None:
    stored(bench)
    bench.wait(LEASE)
    bench.deliver(attempt=1)


def counted_too_high(bench: Bench) -> None:
    bench.store()
    bench.deliver(attempt=2)


def snooze_counted(bench: Bench) -> None:
    bench.ledger.settled(stored(bench), Snooze())
    bench.deliver(attempt=2)


def given_back_counted(bench: Bench) -> None:
    bench.ledger.given_back(stored(bench))
    bench.deliver(attempt=2)


def kick_not_counted(bench: Bench) -> None:
    bench.ledger.settled(stored(bench), Bury("error"))
    bench.ledger.kicked("a")
    bench.deliver(attempt=2)


def passed_over(bench: Bench) -> None:
    bench.store("urgent", priority=1)
    stored(bench)


def settled_by_the_old_holder(bench: Bench) -> None:
    old = stored(bench)
    bench.wait(LEASE)
    bench.deliver(attempt=2)
    bench.ledger.settled(old, COMMIT)


def holder_refused(bench: Bench) -> None:
    bench.ledger.refused(stored(bench), "settle")


def runs_early(bench: Bench) -> None:
    bench.store()
    bench.ledger.started(bench.job(not_before=bench.clock.now() + SECOND), 1)


def runs_late(bench: Bench) -> None:
    bench.store()
    bench.ledger.started(bench.job(expires_at=bench.clock.now()), 1)


def runs_too_often(bench: Bench) -> None:
    bench.store()
    for attempt in (1, 2, 3, 4):
        bench.deliver(attempt=attempt)
        bench.wait(LEASE)
    bench.ledger.started(bench.job(), 4)


def runs_again_and_again(bench: Bench) -> None:
    bench.ledger.settled(stored(bench), Snooze())
    for _ in range(5):
        assert bench.broken is None
        bench.ledger.started(bench.job(), 1)


def told_twice(bench: Bench) -> None:
    stored(bench, callback="job:told")
    bench.ledger.stored(told(bench, "a", "told-1"))
    bench.ledger.stored(told(bench, "a", "told-2"))


def told_by_none(bench: Bench) -> None:
    bench.ledger.settled(stored(bench, callback="job:told"), COMMIT)


def told_by_none_after_a_kick(bench: Bench) -> None:
    bench.ledger.settled(
        stored(bench, callback="job:told"), Bury("error", follow=(told(bench, "a", "told-1"),))
    )
    assert bench.broken is None
    bench.ledger.kicked("a")
    bench.ledger.settled(bench.deliver(), COMMIT)


def follow_up_lost(bench: Bench) -> None:
    bench.ledger.settled(stored(bench), COMMIT)
    bench.ledger.asked("a", ["next"])


def lost_at_rest(bench: Bench) -> None:
    bench.store()
    bench.ledger.at_rest()


def committed_and_still_there(bench: Bench) -> None:
    bench.ledger.settled(stored(bench), COMMIT)
    bench.states["a"] = JobState.READY
    bench.ledger.at_rest()


def buried_and_ready(bench: Bench) -> None:
    bench.ledger.settled(stored(bench), Bury("error"))
    bench.states["a"] = JobState.READY
    bench.ledger.at_rest()


def buried_and_never_told_so(bench: Bench) -> None:
    bench.store()
    bench.states["a"] = JobState.BURIED
    bench.ledger.at_rest()


def sleeps_beside(bench: Bench) -> None:
    bench.store()
    bench.states["a"] = JobState.READY
    bench.ledger.next_due({"q"})


def due_and_gone(bench: Bench) -> None:
    bench.store()
    bench.ledger.next_due({"q"})


def sleeps_beside_a_lease_that_ended(bench: Bench) -> None:
    stored(bench)
    bench.wait(LEASE + 1)
    bench.states["a"] = JobState.READY
    bench.ledger.next_due({"q"})


BROKEN: tuple[tuple[str, Step], ...] = (
    ("S14", twice),
    ("S9", again_after_its_end),
    ("S4", before_its_delay),
    ("S4", before_its_pause),
    ("S7", while_it_is_held),
    ("S10", counted_too_low),
    ("S10", counted_too_high),
    ("S10", snooze_counted),
    ("S10", given_back_counted),
    ("S10", kick_not_counted),
    ("S6", passed_over),
    ("S7", settled_by_the_old_holder),
    ("S7", holder_refused),
    ("S16", lambda bench: (bench.store(), bench.deliver(body=b"other"))),
    ("S16", lambda bench: bench.deliver("never stored")),
    ("S4", runs_early),
    ("S5", runs_late),
    ("S10", runs_too_often),
    ("S10", runs_again_and_again),
    ("S22", told_twice),
    ("S22", told_by_none),
    ("S22", told_by_none_after_a_kick),
    ("S20", follow_up_lost),
    ("S9", lost_at_rest),
    ("S9", committed_and_still_there),
    ("S9", buried_and_ready),
    ("S9", buried_and_never_told_so),
    ("liveness", sleeps_beside),
    ("S9", due_and_gone),
    ("liveness", sleeps_beside_a_lease_that_ended),
)


@pytest.mark.parametrize(("clause", "step"), BROKEN)
def test_a_broken_promise_is_found_by_its_clause(clause: str, step: Step) -> None:
    bench = Bench()
    step(bench)
    assert bench.broken == clause
    assert bench.ledger.checks[clause] > 0
    assert any(event.what == f"VIOLATION {clause}" for event in bench.ledger.history.events)


def test_an_outcome_that_is_not_kept_is_found() -> None:
    """S25."""
    for kept, clause in ((True, None), (False, "S25"), (None, None)):
        bench = Bench(kept=kept)
        bench.ledger.settled(stored(bench), COMMIT)
        assert bench.broken == clause


def retried(bench: Bench) -> None:
    bench.ledger.settled(stored(bench), Rollback(SECOND))
    bench.wait(1)
    bench.ledger.settled(bench.deliver(attempt=2), Snooze(SECOND))
    bench.wait(1)
    bench.ledger.settled(bench.deliver(attempt=2), COMMIT)


def taken_over(bench: Bench) -> None:
    old = stored(bench)
    bench.wait(LEASE)
    bench.ledger.refused(old, "settle")
    new = bench.deliver(attempt=2)
    bench.ledger.refused(old, "extend")
    bench.ledger.settled(new, COMMIT)


def told_again_after_a_kick(bench: Bench) -> None:
    bench.ledger.settled(
        stored(bench, callback="job:told"), Bury("error", follow=(told(bench, "a", "told-1"),))
    )
    bench.ledger.kicked("a")
    bench.ledger.settled(bench.deliver(), Commit(follow=(told(bench, "a", "told-2"),)))


def told_before_a_crash_and_again(bench: Bench) -> None:
    """S20 (b): under the same id."""
    stored(bench, callback="job:told")
    bench.ledger.stored(told(bench, "a", "told-1"))
    bench.ledger.settled(bench.deliver("told-1"), COMMIT)
    bench.wait(LEASE)
    bench.ledger.stored(told(bench, "a", "told-1"))
    bench.ledger.settled(bench.deliver(attempt=2), COMMIT)


def after_the_clock_was_set_back(bench: Bench) -> None:
    """What was due stays due."""
    bench.store(not_before=bench.clock.now() + SECOND)
    bench.wait(1)
    bench.ledger.note("due")
    bench.clock.jump_wall(-60 * SECOND)
    bench.deliver()


def less_urgent_or_not_to_be_had(bench: Bench) -> None:
    bench.store("same", priority=5)
    bench.store("later", priority=1, not_before=bench.clock.now() + SECOND)
    bench.store("held", priority=1)
    bench.deliver("held")
    stored(bench)


def urgent_in_a_paused_queue(bench: Bench) -> None:
    bench.store("urgent", priority=1)
    bench.ledger.paused("q", 60 * SECOND)
    bench.store()
    bench.deliver()
    bench.states["urgent"] = JobState.READY
    assert bench.ledger.next_due({"q"}) is None


def runs_after_its_lease_has_ended(bench: Bench) -> None:
    """Its answer came late, and the queue has given up by then."""
    bench.store()
    for attempt in (1, 2, 3, 4):
        held = bench.deliver(attempt=attempt)
        bench.wait(LEASE)
    bench.ledger.settled(held, Bury("worker-lost"))
    bench.ledger.started(bench.job(), 3)


def kicked_and_run_as_often_again(bench: Bench) -> None:
    bench.store()
    for _ in range(2):
        for attempt in (1, 2, 3):
            held = bench.deliver(attempt=attempt)
            bench.ledger.started(bench.job(), attempt)
            if attempt < 3:
                bench.wait(LEASE)
        bench.ledger.settled(held, Bury("error"))
        bench.ledger.kicked("a")


def dropped_at_once(bench: Bench) -> None:
    held = stored(bench)
    bench.states["a"] = JobState.READY
    bench.ledger.dropped(held)
    bench.deliver(attempt=2)
    bench.ledger.dropped(held)  # it is another's by now
    bench.ledger.next_due({"q"})


def removed_by_operators(bench: Bench) -> None:
    bench.store()
    bench.store("b")
    stored(bench, "held")
    bench.ledger.deleted("a")
    bench.ledger.purged("q")
    bench.states["held"] = JobState.RESERVED
    bench.ledger.at_rest()
    assert set(bench.ledger.open) == {"held"}


def nobody_waits_for_it(bench: Bench) -> None:
    bench.store()
    bench.states["a"] = JobState.READY
    bench.ledger.next_due({"another"})


KEPT: tuple[Step, ...] = (
    retried,
    taken_over,
    told_again_after_a_kick,
    told_before_a_crash_and_again,
    after_the_clock_was_set_back,
    less_urgent_or_not_to_be_had,
    urgent_in_a_paused_queue,
    runs_after_its_lease_has_ended,
    kicked_and_run_as_often_again,
    dropped_at_once,
    removed_by_operators,
    nobody_waits_for_it,
)


@pytest.mark.parametrize("step", KEPT)
def test_what_is_allowed_is_no_violation(step: Step) -> None:
    bench = Bench()
    step(bench)
    assert bench.ledger.violation is None


def test_the_next_moment_at_which_something_is_due_is_known() -> None:
    bench = Bench()
    bench.store("later", not_before=bench.clock.now() + 9 * SECOND)
    due = bench.ledger.next_due({"q"})
    assert due is not None and 9 * SECOND <= due < 9.1 * SECOND
    stored(bench, "held")
    bench.wait(LEASE - 2)
    bench.ledger.deleted("later")
    due = bench.ledger.next_due({"q"})
    assert due is not None and 2 * SECOND <= due < 2.1 * SECOND


def test_promises_that_a_queue_does_not_make_are_not_asked_for() -> None:
    for promises, step in (
        (attrs.evolve(PROMISES, priorities=None), passed_over),
        (attrs.evolve(PROMISES, attempts=None), counted_too_high),
        (attrs.evolve(PROMISES, dedupe=False), twice),
        (attrs.evolve(PROMISES, delay_granularity=SECOND), before_its_delay),
    ):
        bench = Bench(promises)
        step(bench)
        assert bench.broken is None, step


def test_only_the_first_violation_is_told_and_it_can_be_pickled() -> None:
    bench = Bench()
    passed_over(bench)
    holder_refused(bench)
    found = bench.ledger.violation
    assert found is not None and found.clause == "S6"
    found.add_note("a note")
    copy = pickle.loads(pickle.dumps(found))
    assert isinstance(copy, Violation)
    assert (str(copy), copy.jobs, copy.__notes__) == (str(found), ("a", "urgent"), ["a note"])
    assert str(found).startswith("S6: job a was delivered before urgent")

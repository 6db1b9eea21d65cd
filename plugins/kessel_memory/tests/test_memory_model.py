"""The adapter against a list and a clock: whatever is done in whatever order, both agree."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import LeaseLost, UnknownJob
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterContext,
    Bury,
    JobState,
    Message,
    Reservation,
    Rollback,
    Settlement,
    TieBreak,
)
from kessel_core.testing.clock import VirtualClock

LEASE = timedelta(seconds=10)
QUEUES = ("one", "two")
seconds = st.integers(0, 30).map(lambda number: timedelta(seconds=number))


@attrs.define(eq=False)
class Known:
    """A job as the model sees it."""

    id: str
    queue: str
    priority: int
    number: int
    state: JobState
    #: When it becomes, or became, ready: a delay or the end of a lease.
    moment: datetime
    attempt: int = 0
    buried: int = 0
    reservation: Reservation | None = None


class MemoryMachine(RuleBasedStateMachine):
    """Everything by searching a plain list."""

    tie_break: ClassVar[TieBreak]

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.adapter = MemoryAdapter(
            MemoryOptions(lease=LEASE, tie_break=self.tie_break), AdapterContext(clock=self.clock)
        )
        self.consumers = [self.adapter.consumer(["one"]), self.adapter.consumer(["one", "two"])]
        self.jobs: list[Known] = []
        self.old: list[Reservation] = []
        self.paused: dict[str, datetime] = {}
        self.count = 0

    def teardown(self) -> None:
        self.adapter.close()

    # the model

    def numbered(self) -> int:
        self.count += 1
        return self.count

    def pass_time(self) -> None:
        now = self.clock.now()
        back = [
            job
            for job in self.jobs
            if job.state in (JobState.DELAYED, JobState.RESERVED) and job.moment <= now
        ]
        for job in sorted(back, key=lambda job: (job.moment, job.number)):
            self.make_ready(job)

    def make_ready(self, job: Known) -> None:
        if job.reservation is not None:
            self.old.append(job.reservation)
        job.state, job.reservation = JobState.READY, None
        if self.tie_break is TieBreak.READY:
            job.number = self.numbered()

    def is_paused(self, queue: str) -> bool:
        return queue in self.paused and self.paused[queue] > self.clock.now()

    def next_for(self, queues: tuple[str, ...]) -> Known | None:
        ready = [
            job
            for job in self.jobs
            if job.state is JobState.READY and job.queue in queues and not self.is_paused(job.queue)
        ]
        return min(ready, key=lambda job: (job.priority, job.number), default=None)

    # what is done

    @rule(queue=st.sampled_from(QUEUES), priority=st.integers(0, 3), delay=st.none() | seconds)
    def enqueue(self, queue: str, priority: int, delay: timedelta | None) -> None:
        now = self.clock.now()
        at = None if delay is None else now + delay
        number = self.numbered()
        self.adapter.enqueue(Message(str(number), queue, b"", priority, at))
        state = JobState.DELAYED if delay else JobState.READY
        self.jobs.append(Known(str(number), queue, priority, number, state, at or now))

    @rule(which=st.integers(0, 1))
    def reserve(self, which: int) -> None:
        reservation = self.consumers[which].reserve(NO_PAUSE)
        expected = self.next_for(QUEUES[: which + 1])
        assert (reservation and reservation.id) == (expected and expected.id)
        if expected is not None and reservation is not None:
            expected.state, expected.reservation = JobState.RESERVED, reservation
            expected.attempt += 1
            expected.moment = self.clock.now() + LEASE
            assert reservation.attempt == expected.attempt

    @precondition(lambda self: any(job.reservation for job in self.jobs))
    @rule(data=st.data(), what=st.sampled_from(["commit", "bury", "extend"]) | seconds)
    def settle(self, data: st.DataObject, what: str | timedelta) -> None:
        job = data.draw(st.sampled_from([job for job in self.jobs if job.reservation is not None]))
        assert job.reservation is not None
        if what == "extend":
            self.consumers[0].extend(job.reservation)
            job.moment = self.clock.now() + LEASE
            return
        settlement: Settlement
        if isinstance(what, timedelta):
            settlement = Rollback(what)
        else:
            settlement = COMMIT if what == "commit" else Bury("error")
        self.consumers[0].settle(job.reservation, settlement)
        if what == "commit":
            self.jobs.remove(job)
            self.old.append(job.reservation)
        elif what == "bury":
            self.old.append(job.reservation)
            job.state, job.reservation, job.buried = JobState.BURIED, None, self.numbered()
        elif what == NO_PAUSE:
            self.make_ready(job)
        else:
            assert isinstance(what, timedelta)
            self.old.append(job.reservation)
            job.state, job.reservation, job.moment = JobState.DELAYED, None, self.clock.now() + what

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def settle_with_an_old_reservation(self, data: st.DataObject) -> None:
        """S7."""
        with pytest.raises(LeaseLost):
            self.consumers[0].settle(data.draw(st.sampled_from(self.old)), COMMIT)

    @rule(span=seconds)
    def advance(self, span: timedelta) -> None:
        self.clock.advance(span)
        self.pass_time()

    @rule()
    def advance_to_the_next_change(self) -> None:
        change = self.adapter.next_change(QUEUES)
        moments = []
        for queue in QUEUES:
            mine = [job for job in self.jobs if job.queue == queue]
            coming = [job.moment for job in mine if job.state in (JobState.DELAYED, JobState.RESERVED)]
            if self.is_paused(queue):
                resumes = self.paused[queue]
                ready = [resumes for job in mine if job.state is JobState.READY]
                moments += ready or [max(moment, resumes) for moment in coming]
            else:
                moments += coming
        assert change == min(moments, default=None)
        if change is not None:
            self.clock.advance_to(change)
            self.pass_time()

    @rule(queue=st.sampled_from(QUEUES), span=seconds)
    def pause(self, queue: str, span: timedelta) -> None:
        self.adapter.pause(queue, span)
        self.paused[queue] = self.clock.now() + span

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), what=st.sampled_from(["kick", "delete"]))
    def kick_or_delete(self, data: st.DataObject, what: str) -> None:
        job = data.draw(st.sampled_from(self.jobs))
        act = self.adapter.kick if what == "kick" else self.adapter.delete
        if job.state is JobState.RESERVED or (what == "kick" and job.state is not JobState.BURIED):
            with pytest.raises(UnknownJob):
                act(job.queue, job.id)
            return
        act(job.queue, job.id)
        if what == "kick":
            job.attempt = 0
            self.make_ready(job)
        else:
            self.jobs.remove(job)

    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        gone = [job for job in self.jobs if job.queue == queue and job.state is not JobState.RESERVED]
        assert self.adapter.purge(queue) == len(gone)
        self.jobs = [job for job in self.jobs if job not in gone]

    # what always holds

    @invariant()
    def both_agree(self) -> None:
        for queue in QUEUES:
            stats = self.adapter.stats(queue)
            mine = [job for job in self.jobs if job.queue == queue]
            for state in JobState:
                here = [job for job in mine if job.state is state]
                assert getattr(stats, state.value) == len(here), state
                order = {
                    JobState.READY: lambda job: (job.priority, job.number),
                    JobState.DELAYED: lambda job: (job.moment, job.number),
                    JobState.RESERVED: lambda job: job.moment,
                    JobState.BURIED: lambda job: job.buried,
                }[state]
                shown = self.adapter.peek(queue, state, 1000)
                if state is JobState.RESERVED:
                    assert {job.id for job in shown} == {job.id for job in here}
                else:
                    assert [job.id for job in shown] == [job.id for job in sorted(here, key=order)]
                assert {job.id: job.attempt for job in shown} == {job.id: job.attempt for job in here}
            assert (stats.paused is not None) == self.is_paused(queue)


class ReadyMachine(MemoryMachine):
    tie_break = TieBreak.READY


class EnqueuedMachine(MemoryMachine):
    tie_break = TieBreak.ENQUEUED


TestReady = ReadyMachine.TestCase
TestEnqueued = EnqueuedMachine.TestCase
TestReady.settings = TestEnqueued.settings = settings(deadline=None, stateful_step_count=40)

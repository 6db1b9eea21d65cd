"""Moving jobs when something goes wrong: nothing is lost, nothing passes silently, and the work stays linear.

Between two adapters in memory, with calls that fail, lie, or let a worker in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import (
    AdapterUnavailable,
    ConfigError,
    EnqueueUnknown,
    IdHeld,
    JobManager,
    JobRequest,
    UnknownJob,
)
from kessel_core.client import moving, pausing
from kessel_core.client.moving import Moved, move_jobs, risks
from kessel_core.client.pausing import Paused
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterContext,
    AdapterError,
    Browse,
    Capabilities,
    Delete,
    JobState,
    Message,
    Pause,
    StoredJob,
)
from kessel_core.testing.clock import VirtualClock


class Adapter(MemoryAdapter):
    """An adapter in memory that may lack facets and promises, and counts what it is asked."""

    lacks: ClassVar[tuple[type, ...]] = ()
    promises: ClassVar[dict[str, Any]] = {}

    def __init__(self, clock: VirtualClock | None = None, name: str = "") -> None:
        super().__init__(MemoryOptions(name=name), AdapterContext(clock=clock or VirtualClock()))
        self.calls: Counter[str] = Counter()

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, **self.promises)

    def facet(self, kind: Any) -> Any:
        return None if kind in self.lacks else super().facet(kind)

    def enqueue(self, message: Message) -> None:
        self.calls["enqueue"] += 1
        super().enqueue(message)

    def stats(self, queue: str) -> Any:
        self.calls["stats"] += 1
        return super().stats(queue)

    def pause(self, queue: str, duration: timedelta) -> None:
        self.calls["pause"] += 1
        super().pause(queue, duration)

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        found = super().peek(queue, state, limit)
        self.calls["peek"] += 1
        self.calls["listed"] += len(found)
        # What a directory costs, which looks at every file.
        self.calls["looked at"] += super().stats(queue).total
        return found

    def delete(self, queue: str, job_id: str) -> None:
        self.calls["delete"] += 1
        super().delete(queue, job_id)

    def delete_shown(self, job: StoredJob) -> None:
        self.calls["delete_shown"] += 1
        super().delete(job.queue, job.id)


class Unpausable(Adapter):
    lacks = (Pause,)


def filled(adapter: Adapter, count: int = 3) -> list[str]:
    ids = [f"job-{number}" for number in range(count)]
    adapter.enqueue_many([Message(job_id, "q", job_id.encode(), 5) for job_id in ids])
    adapter.calls.clear()
    return ids


def ids_in(adapter: MemoryAdapter) -> list[str]:
    return sorted(job.id for state in JobState for job in MemoryAdapter.peek(adapter, "q", state, 2**31 - 1))


def after(method: Callable[..., Any], act: Callable[[], None]) -> Callable[..., Any]:
    """The method, and then once something else."""
    acts = [act]

    def both(*arguments: Any) -> Any:
        answer = method(*arguments)
        if acts:
            acts.pop()()
        return answer

    return both


# --- how much work it is -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Adapter, Unpausable])
def test_work_of_a_move_grows_as_the_number_of_jobs(kind: type[Adapter]) -> None:
    """Counted, not timed: calls, jobs that are listed, and jobs that a listing has to look at."""
    work: dict[int, Counter[str]] = {}
    for count in (1000, 2000, 4000):
        source, target = kind(), Adapter()
        filled(source, count)
        moved = Moved()
        move_jobs(source, target, ["q"], moved)
        assert moved == Moved(count=count)
        work[count] = source.calls + target.calls
    for count in (1000, 2000):
        for what, less in work[count].items():
            assert work[2 * count][what] <= 2.6 * less + 8, (what, count)
    assert all(work[count]["looked at"] <= 5 * count for count in work)
    # Each is stored once, and removed by what was shown, so that no adapter has to search.
    assert (work[4000]["enqueue"], work[4000]["delete_shown"], work[4000]["delete"]) == (4000, 4000, 0)
    assert work[4000]["peek"] <= 20
    assert work[4000]["stats"] <= 200


def test_s17_a_pause_is_renewed_every_five_seconds_and_not_for_each_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call for each of a million jobs would double the work of a long move."""
    clock, adapter = VirtualClock(), Adapter()
    monkeypatch.setattr(pausing, "SystemClock", lambda: clock)
    with Paused(adapter, "q") as paused:
        assert adapter.calls["pause"] == 1
        for _ in range(200):
            clock.advance(timedelta(seconds=0.1))
            paused.renew()
        assert adapter.calls["pause"] == 1 + 3


@pytest.mark.parametrize(
    ("gone", "takes", "rest", "held"),
    [
        (29, 0, 29, [True, True, True, True]),
        (30, 0, 9, [False, False, False, False]),  # renewed too late
        (20, 9, 20, [True, True, True, True]),
        (20, 9, 21, [True, True, False, False]),  # half a minute after the renewal was asked for
        (20, 10, 9, [True, False, False, False]),  # the renewal itself took so long
    ],
)
def test_pause_that_may_have_ended_before_it_was_renewed_has_not_held(
    gone: int, takes: int, rest: int, held: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, adapter = VirtualClock(), Adapter()
    monkeypatch.setattr(pausing, "SystemClock", lambda: clock)
    monkeypatch.setattr(pausing, "_PAUSE", (30.0, 30.0))
    seen: list[bool] = []
    with Paused(adapter, "q") as paused:
        clock.advance(timedelta(seconds=gone))
        seen.append(paused.has_held)
        adapter.pause = after(adapter.pause, lambda: clock.advance(timedelta(seconds=takes)))  # type: ignore[method-assign]
        paused.renew()
        seen.append(paused.has_held)
        clock.advance(timedelta(seconds=rest))
        seen.append(paused.has_held)
        paused.renew()
        seen.append(paused.has_held)
    assert seen == held


@pytest.mark.parametrize(("seconds", "rest"), [(40, 60), (100, None), (140, None)])
def test_pause_that_a_queue_had_before_ends_when_it_was_set_to(
    seconds: int, rest: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on while jobs are moved, and is over if it would have been."""
    clock = VirtualClock()
    adapter = Adapter(clock)
    monkeypatch.setattr(pausing, "SystemClock", lambda: clock)
    adapter.pause("q", timedelta(seconds=100))
    with Paused(adapter, "q"):
        clock.advance(timedelta(seconds=seconds))
    assert adapter.stats("q").paused == (None if rest is None else timedelta(seconds=rest))


def test_queue_that_cannot_be_paused_has_not_held() -> None:
    with Paused(Unpausable(), "q") as paused:
        assert not paused.has_held


# --- a target that does not hold what it says --------------------------------------------------


class Remembering(Adapter):
    """Its ids outlive their jobs: it stores no job again that it had once, and does not say so."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def enqueue(self, message: Message) -> None:
        if message.id in self.seen:
            self.refuse(message)
            return
        super().enqueue(message)
        self.seen.add(message.id)

    def refuse(self, message: Message) -> None:
        pass


class Refusing(Remembering):
    """The same, and it says that it holds them."""

    def refuse(self, message: Message) -> None:
        raise IdHeld(message.id, "ready")


class Blind(Refusing):
    lacks = (Browse,)


@pytest.mark.parametrize("lacks", [(), (Pause,), (Delete,), (Pause, Delete)])
@pytest.mark.parametrize("counts", [True, False])
def test_jobs_that_the_target_only_says_it_stored_stay_where_they_are(
    counts: bool, lacks: tuple[type, ...]
) -> None:
    """There and back, "moved 3 jobs" twice, and both were empty."""

    class Target(Remembering):
        pass

    Target.lacks, Target.promises = lacks, {"counts": counts}
    there, here = Target(), Adapter()
    ids = filled(there)
    there.seen.update(ids)
    Target.lacks = ()
    move_jobs(there, here, ["q"], Moved())
    Target.lacks = lacks
    assert (ids_in(there), ids_in(here)) == ([], ids)
    back = Moved()
    with pytest.raises(AdapterError, match=r"says that it stored 1 in the queue 'q', and holds 0 more"):
        move_jobs(here, there, ["q"], back)
    assert back.count == 0
    assert (ids_in(there), ids_in(here)) == ([], ids)


@pytest.mark.parametrize("kind", [Refusing, Blind])
def test_jobs_whose_ids_the_target_holds_without_them_stay_and_are_named(kind: type[Remembering]) -> None:
    there, here = kind(), Adapter()
    ids = filled(here)
    there.seen.update(ids[:2])
    moved = Moved()
    move_jobs(here, there, ["q"], moved)
    assert moved == Moved(count=1, left=ids[:2])
    assert (ids_in(there), ids_in(here)) == (ids[2:], ids[:2])


def test_job_whose_id_another_job_holds_stays_and_is_named() -> None:
    source, target = Adapter(), Adapter()
    ids = filled(source)
    target.enqueue(Message(ids[1], "q", b"another one", 5))
    target.enqueue(Message(ids[2], "elsewhere", ids[2].encode(), 5))
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    assert moved == Moved(count=1, left=ids[1:])
    assert ids_in(source) == ids[1:]


def test_job_that_an_interrupted_move_has_stored_is_removed_now() -> None:
    source, target = Adapter(), Adapter()
    ids = filled(source)
    for job_id in ids[:2]:
        target.enqueue(Message(job_id, "q", job_id.encode(), 5))
    with_worker = target.consumer(["q"])
    assert with_worker.reserve(NO_PAUSE) is not None  # held by a worker of the target, it is there, too
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    assert moved == Moved(count=3)
    assert (ids_in(source), ids_in(target)) == ([], ids)


def test_jobs_behind_those_that_stay_are_moved_however_many_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed a few at a time, as large ones are; what stays is listed again each time."""
    monkeypatch.setattr(moving, "_PORTION", 2)
    monkeypatch.setattr(moving, "_LISTED", 1)
    source, target = Adapter(), Adapter()
    ids = filled(source, 8)
    for job_id in ids[:5]:
        target.enqueue(Message(job_id, "q", b"another one", 5))
    limits: list[int] = []
    listing = source.peek

    def noted(queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        limits.append(limit)
        return listing(queue, state, limit)

    source.peek = noted  # type: ignore[method-assign]
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    assert moved == Moved(count=3, left=ids[:5])
    assert max(limits) <= 2 + 5, "what is listed at once has no limit"
    assert ids_in(source) == ids[:5]


def test_copies_of_a_portion_that_cannot_be_verified_are_all_taken_back() -> None:
    """Also that of its last job, which no call is under way for any more: it would run twice."""

    class Miscounting(Adapter):
        def stats(self, queue: str) -> Any:
            return attrs.evolve(super().stats(queue), ready=0)

    source, target = Adapter(), Miscounting()
    ids = filled(source)
    moved = Moved()
    with pytest.raises(AdapterError, match="says that it stored 1 in the queue 'q', and holds 0 more"):
        move_jobs(source, target, ["q"], moved)
    assert moved == Moved()
    assert (ids_in(source), ids_in(target)) == (ids, [])


def test_s4_s5_the_target_gets_each_job_as_if_it_was_requested_there() -> None:
    """An adapter may look at any field, as at the expiration."""
    source, target = Adapter(), Adapter()
    stored: list[Message] = []
    store = target.enqueue

    def noted(message: Message) -> None:
        stored.append(message)
        store(message)

    target.enqueue = noted  # type: ignore[method-assign]
    hour = timedelta(hours=1)
    requests = [
        JobRequest(type="a", id="plain", queue="q"),
        JobRequest(type="a", id="full", queue="q", priority=3, delay=hour, expiration=2 * hour),
    ]
    with JobManager(source, clock=source._store.clock, only_requests=True) as manager:
        messages = [manager.message(request) for request in requests]
        manager.request_many(requests)
    move_jobs(source, target, ["q"], Moved())
    assert stored == messages
    assert [message.expiration is None for message in stored] == [True, False]


def test_target_whose_worker_takes_jobs_while_they_are_counted_loses_none() -> None:
    """It cannot be paused, so a job may be done before it is counted."""
    source, target = Adapter(), Unpausable()
    ids = filled(source)
    consumer = target.consumer(["q"])

    def work() -> None:
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        consumer.settle(held, COMMIT)

    target.enqueue = after(target.enqueue, work)  # type: ignore[method-assign]
    moved = Moved()
    with pytest.raises(AdapterError, match="does a worker take its jobs meanwhile"):
        move_jobs(source, target, ["q"], moved)
    assert ids_in(source) == ids
    assert list(moved.pending) == [ids[0]]  # it has run there, and will run here: it is named


def test_both_sides_stay_paused_for_as_long_as_a_portion_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for each call, and the largest portions take minutes: no worker of either may take a job."""
    clock = VirtualClock()
    monkeypatch.setattr(pausing, "SystemClock", lambda: clock)
    source, target = Adapter(clock), Adapter(clock)
    ids = filled(source, 200)
    workers = [source.consumer(["q"]), target.consumer(["q"])]

    def slow(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            answer = method(*arguments)
            clock.advance(timedelta(seconds=1))
            assert [worker.reserve(NO_PAUSE) for worker in workers] == [None, None]
            return answer

        return call

    target.enqueue, source.delete_shown = slow(target.enqueue), slow(source.delete_shown)  # type: ignore[method-assign]
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    assert moved == Moved(count=200)
    assert ids_in(target) == sorted(ids)


@pytest.mark.parametrize("at", [0, 1])
def test_job_that_ran_in_the_target_because_a_call_outlasted_its_pause_is_named(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that hangs for minutes: what is not found in the target then may have run there."""
    clock = VirtualClock()
    monkeypatch.setattr(pausing, "SystemClock", lambda: clock)
    source, target = Adapter(clock), Adapter(clock)
    ids = filled(source)
    worker = target.consumer(["q"])
    stored: list[str] = []
    store = target.enqueue

    def hang(message: Message) -> None:
        store(message)
        stored.append(message.id)
        if len(stored) == at + 2:  # the first or the last of a portion of two
            clock.advance(timedelta(minutes=3))
            while (held := worker.reserve(NO_PAUSE)) is not None:
                worker.settle(held, COMMIT)

    target.enqueue = hang  # type: ignore[method-assign]
    moved = Moved()
    with pytest.raises(AdapterError, match="does a worker take its jobs meanwhile"):
        move_jobs(source, target, ["q"], moved)
    assert moved.count == 1
    assert ids_in(source) == ids[1:]
    assert sorted(moved.pending) == ids[1 : 2 + at]


# --- a source that cannot be paused ------------------------------------------------------------


def test_job_that_a_worker_of_the_source_takes_meanwhile_runs_once() -> None:
    source, target = Unpausable(), Adapter()
    ids = filled(source)
    consumer = source.consumer(["q"])
    target.enqueue = after(target.enqueue, lambda: consumer.reserve(NO_PAUSE))  # type: ignore[method-assign]
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    assert moved == Moved(count=2, taken=1)
    assert (ids_in(source), ids_in(target)) == (ids[:1], ids[1:])


def test_job_that_its_source_shows_and_does_not_remove_is_tried_once() -> None:
    """A worker has it while a listing still shows it, or gives it back during the move: it stays."""

    class Showing(Unpausable):
        def delete_shown(self, job: StoredJob) -> None:
            if job.id == "job-0":
                raise UnknownJob(job.id, job.queue)
            super().delete_shown(job)

    source, target = Showing(), Adapter()
    ids = filled(source)
    stored: list[str] = []
    store = target.enqueue

    def once(message: Message) -> None:
        assert message.id not in stored, "it is moved again and again"
        stored.append(message.id)
        store(message)

    target.enqueue = once  # type: ignore[method-assign]
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    assert moved == Moved(count=2, taken=1)
    assert (ids_in(source), ids_in(target)) == (ids[:1], ids[1:])


@pytest.mark.parametrize("lacks", [(Delete,), (Pause,)])
def test_job_that_both_sides_have_is_named(lacks: tuple[type, ...]) -> None:
    """Its copy cannot be removed, or a worker of the target has taken it already."""

    class Target(Adapter):
        pass

    Target.lacks = lacks
    source, target = Unpausable(), Target()
    ids = filled(source)
    here, there = source.consumer(["q"]), target.consumer(["q"])

    def both_work() -> None:
        here.reserve(NO_PAUSE)
        there.reserve(NO_PAUSE)

    stats = target.stats
    target.enqueue = after(  # type: ignore[method-assign]
        target.enqueue, lambda: setattr(target, "stats", after(stats, both_work))
    )
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    assert moved == Moved(count=2, double=ids[:1])


@pytest.mark.parametrize("dedupe", [True, False])
def test_move_onto_itself_is_refused_also_where_no_pause_shows_it(dedupe: bool) -> None:
    clock = VirtualClock()

    class Same(Unpausable):
        promises: ClassVar[dict[str, Any]] = {"dedupe": dedupe}

    source, target = Same(clock, f"same-{dedupe}"), Same(clock, f"same-{dedupe}")
    ids = filled(source)
    if dedupe:  # it cannot be told from a target that holds them since an earlier move
        moved = Moved()
        move_jobs(source, target, ["q"], moved)
        assert moved == Moved(left=ids)
    else:

        def anyway(message: Message) -> None:
            MemoryAdapter.enqueue(target, attrs.evolve(message, id=f"{message.id} again"))

        target.enqueue = anyway  # type: ignore[method-assign]
        with pytest.raises(ConfigError, match="the same"):
            move_jobs(source, target, ["q"], Moved())
    assert set(ids) <= set(ids_in(source))


def test_equal_bodies_are_no_sign_of_a_move_onto_itself() -> None:
    source, target = Unpausable(), Adapter()
    for number in range(5):
        source.enqueue(Message(f"id-{number}", "q", b"equal", 5))
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    assert moved == Moved(count=5)


def test_delayed_job_that_becomes_ready_during_the_move_is_not_left_behind() -> None:
    clock = VirtualClock()
    source, target = Adapter(clock), Adapter(clock)
    due = clock.now() + timedelta(seconds=1)
    source.enqueue_many([Message(name, "q", b"x", 5, due) for name in ("a", "b")])
    listing = source.peek

    def slowly(queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        found = listing(queue, state, limit)
        clock.advance(timedelta(seconds=2))
        return found

    source.peek = slowly  # type: ignore[method-assign]
    moved = Moved()
    move_jobs(source, target, ["q"], moved)
    assert moved == Moved(count=2)
    assert ids_in(target) == ["a", "b"]


# --- failures ----------------------------------------------------------------------------------

ERRORS = (
    KeyboardInterrupt(),
    AdapterUnavailable("it is gone"),
    EnqueueUnknown("?", "the connection was lost"),
)


def failing(method: Callable[..., Any], at: int, error: BaseException, *, late: bool) -> Callable[..., Any]:
    """The method, which fails when it is called for the n-th time, before or after it has done its work."""
    calls = iter(range(10**9))

    def call(*arguments: Any) -> Any:
        is_last = next(calls) == at
        if is_last and not late:
            raise error
        answer = method(*arguments)
        if is_last:
            raise error
        return answer

    return call


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    side=st.sampled_from(["source", "target"]),
    method=st.sampled_from(["enqueue", "delete", "delete_shown", "stats", "peek", "pause"]),
    at=st.integers(0, 12),
    error=st.sampled_from(ERRORS),
    late=st.booleans(),
    source_kind=st.sampled_from([Adapter, Unpausable]),
    target_kind=st.sampled_from([Adapter, Unpausable]),
)
def test_whatever_fails_and_when_no_job_is_lost_and_each_that_is_in_both_is_named(
    side: str,
    method: str,
    at: int,
    error: BaseException,
    late: bool,
    source_kind: type[Adapter],
    target_kind: type[Adapter],
) -> None:
    # What an enqueue says when it surely stored nothing, it says before it does anything.
    late = late and not (method == "enqueue" and isinstance(error, AdapterUnavailable))
    source, target = source_kind(), target_kind()
    ids = filled(source, 9)
    broken = source if side == "source" else target
    setattr(broken, method, failing(getattr(broken, method), at, error, late=late))
    moved = Moved()
    try:
        move_jobs(source, target, ["q"], moved)
    except (KeyboardInterrupt, AdapterError) as exc:
        assert exc is error or isinstance(exc, UnknownJob)
    else:
        assert not moved.pending
    here, there = ids_in(source), ids_in(target)
    assert sorted({*here, *there}) == ids
    assert set(here) & set(there) <= {*moved.pending, *moved.double}
    assert moved.count == len(ids) - len(here) - sum(name not in here for name in moved.pending)
    assert not moved.left


# --- what is said before -----------------------------------------------------------------------


def test_move_that_may_run_jobs_twice_or_go_unchecked_says_so_before() -> None:
    class Unchecked(Adapter):
        lacks = (Browse,)
        promises: ClassVar[dict[str, Any]] = {"counts": False}

    assert risks(Adapter(), Adapter()) == []
    (why,) = risks(Unpausable(), Adapter())
    assert "cannot be paused" in why and "stop its workers first" in why
    (why,) = risks(Adapter(), Unchecked())
    assert "neither counts nor shows its jobs" in why
    assert len(risks(Unpausable(), Unchecked())) == 2


def test_pauses_of_both_sides_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = VirtualClock()
    monkeypatch.setattr(pausing, "SystemClock", lambda: clock)
    source, target = Adapter(clock), Adapter(clock)
    filled(source)
    source.pause("q", timedelta(hours=1))
    target.pause("q", timedelta(hours=2))
    move_jobs(source, target, ["q"], Moved())
    assert source.stats("q").paused == timedelta(hours=1)
    assert target.stats("q").paused == timedelta(hours=2)
    filled(source)
    source.pause("q", NO_PAUSE)
    target.purge("q")
    target.pause("q", NO_PAUSE)
    move_jobs(source, target, ["q"], Moved())
    assert (source.stats("q").paused, target.stats("q").paused) == (None, None)

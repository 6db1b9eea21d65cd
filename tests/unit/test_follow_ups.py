"""Follow-ups: what a job's end brings along is stored at least once, or the job is not settled (S20)."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, ClassVar

import attrs
import kessel_memory.plugin
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core import (
    Config,
    EnqueueRejected,
    EnqueueUnknown,
    Fatal,
    InvalidRequest,
    Job,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    KesselError,
    LeaseLost,
    Reason,
    ResultsConfig,
    Snooze,
    Status,
    Transient,
    build_plugins,
    hookimpl,
)
from kessel_core.contract import (
    AdapterContext,
    AdapterUnavailable,
    Browse,
    Capabilities,
    JobState,
    Message,
    need,
)
from kessel_core.testing import VirtualClock, run_delivery, run_until_idle

SECOND = timedelta(seconds=1)


class Apart(MemoryAdapter):
    """A memory adapter that cannot store follow-ups together with a settlement."""

    name: ClassVar[str] = "apart"

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, follow=False)


@pytest.fixture(params=[MemoryAdapter, Apart], ids=["together", "apart"])
def adapter(request: pytest.FixtureRequest) -> MemoryAdapter:
    kind: Callable[..., MemoryAdapter] = request.param
    return kind(MemoryOptions(capacity=50), AdapterContext(clock=VirtualClock()))


def manager_of(adapter: MemoryAdapter, **handlers: Callable[..., Any]) -> JobManager:
    return JobManager(adapter, handlers=handlers, clock=adapter._store.clock, middleware=())


def run_one(manager: JobManager) -> JobResult | None:
    """Run the next job of the queue `default`, and no other."""
    consumer = manager.adapter.consumer(["default"])
    try:
        reservation = consumer.reserve(timedelta(0))
        assert reservation is not None
        return run_delivery(manager, reservation, consumer)
    finally:
        consumer.close()


def waiting(adapter: MemoryAdapter, queue: str = "default") -> list[Job]:
    browse = need(adapter, Browse)
    states = (JobState.READY, JobState.DELAYED)
    return [one.job() for state in states for one in browse.peek(queue, state, 100)]


def test_s20_a_follow_up_is_stored_when_the_attempt_succeeds(adapter: MemoryAdapter) -> None:
    ran: list[Any] = []

    def first(payload: Any, job: JobContext) -> None:
        asked = job.follow_up("second", {"n": payload}, priority=3, ref="r", headers={"a": "b"})
        assert isinstance(asked, Job)
        ran.append(asked.id)
        assert waiting(adapter) == []

    def second(payload: Any, job: JobContext) -> None:
        ran.append((payload, job.id, job.request.priority, job.request.ref, dict(job.headers)))

    with manager_of(adapter, first=first, second=second) as manager:
        requested = manager.request("first", 7)
        results = run_until_idle(manager)
    assert [result.status for result in results] == [Status.SUCCESS] * 2
    assert ran[1] == ({"n": 7}, ran[0], 3, "r", {"a": "b"})
    assert uuid.UUID(ran[0]).version == 5
    assert ran[0] != requested.id


def test_s20_ids_are_the_same_for_the_same_job_and_differ_between_calls_and_jobs(
    adapter: MemoryAdapter,
) -> None:
    asked: list[list[str]] = []

    def first(payload: Any, job: JobContext) -> None:
        asked.append([job.follow_up("second").id, job.follow_up("second").id])
        if job.attempt == 1:
            raise Transient("once more")

    with manager_of(adapter, first=first, second=lambda payload: None) as manager:
        manager.request("first")
        manager.request("first")
        run_until_idle(manager)
    assert len(asked) == 4
    assert len({tuple(ids) for ids in asked}) == 2
    assert len({one for ids in asked for one in ids}) == 4


@pytest.mark.parametrize("error", [Transient("t"), Snooze(SECOND), Fatal("f"), ValueError("v")])
def test_s20d_an_attempt_that_does_not_succeed_stores_none(adapter: MemoryAdapter, error: Exception) -> None:
    def first(payload: Any, job: JobContext) -> None:
        job.follow_up("second")
        raise error

    with manager_of(adapter, first=first, second=lambda payload: None) as manager:
        manager.request("first", expiration=timedelta(minutes=2))
        run_one(manager)
        assert "second" not in [job.type for job in waiting(adapter)]


def test_s20_a_follow_up_may_be_delayed_and_go_to_another_queue(adapter: MemoryAdapter) -> None:
    def first(payload: Any, job: JobContext) -> None:
        job.follow_up(JobRequest(type="second", queue="other", delay=timedelta(minutes=1), id="own"))

    with manager_of(adapter, first=first) as manager:
        manager.request("first")
        run_one(manager)
        (job,) = waiting(adapter, "other")
    assert job.id == "own"
    assert job.not_before is not None


def test_s20_one_whose_id_is_held_already_counts_as_stored(adapter: MemoryAdapter) -> None:
    def first(payload: Any, job: JobContext) -> None:
        job.follow_up(JobRequest(type="second", id="held", queue="other", payload="new"))

    with manager_of(adapter, first=first) as manager:
        manager.request(JobRequest(type="second", id="held", queue="other", payload="old"))
        manager.request("first")
        result = run_one(manager)
        (job,) = waiting(adapter, "other")
    assert result is not None
    assert result.status is Status.SUCCESS
    assert job.payload == "old"


def test_s15_a_function_that_is_handed_on_to_a_follow_up_waits_for_the_first_job(
    adapter: MemoryAdapter,
) -> None:
    def first(payload: Any, job: JobContext) -> str:
        job.follow_up("second", callback=job.request.callback)
        return "first"

    told: list[JobResult] = []
    with manager_of(adapter, first=first, second=lambda payload: "second") as manager:
        manager.request("first", callback=told.append)
        results = run_until_idle(manager)
    assert [result.value for result in results] == ["first", "second"]
    assert told == results[:1]


def test_s20c_a_later_job_with_the_same_id_brings_along_its_own(adapter: MemoryAdapter) -> None:
    """An id is free when its job has ended; what that brought along may wait, or be buried, for long."""

    def ask(payload: Any, job: JobContext) -> None:
        job.follow_up("later", payload, queue="later")

    got: list[Any] = []
    clock = adapter._store.clock
    assert isinstance(clock, VirtualClock)
    handlers = {"ask": ask, "later": got.append, "told": lambda outcome: got.append("told")}
    with manager_of(adapter, **handlers) as manager:
        for day in ("mon", "tue"):
            manager.request(JobRequest(type="ask", id="report", payload=day, callback="job:told?queue=told"))
            run_until_idle(manager, queues=["default"])
            clock.advance(SECOND)
        run_until_idle(manager, queues=["told", "later"])
    assert sorted(map(str, got)) == ["mon", "told", "told", "tue"]


def test_s20_a_refused_follow_up_buries_the_job_with_what_it_returned() -> None:
    for kind in (MemoryAdapter, Apart):
        adapter = kind(MemoryOptions(capacity=3), AdapterContext(clock=VirtualClock()))

        def first(payload: Any, job: JobContext) -> dict[str, int]:
            for _ in range(5):
                job.follow_up("second", delay=timedelta(days=1))
            return {"sum": 42}

        with manager_of(adapter, first=first) as manager:
            manager.request("first")
            result = run_one(manager)
            assert result is not None
            assert (result.status, result.reason) == (Status.FAILED, Reason.FOLLOW_UP_REFUSED)
            (buried,) = adapter.buried("default")
            assert buried.reason == "follow-up-refused"
            assert '{"sum":42}' in (buried.message or "")
            if kind is MemoryAdapter:
                assert waiting(adapter) == []  # all or nothing


def test_s20_what_a_refused_follow_up_leaves_to_read_is_cut_where_every_message_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What the job had returned may have any length; queues and logs take 2,000 characters."""
    adapter = MemoryAdapter(MemoryOptions(capacity=1), AdapterContext(clock=VirtualClock()))

    def first(payload: Any, job: JobContext) -> str:
        for _ in range(2):
            job.follow_up("second", delay=timedelta(days=1))
        return "x" * 10_000

    with manager_of(adapter, first=first) as manager:
        manager.request("first")
        result = run_one(manager)
        (buried,) = adapter.buried("default")
    assert result is not None
    assert result.message.startswith("its follow-up was refused: ")
    assert len(result.message) == 2000
    assert buried.message == result.message
    (said,) = [record for record in caplog.records if record.name == "kessel.pipeline"]
    assert said.getMessage() == f"job {result.id}: {result.message}"


def test_s20_a_wrong_follow_up_is_an_error_in_the_handler(adapter: MemoryAdapter) -> None:
    found: list[str] = []

    def first(payload: Any, job: JobContext) -> None:
        with pytest.raises(InvalidRequest) as caught:
            job.follow_up(" ", {1, 2}, priority=True)  # type: ignore[arg-type]  # the mistake
        found.extend(problem.path for problem in caught.value.problems)
        with pytest.raises(InvalidRequest):
            job.follow_up("second", callback="")

    with manager_of(adapter, first=first) as manager:
        manager.request("first")
        result = run_one(manager)
        assert waiting(adapter) == []
    assert result is not None
    assert result.status is Status.SUCCESS
    assert len(found) >= 3


def test_s20_what_is_asked_for_after_the_end_of_the_attempt_is_refused(adapter: MemoryAdapter) -> None:
    """A thread that the handler left behind got a job that was never stored."""
    left: list[JobContext] = []

    def first(payload: Any, job: JobContext) -> None:
        left.append(job)
        if payload is not None:
            raise Transient("x") if payload == "again" else Fatal("x")

    with manager_of(adapter, first=first) as manager:
        for payload in (None, "again", "no"):
            manager.request("first", payload)
            run_one(manager)
        manager.process_single_job("first")
        assert len(left) == 4
        for job in left:
            with pytest.raises(
                LeaseLost, match="its attempt has ended: what it asks for would not be stored"
            ):
                job.follow_up("second")


def test_a_job_made_by_hand_cannot_ask_for_others() -> None:
    job = JobContext(Job(type="a"), 1, VirtualClock())
    with pytest.raises(KesselError, match="cannot ask"):
        job.follow_up("b")
    job.extend()


def test_s20_a_plugin_that_prepares_a_follow_up_may_run_a_job_that_asks_for_one() -> None:
    """It waited for the lock of the first, for ever."""

    class Preparing:
        @hookimpl
        def kessel_prepare_request(self, request: JobRequest) -> None:
            if request.type == "outer":
                results.append(manager.process_single_job("inner"))

    def ask(payload: Any, job: JobContext) -> None:
        job.follow_up("outer" if job.type == "first" else "last")

    results = list[JobResult]()
    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "own": Preparing()}, distributions=[])
    handlers = {"first": ask, "inner": ask, "outer": print, "last": print}
    with JobManager("memory://", handlers=handlers, plugins=plugins) as manager:
        manager.request("first")
        worker = threading.Thread(target=manager.worker(slots=1).drain, daemon=True)
        worker.start()
        worker.join(20)
        assert not worker.is_alive()
        assert [result.status for result in results] == [Status.SUCCESS]


@pytest.mark.parametrize("is_inline", [False, True])
def test_s20_what_a_thread_asks_for_after_its_job_has_ended_is_refused(
    adapter: MemoryAdapter, is_inline: bool
) -> None:
    """It got a job as it would be stored, and nobody ever stored it."""
    left = list[JobContext]()
    with manager_of(adapter, a=lambda payload, job: left.append(job), b=print) as manager:
        if is_inline:
            manager.process_single_job("a")
        else:
            manager.request("a")
            run_until_idle(manager)
        with pytest.raises(LeaseLost, match="its attempt has ended"):
            left[0].follow_up("b")
        assert waiting(adapter) == []


def test_watchers_see_a_follow_up_once_it_is_stored(adapter: MemoryAdapter) -> None:
    from kessel_core import build_plugins, hookimpl

    seen: list[tuple[str, bool]] = []

    class Watching:
        @hookimpl
        def kessel_job_enqueued(self, request: Job) -> None:
            seen.append((request.type, request.type in [job.type for job in waiting(adapter)]))

        @hookimpl
        def kessel_prepare_request(self, request: JobRequest) -> JobRequest:
            return attrs.evolve(request, headers={"tenant": "north"})

    def first(payload: Any, job: JobContext) -> None:
        assert job.follow_up("second", delay=SECOND).headers == {"tenant": "north"}

    plugins = build_plugins(extra={"watching": Watching()}, distributions=[])
    handlers = {"first": first, "second": lambda payload: None}
    with JobManager(
        adapter, handlers=handlers, clock=adapter._store.clock, middleware=(), plugins=plugins
    ) as m:
        m.request("first")
        run_until_idle(m)
    assert seen == [("first", True), ("second", True)]


class Picky(Apart):
    """Refuses jobs of some types."""

    refused: ClassVar[tuple[bytes, ...]] = ()

    def enqueue(self, message: Message) -> None:
        if any(b'"type":"%s"' % one in message.body for one in self.refused):
            raise EnqueueRejected(message.id, "draining", "draining")
        super().enqueue(message)


@pytest.mark.parametrize("store", ["adapter", "memory://"])
@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("in_one", [True, False])
def test_s22_s25_a_job_whose_follow_up_is_refused_is_kept_and_told_as_any_other_that_failed(
    store: str, is_told: bool, in_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told, unless the queue refuses that as well."""
    monkeypatch.setattr(Picky, "refused", (b"second",) if is_told else (b"second", b"told"))
    # Where all goes in one: with the job, which is buried, no place is left, or one.
    options = MemoryOptions(capacity=(2 if is_told else 1) if in_one else 50)
    adapter = (MemoryAdapter if in_one else Picky)(options, AdapterContext(clock=VirtualClock()))

    def first(payload: Any, job: JobContext) -> dict[str, int]:
        for _ in range(3):
            job.follow_up("second")
        return {"sum": 42}

    with JobManager(
        adapter,
        handlers={"first": first, "second": len, "told": len},
        clock=adapter._store.clock,
        config=Config(results=ResultsConfig(keep=timedelta(hours=1))),
        store=store,
    ) as manager:
        job = manager.request("first", callback="job:told?queue=told")
        result = run_one(manager)
        assert result is not None
        assert result.reason is Reason.FOLLOW_UP_REFUSED
        kept = manager.result(job.id)
        assert kept is not None
        assert (kept.status, kept.reason) == (Status.FAILED, Reason.FOLLOW_UP_REFUSED)
        told = [one.payload["reason"] for one in waiting(adapter, "told")]  # type: ignore[index,call-overload]
        assert told == (["follow-up-refused"] if is_told else [])
        (buried,) = adapter.buried("default")
        assert buried.reason == "follow-up-refused"


def test_s20_a_job_run_without_a_queue_stores_its_follow_ups(adapter: MemoryAdapter) -> None:
    def first(payload: Any, job: JobContext) -> None:
        job.follow_up("second")

    with manager_of(adapter, first=first) as manager:
        assert manager.process_single_job("first").status is Status.SUCCESS
        assert [job.type for job in waiting(adapter)] == ["second"]


def test_s20_a_refused_follow_up_of_a_job_run_without_a_queue_is_its_result() -> None:
    adapter = failing(EnqueueRejected("b", "draining", "draining"))
    adapter.failures = adapter.later  # type: ignore[attr-defined]  # nothing else is stored before

    def first(payload: Any, job: JobContext) -> str:
        job.follow_up("second")
        return "done"

    with manager_of(adapter, first=first) as manager:
        result = manager.process_single_job("first")
    assert (result.status, result.reason, result.value) == (Status.FAILED, Reason.FOLLOW_UP_REFUSED, "done")
    assert waiting(adapter) == []


# --- what is stored first, where the adapter cannot do both in one -----------------------------------


class NeverCame(EnqueueUnknown):
    """The request was lost, not its answer."""


class Failing(Apart):
    """Fails in the ways given, one for each enqueue, before it works."""

    name: ClassVar[str] = "failing"
    failures: list[Exception | None]

    def enqueue(self, message: Message) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, EnqueueUnknown) and not isinstance(failure, NeverCame):
            super().enqueue(message)  # it was stored, but the answer was lost
        if failure is not None:
            raise failure
        super().enqueue(message)


def failing(*failures: Exception | None) -> Failing:
    adapter = Failing(MemoryOptions(), AdapterContext(clock=VirtualClock()))
    adapter.failures = []
    adapter.later = list(failures)  # type: ignore[attr-defined]  # put in place once the job is stored
    return adapter


def run_failing(adapter: Failing) -> tuple[JobResult | None, list[Job]]:
    def first(payload: Any, job: JobContext) -> None:
        for name in ("a", "b"):
            job.follow_up(JobRequest(type=name, queue="other"))

    with manager_of(adapter, first=first) as manager:
        manager.request("first")
        adapter.failures = adapter.later  # type: ignore[attr-defined]  # as above
        result = run_one(manager)
        return result, waiting(adapter, "other")


def test_s20b_what_cannot_be_stored_now_is_tried_again_while_the_lease_holds() -> None:
    result, jobs = run_failing(failing(AdapterUnavailable("away"), None, AdapterUnavailable("away")))
    assert result is not None
    assert result.status is Status.SUCCESS
    assert [job.type for job in jobs] == ["a", "b"]


@pytest.mark.parametrize("lost", [EnqueueUnknown, NeverCame])
def test_s20b_a_lost_answer_does_not_lose_or_double_a_follow_up(lost: type[EnqueueUnknown]) -> None:
    result, jobs = run_failing(failing(lost("x", "lost"), lost("x", "lost")))
    assert result is not None
    assert result.status is Status.SUCCESS
    assert [job.type for job in jobs] == ["a", "b"]


def test_s20b_a_queue_that_stays_away_leaves_the_job_to_its_lease() -> None:
    adapter = failing(*[AdapterUnavailable("away")] * 60)
    result, jobs = run_failing(adapter)
    assert result is None  # not settled, so it is delivered again
    assert jobs == []


def test_s20_a_refusal_in_the_middle_buries_the_job() -> None:
    result, jobs = run_failing(failing(None, EnqueueRejected("b", "draining", "draining")))
    assert result is not None
    assert result.reason is Reason.FOLLOW_UP_REFUSED
    assert [job.type for job in jobs] == ["a"]


@pytest.fixture
def _impatient() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_impatient")
def test_s20_a_handler_may_ask_from_several_threads_and_each_job_is_stored(adapter: MemoryAdapter) -> None:
    """Two that asked at the same time got one id, and the second was taken for the first."""
    number = 16

    def ask(payload: Any, job: JobContext) -> None:
        together = threading.Barrier(number)

        def asking(index: int) -> None:
            together.wait()
            job.follow_up("b", {"index": index, "long": list(range(2000))})

        threads = [threading.Thread(target=asking, args=(index,)) for index in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    seen: list[int] = []
    with manager_of(adapter, a=ask, b=lambda payload: seen.append(payload["index"])) as manager:
        manager.request("a")
        run_until_idle(manager)
    assert sorted(seen) == list(range(number))

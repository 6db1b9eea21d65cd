"""Results are kept in the store, and awaited from any process (S25, S26)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, ClassVar

import attrs
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.entries import Entries, MemoryStore
from kessel_memory.options import MemoryOptions

from kessel_core import (
    CapabilityMissing,
    Config,
    Fatal,
    InvalidConfig,
    JobContext,
    JobFailed,
    JobManager,
    JobRequest,
    JobResult,
    JobsConfig,
    KesselError,
    Outcome,
    Reason,
    ResultPending,
    ResultsConfig,
    ResultTimeout,
    ResultUnknown,
    Snooze,
    Status,
    StoreRejected,
    StoreUnknown,
    SystemClock,
    Transient,
    handler,
)
from kessel_core.contract import (
    AdapterContext,
    Buried,
    Capabilities,
    FacetKind,
    Find,
    JobState,
    Message,
    Store,
    need,
)
from kessel_core.testing import VirtualClock, run_until_idle

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
KEEP = Config(results=ResultsConfig(keep=DAY), jobs=JobsConfig(max_attempts=3))


class Apart(MemoryAdapter):
    """A memory adapter without a store, which cannot write entries with a settlement."""

    name: ClassVar[str] = "apart"

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, follow=False)

    def facet(self, kind: FacetKind[Any]) -> Any:
        return None if kind is Store else super().facet(kind)


@pytest.fixture(params=["together", "apart"])
def app(request: pytest.FixtureRequest) -> Any:
    opened: list[JobManager] = []

    def open_(handlers: Any = None, *, clock: Any = None, config: Config = KEEP) -> JobManager:
        clock = clock or VirtualClock()
        if request.param == "together":
            manager = JobManager("memory://", handlers=handlers, config=config, clock=clock)
        else:
            adapter = Apart(MemoryOptions(), AdapterContext(clock=clock))
            manager = JobManager(adapter, store="memory://", handlers=handlers, config=config, clock=clock)
        opened.append(manager.connect())
        return manager

    yield open_
    for manager in opened:
        manager.close()


App = Callable[..., JobManager]


def raising(*errors: Exception) -> Callable[[Any], Any]:
    left = list(errors)

    def do(payload: Any) -> Any:
        if left:
            raise left.pop(0)
        return payload

    return do


def test_s25_a_success_is_kept_with_its_value(app: App) -> None:
    manager = app({"a": raising()})
    job = manager.request("a", {"n": [1, None]}, ref="r")
    run_until_idle(manager)
    outcome = manager.result(job.id)
    assert (outcome.id, outcome.type, outcome.ref, outcome.value) == (job.id, "a", "r", {"n": [1, None]})
    assert outcome.raise_for_failure() is outcome


def test_s25d_the_result_of_a_job_that_is_run_without_a_queue_is_kept_as_long(app: App) -> None:
    clock = VirtualClock()
    manager = app({"good": raising(), "bad": raising(Fatal("no"))}, clock=clock)
    good, bad = (manager.process_single_job(kind, 7).id for kind in ("good", "bad"))
    clock.advance(DAY - SECOND)
    assert manager.result(good).value == 7
    assert manager.result(bad).message == "no"
    clock.advance(SECOND)
    for job_id in (good, bad):
        with pytest.raises(ResultUnknown):
            manager.result(job_id)


def test_x7_s25c_failures_expirations_and_burials_are_kept_as_well(app: App) -> None:
    clock = VirtualClock()
    errors = [Transient("1"), Transient("2"), Transient("3")]
    manager = app({"fatal": raising(Fatal("no")), "tried": raising(*errors), "late": print}, clock=clock)
    ids = [
        manager.request("fatal").id,
        manager.request("tried").id,
        manager.request("late", expiration=SECOND).id,
        manager.request("unknown").id,
    ]
    clock.advance(2 * SECOND)
    run_until_idle(manager)
    outcomes = [manager.result(one) for one in ids]
    assert [outcome.status for outcome in outcomes] == [Status.FAILED] * 4
    expected = [Reason.ERROR, Reason.RETRIES_EXHAUSTED, Reason.EXPIRED, Reason.NO_HANDLER]
    assert [outcome.reason for outcome in outcomes] == expected
    with pytest.raises(JobFailed) as caught:
        outcomes[0].raise_for_failure()
    assert str(caught.value) == f"job {ids[0]} failed: error: no"


NO_VALUE = "the handler returned what is not a JSON value"


def always(error: Exception) -> Callable[[Any], Any]:
    def fail(payload: Any) -> Any:
        raise error

    return fail


def failed(message: str) -> Callable[[Any, JobContext], JobResult]:
    return lambda payload, job: JobResult(
        id=job.id, request=job.request, status=Status.FAILED, message=message
    )


def returned(value: Any) -> Callable[[Any, JobContext], JobResult]:
    return lambda payload, job: JobResult(
        id=job.id, request=job.request, status=Status.SUCCESS, value=value, after=timedelta(1)
    )


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        (always(ValueError("no such file: caf\udce9")), r"ValueError: no such file: caf\udce9"),
        (always(Fatal("caf\udce9")), r"caf\udce9"),
        (failed("caf\udce9"), r"caf\udce9"),
        (failed("a" * 5000), "a" * 2000),
        (failed("\udce9" * 2000), r"\udce9" * 333 + r"\u"),
        (
            returned({1, 2}),
            f"{NO_VALUE}: $: set is not a JSON value: use a list",
        ),
        (
            returned(float("nan")),
            f"{NO_VALUE}: $: nan is not a JSON number",
        ),
    ],
)
def test_s25c_what_cannot_be_stored_as_it_is_fails_by_rule_and_once(
    app: App, handle: Callable[..., Any], message: str
) -> None:
    """A name of a file may hold bytes that are no text; its job came again until it was a lost worker."""
    told: list[Any] = []
    manager = app({"a": handle, "told": told.append})
    job = manager.request("a", callback="job:told")
    outcomes = [(result.status, result.after) for result in run_until_idle(manager)]
    assert outcomes == [(Status.FAILED, None), (Status.SUCCESS, None)]
    outcome = manager.result(job.id)
    assert (outcome.message, outcome.value, outcome.attempt) == (message, None, 1)
    assert [one["message"] for one in told] == [message]
    (buried,) = need(manager.adapter, Buried).buried("default")
    assert (buried.message or "").startswith(message)


def test_s25_an_outcome_without_a_reason_tells_its_message_alone() -> None:
    with pytest.raises(JobFailed) as caught:
        Outcome(id="i", status=Status.FAILED, message="no").raise_for_failure()
    assert str(caught.value) == "job i failed: no"


def test_s25b_a_later_outcome_replaces_an_earlier_one(app: App) -> None:
    manager = app({"a": raising(Fatal("first"))})
    job = manager.request("a", 7)
    run_until_idle(manager)
    assert manager.result(job.id).message == "first"
    need(manager.adapter, Buried).kick("default", job.id)
    run_until_idle(manager)
    assert manager.result(job.id).value == 7


def test_x7_s25_what_is_tried_again_has_no_outcome_yet(app: App) -> None:
    seen: list[str] = []

    def do(payload: Any, job: JobContext) -> None:
        with pytest.raises(ResultPending) as caught:
            manager.result(job.id)
        seen.append(str(caught.value.state))
        if len(seen) < 3:
            raise Snooze(SECOND) if len(seen) == 1 else Transient("once more")

    manager = app({"a": do})
    manager.request("a")
    run_until_idle(manager)
    assert seen == ["reserved"] * 3


def test_s22_s25_who_is_told_by_a_job_finds_the_outcome_even_where_both_are_stored_one_by_one() -> None:
    """The job that tells may run the moment that it is stored."""
    found: list[Any] = []

    class Watched(Apart):
        def enqueue(self, message: Message) -> None:
            if json.loads(message.body)["type"] == "told":
                found.append(manager.result(asked.id).value)
            super().enqueue(message)

    clock = VirtualClock()
    adapter = Watched(MemoryOptions(), AdapterContext(clock=clock))
    handlers = {"a": raising(), "told": lambda payload: None}
    with JobManager(adapter, store="memory://", handlers=handlers, config=KEEP, clock=clock) as manager:
        asked = manager.request("a", 7, callback="job:told")
        run_until_idle(manager)
    assert found == [7]


def test_s25_an_outcome_that_the_store_refuses_is_said_and_does_not_keep_the_job_from_ending(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Refusing(MemoryStore):
        def put_entry(self, space: str, key: str, *_: Any) -> int:
            raise StoreRejected(space, key, "the key is not for this store")

    clock = VirtualClock()
    store = Refusing(Entries(clock, threading.RLock()))
    adapter = Apart(MemoryOptions(), AdapterContext(clock=clock))
    with JobManager(adapter, store=store, handlers={"a": raising()}, config=KEEP, clock=clock) as manager:
        manager.request("a")
        (result,) = run_until_idle(manager)
        assert result.ok
        assert adapter.stats("default").total == 0
    (said,) = [record for record in caplog.records if record.name == "kessel.pipeline"]
    assert said.levelname == "ERROR"
    assert result.id in said.getMessage()
    assert said.getMessage().endswith(": the key is not for this store")


@pytest.mark.parametrize("was_stored", [True, False])
def test_s25_an_outcome_whose_answer_was_lost_is_stored_again_before_the_job_ends(was_stored: bool) -> None:
    class Losing(MemoryStore):
        losses = 2

        def put_entry(self, space: str, key: str, *rest: Any) -> int:
            is_lost, self.losses = self.losses > 0, self.losses - 1
            version = super().put_entry(space, key, *rest) if was_stored or not is_lost else 0
            if is_lost:
                raise StoreUnknown(space, key, "no answer")
            return version

    clock = VirtualClock()
    store = Losing(Entries(clock, threading.RLock()))
    adapter = Apart(MemoryOptions(), AdapterContext(clock=clock))
    with JobManager(adapter, store=store, handlers={"a": raising()}, config=KEEP, clock=clock) as manager:
        job = manager.request("a", 7)
        run_until_idle(manager)
        assert manager.result(job.id).value == 7
        assert adapter.stats("default").total == 0
    assert store.losses < 0


def test_s25_a_job_whose_id_can_be_no_key_ends_and_it_is_said_that_its_outcome_is_not_kept(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL refused its settlement, too, and it ran again until its worker counted as lost."""
    manager = app({"a": raising()})
    job = manager.request(JobRequest(type="a", id="a\0b"))
    (result,) = run_until_idle(manager)
    assert result.ok
    assert manager.store.scan("results") == []
    assert manager.adapter.stats("default").total == 0
    with pytest.raises(ResultUnknown):
        manager.result(job.id)
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert said.getMessage().endswith("its id must not contain the character U+0000")
    assert vars(said)["job_id"] == job.id


def test_s25d_after_its_time_it_is_not_returned(app: App) -> None:
    clock = VirtualClock()
    manager = app({"a": raising()}, clock=clock)
    job = manager.request("a")
    run_until_idle(manager)
    clock.advance(DAY - SECOND)
    assert manager.result(job.id).ok
    clock.advance(SECOND)
    with pytest.raises(ResultUnknown, match="no result, and no job"):
        manager.result(job.id)


@pytest.mark.parametrize(
    "job_id", ["", "x" * 5000, "\ud800", "a\0b"], ids=["blank", "long", "surrogate", "null"]
)
def test_s26_s27_s39_of_an_id_that_no_job_can_have_nothing_is_known(app: App, job_id: str) -> None:
    manager = app({"a": raising()})
    with pytest.raises(ResultUnknown):
        manager.result(job_id, SECOND)
    assert manager.progress(job_id) is None
    assert manager.history(job_id).events == ()


def test_s26_pending_is_told_with_the_state_and_unknown_apart_from_it(app: App) -> None:
    manager = app({"a": raising()})
    states = {}
    for name, delay in (("ready", None), ("delayed", DAY)):
        job = manager.request(JobRequest(type="a", delay=delay))
        with pytest.raises(ResultPending) as caught:
            manager.result(job.id)
        states[name] = caught.value.state
        assert not isinstance(caught.value, ResultTimeout)
    assert states == {"ready": "ready", "delayed": "delayed"}
    with pytest.raises(ResultUnknown):
        manager.result("no-such-job")


def test_s26_without_a_way_to_find_a_job_nobody_claims_that_it_is_unknown() -> None:
    class Blind(MemoryAdapter):
        name: ClassVar[str] = "blind"

        def facet(self, kind: FacetKind[Any]) -> Any:
            return None if kind is Find else super().facet(kind)

    clock = VirtualClock()
    adapter = Blind(MemoryOptions(), AdapterContext(clock=clock))
    with JobManager(adapter, clock=clock) as manager, pytest.raises(ResultPending) as caught:
        manager.result("x")
    assert caught.value.state is None
    assert "cannot be told" in str(caught.value)


def test_s26_a_wait_never_lasts_longer_than_its_timeout_by_the_applications_clock(app: App) -> None:
    clock = VirtualClock()
    manager = app({"a": raising()}, clock=clock)
    job = manager.request("a")
    began = clock.now()
    with pytest.raises(ResultTimeout, match="within the time to wait; it is ready"):
        manager.result(job.id, timedelta(minutes=5))
    assert clock.now() - began == timedelta(minutes=5)
    with pytest.raises(ResultUnknown):
        manager.result("no-such-job", timedelta(minutes=5))


@pytest.mark.parametrize("timeout", [5, 0, 2.5, "5s", None])
def test_s26_a_timeout_that_is_no_span_of_time_is_refused_in_words(app: App, timeout: Any) -> None:
    with pytest.raises(TypeError, match=r"timeout: expected a timedelta, as timedelta\(seconds=30\), got"):
        app().result("a", timeout=timeout)


@pytest.mark.parametrize("ask", ["result", "progress", "history", "explain"])
def test_s26_s27_s39_a_job_given_for_its_id_is_refused_in_words(app: App, ask: str) -> None:
    """The result was unknown, of a job whose id was all of it; others failed in an encoder."""
    manager = app({"a": raising()})
    wrong: Any
    for wrong, said in ((manager.request("a"), "got Job; give its `id`"), (None, "got NoneType")):
        with pytest.raises(TypeError, match=f"^job_id: expected text, {said}$"):
            getattr(manager, ask)(wrong)


def test_s26_a_wait_that_began_before_the_request_is_woken() -> None:
    with (
        JobManager("memory://", handlers={"a": raising()}, config=KEEP, clock=SystemClock()) as manager,
        ThreadPoolExecutor() as pool,
    ):
        waiting = pool.submit(manager.result, "own-id", timedelta(minutes=1))
        manager.start()
        manager.request(JobRequest(type="a", id="own-id", payload=3))
        assert waiting.result(30).value == 3


def test_s26_the_async_form_does_not_block_the_loop() -> None:
    async def main() -> Any:
        job = await manager.request_async("a", 5)
        outcome, ticks = await asyncio.gather(manager.result_async(job.id, timedelta(minutes=1)), tick())
        return outcome.value, ticks

    async def tick() -> int:
        manager.start()
        await asyncio.sleep(0)
        return 1

    with JobManager("memory://", handlers={"a": raising()}, config=KEEP, clock=SystemClock()) as manager:
        assert asyncio.run(main()) == (5, 1)


def test_s26_many_that_wait_in_an_event_loop_hold_up_neither_each_other_nor_requests() -> None:
    """The loop's executor has a few threads more than there are cores."""
    many = 50

    async def main() -> list[Any]:
        waits = [
            asyncio.create_task(manager.result_async(f"i{n}", timedelta(minutes=1))) for n in range(many)
        ]
        await asyncio.sleep(0)
        for n in reversed(range(many)):
            await manager.request_async(JobRequest(type="a", id=f"i{n}", payload=n))
        return [outcome.value for outcome in await asyncio.gather(*waits)]

    with JobManager("memory://", handlers={"a": raising()}, config=KEEP, clock=SystemClock()) as manager:
        manager.start()
        assert asyncio.run(main()) == list(range(many))


def test_s26_a_wait_in_an_event_loop_can_be_cancelled_and_raises_what_result_raises() -> None:
    async def main() -> None:
        waiting = asyncio.create_task(manager.result_async("nobody", timedelta(minutes=1)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(ResultUnknown):
            await manager.result_async("nobody")

    with JobManager("memory://", config=KEEP, clock=SystemClock()) as manager:
        asyncio.run(main())


def test_s26_a_job_in_the_only_slot_does_not_wait_for_ever() -> None:
    errors: list[str] = []

    def outer(payload: Any) -> None:
        job = manager.request("inner")
        with pytest.raises(ResultPending):
            manager.result(job.id)
        try:
            manager.result(job.id, timedelta(minutes=1))
        except KesselError as exc:
            errors.append(str(exc))

    async def waits(payload: Any) -> None:
        try:
            manager.result("x", timedelta(minutes=1))
        except KesselError as exc:
            errors.append(str(exc))

    handlers = {"outer": outer, "waits": waits, "inner": raising()}
    with JobManager("memory://", handlers=handlers, config=KEEP, clock=SystemClock()) as manager:
        manager.request("outer")
        manager.worker(slots=1).drain()
        manager.request("waits")
        manager.worker(slots=2).drain()
    assert "no slot is left" in errors[0]
    assert "result_async" in errors[1]


def test_s26_a_job_in_the_only_slot_gets_an_outcome_that_is_there_already() -> None:
    seen: list[Any] = []

    def outer(payload: Any) -> None:
        seen.append(manager.result(payload, timedelta(minutes=1)).value)

    handlers = {"outer": outer, "inner": raising()}
    with JobManager("memory://", handlers=handlers, config=KEEP, clock=SystemClock()) as manager:
        manager.request("outer", manager.request("inner", 3).id)
        manager.worker(slots=1).drain()
    assert seen == [3]


def test_s25_a_handler_says_how_long_its_results_are_kept() -> None:
    @handler("kept", keep=2 * SECOND)
    def kept(payload: Any) -> int:
        return 1

    clock = VirtualClock()
    with JobManager("memory://", handlers=[kept, plain], clock=clock) as manager:
        first, second = manager.request("kept"), manager.request("plain")
        run_until_idle(manager)
        assert manager.result(first.id).value == 1
        with pytest.raises(ResultUnknown):
            manager.result(second.id)
        clock.advance(2 * SECOND)
        with pytest.raises(ResultUnknown):
            manager.result(first.id)
    with pytest.raises(InvalidConfig, match="keep"):
        handler("x", keep=timedelta(0))


@handler("plain")
def plain(payload: Any) -> int:
    return 2


@pytest.mark.parametrize("keep", [2 * SECOND, 2 * DAY], ids=["shorter", "longer"])
def test_s25_what_a_handler_says_of_its_results_goes_before_the_configuration(keep: timedelta) -> None:
    @handler("kept", keep=keep)
    def kept(payload: Any) -> int:
        return 1

    clock = VirtualClock()
    with JobManager("memory://", handlers=[kept, plain], config=KEEP, clock=clock) as manager:
        as_said, as_configured = manager.request("kept").id, manager.request("plain").id
        run_until_idle(manager)
        gone, there = (as_said, as_configured) if keep < DAY else (as_configured, as_said)
        clock.advance(min(keep, DAY))
        with pytest.raises(ResultUnknown):
            manager.result(gone)
        assert manager.result(there).ok


def test_s17_without_a_store_results_are_refused_at_connect_and_at_the_call() -> None:
    adapter = Apart(MemoryOptions(), AdapterContext(clock=VirtualClock()))
    with pytest.raises(CapabilityMissing, match=r"results\.keep is set; set store to a URL"):
        JobManager(adapter, config=KEEP).connect()

    @handler("kept", keep=DAY)
    def kept(payload: Any) -> None:
        return None

    with pytest.raises(CapabilityMissing, match="results of kept are to be kept"):
        JobManager(adapter, handlers=[kept]).connect()
    with (
        JobManager(adapter) as manager,
        pytest.raises(CapabilityMissing, match="results are kept in a store"),
    ):
        manager.result("x")


def test_s25_a_value_that_is_too_large_for_the_store_is_left_out() -> None:
    from kessel_core.features.results import KeptOutcomes
    from kessel_core.model.result import JobResult
    from kessel_core.wire.results import decode_outcome

    with JobManager("memory://") as manager:
        kept = KeptOutcomes(DAY, manager.store)
    kept._limit = 400
    (put,) = kept.puts(JobResult(id="i", request=None, status=Status.SUCCESS, value="x" * 400), DAY)
    outcome = decode_outcome(put.value)
    assert (outcome.value, outcome.value_omitted) == (None, True)
    kept._limit = 500
    failed = JobResult(id="i", request=None, status=Status.FAILED, message="m" * 400)
    (put,) = kept.puts(failed, DAY)
    assert decode_outcome(put.value).message == "m" * 200, "a store that refuses it leaves the end unknown"
    assert len(put.value) <= 500
    whole = JobResult(id="i", request=None, status=Status.SUCCESS, value="x")
    kept._limit = len(kept.puts(whole, DAY)[0].value)
    assert decode_outcome(kept.puts(whole, DAY)[0].value).value == "x", "what just fits is kept"


def test_s25_of_a_job_without_an_id_nothing_is_kept() -> None:
    """Nobody can ask for it, and an entry needs a key."""
    from kessel_core.features.results import KeptOutcomes
    from kessel_core.model.result import JobResult

    with JobManager("memory://") as manager:
        kept = KeptOutcomes(DAY, manager.store)
    assert kept.puts(JobResult(id="", request=None, status=Status.FAILED), DAY) == ()


def test_s26_a_job_that_ends_between_the_looks_at_store_and_queue_is_not_unknown(
    app: Callable[..., JobManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = app({"a": lambda payload: payload})
    job_id = manager.request("a", 7).id
    run_until_idle(manager)
    monkeypatch.setattr(type(manager.store), "wait", lambda *_, **__: None)
    assert manager.result(job_id).value == 7


def test_find_shows_a_job_in_each_of_its_states() -> None:
    clock = VirtualClock()
    with JobManager("memory://", clock=clock) as manager:
        find = need(manager.adapter, Find).find
        job = manager.request("a", delay=SECOND)
        states: list[JobState] = []

        def look() -> None:
            stored = find(job.id)
            assert stored is not None
            assert stored.id == job.id
            states.append(stored.state)

        look()
        clock.advance(SECOND)
        look()
        consumer = manager.adapter.consumer(["default"])
        held = consumer.reserve(timedelta(0))
        assert held is not None
        look()
        from kessel_core.contract import COMMIT, Bury

        consumer.settle(held, Bury("error"))
        look()
        need(manager.adapter, Buried).kick("default", job.id)
        held = consumer.reserve(timedelta(0))
        assert held is not None
        consumer.settle(held, COMMIT)
        assert find(job.id) is None
        consumer.close()
    assert states == [JobState.DELAYED, JobState.READY, JobState.RESERVED, JobState.BURIED]

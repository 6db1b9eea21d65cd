"""`JobManager`: requesting, wiring and running; S1, S14, S15, S17, and the worker that it makes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import attrs
import pytest

from kessel_core import (
    AdapterError,
    AdapterUnavailable,
    CapabilityMissing,
    Config,
    EnqueueIncomplete,
    EnqueueRejected,
    EnqueueUnknown,
    HistoryConfig,
    IdHeld,
    InvalidConfig,
    InvalidRequest,
    JobManager,
    JobRequest,
    JobResult,
    JsonValue,
    KesselError,
    PluginError,
    PluginsConfig,
    Snooze,
    Status,
    Worker,
    build_plugins,
    hookimpl,
    load_config,
)
from kessel_core.contract import Capabilities, Consumer, Message, QueueAdapter, QueueStats, Reach, Reservation
from kessel_core.errors import UnusablePlugin
from kessel_core.testing import VirtualClock, run_until_idle
from tests.descriptors import numbers
from tests.until import until

WIDE = Capabilities(reach=Reach.PROCESS)


class Shelf(QueueAdapter):
    """An adapter that declares what the test says, and fails as the test says."""

    name = "shelf"

    def __init__(self, capabilities: Capabilities = WIDE, *outcomes: AdapterError | None) -> None:
        self._capabilities = capabilities
        self.outcomes = list(outcomes)
        self.messages: list[Message] = []
        self.closed = False

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def enqueue(self, message: Message) -> None:
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome
        self.messages.append(message)

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        raise AdapterUnavailable("nobody there")

    def give_back(self, reservation: Reservation) -> None:
        raise AdapterUnavailable("nobody there")

    def queues(self) -> list[str]:
        return []

    def stats(self, queue: str) -> QueueStats:
        return QueueStats(queue=queue)

    def purge(self, queue: str) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


Open = Callable[..., JobManager]


def waiting(manager: JobManager) -> list[Callable[[JobResult], object]]:
    """The functions that are kept for the ends of jobs."""
    return list(manager.pipeline._callbacks._functions.values())


def test_a_manager_that_is_not_connected_says_what_to_do() -> None:
    with pytest.raises(KesselError, match="connect"):
        JobManager("memory://").request("a")


def test_connecting_and_closing_are_idempotent(opened: Open) -> None:
    manager = opened()
    adapter = manager.adapter
    assert manager.connect().adapter is adapter
    manager.close()
    manager.close()
    with pytest.raises(KesselError):
        _ = manager.adapter


def test_all_workers_of_a_manager_are_told_to_stop_before_one_is_waited_for() -> None:
    """Told one by one, the others would go on to take jobs, those that the first gives back among them."""
    begun = threading.Semaphore(0)
    workers: list[Worker] = []

    def until_the_other_stops(number: int) -> None:
        begun.release()
        until(lambda: workers[1 - number].is_stopping)

    manager = JobManager("memory://", handlers={"wait": until_the_other_stops}).connect()
    for number in range(2):
        manager.request("wait", number, queue=f"q{number}")
        workers.append(manager.worker(queues=[f"q{number}"], grace=timedelta(seconds=20)))
    for worker in workers:
        worker.start()
        assert begun.acquire(timeout=10)
    manager.close()
    assert [worker.counts for worker in workers] == [{"success": 1}, {"success": 1}]


@pytest.mark.parametrize("part", ["loop", "recorder"])
def test_interrupted_while_it_closes_a_manager_leaves_no_queue_open(
    opened: Open, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Ctrl-C ends the wait for async handlers, or for a history that is still written; nothing else."""
    manager = opened(config=Config(history=HistoryConfig(keep=timedelta(days=1))))
    adapter = manager.adapter
    with monkeypatch.context() as patch:
        patch.setattr(type(getattr(manager._need(), part)), "close", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            manager.close()
    with pytest.raises(AdapterUnavailable, match="closed"):
        adapter.enqueue(Message("i", "q", b"x", 5))


def test_what_is_opened_after_descriptors_were_lost_is_closed_again(opened: Open) -> None:
    """F45: only the connections of before may be somebody else's by now."""
    manager = opened()
    before, worker = manager.adapter, manager.worker()
    worker._descriptors.are_lost = True
    manager.close()
    before.enqueue(Message("i", "q", b"x", 5))  # it was not touched
    after = manager.connect().adapter
    manager.close()
    with pytest.raises(AdapterUnavailable, match="closed"):
        after.enqueue(Message("i", "q", b"x", 5))
    assert worker.has_lost_descriptors
    before.close()


def test_wrong_adapter_options_handlers_and_middleware_are_one_error(opened: Open) -> None:
    with pytest.raises(InvalidConfig) as caught:
        opened(
            "memory://?bogus=1",
            adapter_options={"lease": "soon"},
            handlers={"a": "no_such_module:f"},
            middleware=["loging"],
            config=Config(handlers={"b": "no_such_module:g"}),
        )
    assert [(p.origin, p.where) for p in caught.value.problems] == [
        ("", ("adapter_options", "lease")),
        ("memory://?bogus=1", ("adapter", "bogus")),
        ("", ("handlers", "b")),
        ("JobManager(handlers=...)", ("handlers", "a")),
        ("", ("middleware",)),
    ]


def test_an_unknown_adapter_is_told_with_the_rest(opened: Open) -> None:
    with pytest.raises(InvalidConfig) as caught:
        opened("memry://", middleware=["loging"])
    assert [(p.path, isinstance(p, UnusablePlugin)) for p in caught.value.problems] == [
        ("adapter", True),
        ("middleware", True),
    ]


def test_who_only_requests_needs_no_handler_to_be_importable(opened: Open) -> None:
    config = Config(handlers={"b": "no_such_module:g"})
    manager = opened(config=config, only_requests=True)
    assert manager.request("b").type == "b"
    runs: list[Callable[[], object]] = [
        manager.worker,
        manager.start,
        lambda: manager.process_single_job("b"),
        lambda: manager.pipeline,
    ]
    for run in runs:
        with pytest.raises(KesselError, match="only requests"):
            run()


def test_s15_who_only_requests_takes_no_function_that_it_would_never_call(opened: Open) -> None:
    manager = opened(Shelf(), only_requests=True)
    with pytest.raises(InvalidRequest, match="callback: a function can only be called by who runs the job"):
        manager.request("t", callback=print)
    assert manager.request("t", callback="job:told").callback == "job:told"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"adapter": Path("jobs.db")}, "adapter: expected text"),
        ({"adapter": ""}, "adapter: must not be blank"),
        ({"store": 5}, "store: expected text"),
        ({"adapter_options": "lease=5s"}, "adapter_options: expected a table"),
        ({"middleware": [object()]}, r"middleware\[0\]: expected text"),
        ({"middleware": 5}, r"middleware\[0\]: expected text"),
    ],
)
def test_an_argument_of_another_kind_is_told_as_that_of_its_option(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        JobManager(**{"adapter": "memory://", **given}).connect()


def test_what_load_config_returns_is_no_configuration_and_is_told_so() -> None:
    loaded: Any = load_config(environ={})
    with pytest.raises(TypeError, match=r"expected a Config, as load_config\(\)\.config, got LoadedConfig"):
        JobManager(config=loaded)


def test_a_plugin_that_is_required_must_be_among_those_that_were_given() -> None:
    config = Config(plugins=PluginsConfig(required=("moon",)))
    with pytest.raises(PluginError, match="moon"):
        JobManager(Shelf(), config=config, plugins=build_plugins(distributions=[])).connect()


def test_a_given_adapter_is_closed_by_its_owner(opened: Open) -> None:
    shelf = Shelf()
    opened(shelf).close()
    assert not shelf.closed


def test_a_request_comes_back_as_it_was_stored(opened: Open) -> None:
    request = opened().request(
        " a ", [1], priority=-1, delay=timedelta(1), queue="q", ref="r", headers={"h": "v"}
    )
    assert (request.type, request.priority, request.queue, request.ref) == ("a", 0, "q", "r")
    assert request.id
    assert request.not_before is not None


def test_s1_a_wrong_request_stores_nothing(opened: Open) -> None:
    shelf = Shelf()
    with pytest.raises(InvalidRequest) as caught:
        opened(shelf).request(" ", {1}, queue="-")
    assert {p.path for p in caught.value.problems} == {"$.type", "$.payload", "$.queue"}
    assert shelf.messages == []


def test_s1_problems_of_many_requests_carry_their_index(opened: Open) -> None:
    shelf = Shelf()
    with pytest.raises(InvalidRequest) as caught:
        opened(shelf).request_many([("a", 1), (" ", 2), JobRequest(type="b", priority=True)])
    assert [p.path for p in caught.value.problems] == ["$[1].type", "$[2].priority"]
    assert shelf.messages == []


def test_a_text_is_one_name_and_not_its_letters(opened: Open) -> None:
    """`queues="default"` served the queues `d`, `e` and so on, and `["ab"]` asked for type `a`."""
    manager = opened(middleware="logging")
    assert manager.worker(queues="mail").queues == ("mail",)
    assert [(r.type, r.payload) for r in manager.request_many(["ab", ("c", 1)])] == [("ab", None), ("c", 1)]
    with pytest.raises(InvalidRequest) as caught:
        manager.request_many([5, ("a",), {"type": "a"}])  # type: ignore[list-item]
    assert [p.path for p in caught.value.problems] == ["$[0]", "$[1]", "$[2]"]


@pytest.mark.parametrize("one", ["mail", b"mail", JobRequest(type="mail"), {"mail": 1}, 5, None])
def test_what_is_not_several_requests_is_refused_and_nothing_is_stored(opened: Open, one: object) -> None:
    """`request_many("mail")` stored a job of each letter."""
    shelf = Shelf()
    with pytest.raises(InvalidRequest, match="expected several requests, as a list of them, got"):
        opened(shelf).request_many(one)  # type: ignore[arg-type]
    assert shelf.messages == []


def test_many_requests_are_stored_in_order_and_none_is_fine(opened: Open) -> None:
    shelf = Shelf()
    manager = opened(shelf)
    stored = manager.request_many([("a", n) for n in range(5)])
    assert [message.id for message in shelf.messages] == [request.id for request in stored]
    assert manager.request_many([]) == []


def test_s14_each_of_many_requests_has_one_outcome(opened: Open) -> None:
    shelf = Shelf(
        WIDE, None, EnqueueRejected("x", "full"), EnqueueUnknown("x", "cut"), AdapterUnavailable("away")
    )
    manager = opened(shelf)
    told: list[list[JobResult]] = [[] for _ in range(5)]
    with pytest.raises(EnqueueIncomplete) as caught:
        manager.request_many(JobRequest(type="a", id=str(n), callback=told[n].append) for n in range(5))
    error = caught.value
    assert (error.stored, set(error.unknown), set(error.rejected)) == (("0",), {"2"}, {"1", "3", "4"})
    # Those that may run are told of; the others would be kept for ever.
    assert waiting(manager) == [told[0].append, told[2].append]


def test_s14_the_error_of_many_requests_says_what_became_of_each_that_was_not_stored(opened: Open) -> None:
    """S14: those that may be stored are the ones that somebody has to look for."""
    rejected, held, unknown = EnqueueRejected("1", "full"), IdHeld("2", "buried"), EnqueueUnknown("3", "cut")
    manager = opened(Shelf(WIDE, None, rejected, held, unknown))
    with pytest.raises(EnqueueIncomplete, match="1 stored, 1 not stored, 1 unknown, 1 held") as caught:
        manager.request_many(JobRequest(type="a", id=str(number)) for number in range(4))
    assert str(caught.value).splitlines()[1:] == [f"  - {error}" for error in (rejected, unknown, held)]


@pytest.mark.parametrize("error", [EnqueueRejected("x", "full"), AdapterUnavailable("away")])
def test_s14_a_callback_of_a_request_that_was_not_stored_is_forgotten(
    opened: Open, error: AdapterError
) -> None:
    manager = opened(Shelf(WIDE, error))
    with pytest.raises(type(error)):
        manager.request(JobRequest(type="a", id="i", callback=print))
    assert not waiting(manager)


@pytest.mark.parametrize(
    "error", [EnqueueUnknown("i", "cut"), AdapterError("odd")], ids=lambda e: type(e).__name__
)
def test_s14_a_callback_of_a_request_that_may_run_is_kept(opened: Open, error: AdapterError) -> None:
    manager = opened(Shelf(WIDE, error))
    with pytest.raises(type(error)):
        manager.request(JobRequest(type="a", id="i", callback=print))
    assert waiting(manager)


@pytest.mark.parametrize(
    ("capabilities", "fields", "named"),
    [
        ({}, {"delay": timedelta(1)}, "delay_granularity"),
        ({"priorities": None}, {"priority": 1}, "priorities"),
    ],
)
def test_s17_what_is_not_declared_is_refused_by_name(
    opened: Open, capabilities: dict[str, Any], fields: dict[str, Any], named: str
) -> None:
    shelf = Shelf(attrs.evolve(WIDE, **capabilities))
    with pytest.raises(CapabilityMissing) as caught:
        opened(shelf).request("a", **fields)
    assert (caught.value.capability, caught.value.adapter, shelf.messages) == (named, "shelf", [])


@pytest.mark.parametrize(
    ("capabilities", "fields", "path"),
    [
        (
            {"delay_granularity": timedelta(seconds=1), "longest_delay": timedelta(1)},
            {"delay": timedelta(2)},
            "$.delay",
        ),
        ({"max_body_bytes": 300}, {"payload": "x" * 300}, "$"),
        ({"reach": Reach.HOST}, {"callback": print}, "$.callback"),
    ],
)
def test_s17_limits_of_the_adapter_are_checked_before_sending(
    opened: Open, capabilities: dict[str, Any], fields: dict[str, Any], path: str
) -> None:
    shelf = Shelf(attrs.evolve(WIDE, **capabilities))
    with pytest.raises(InvalidRequest) as caught:
        opened(shelf).request("a", **fields)
    assert [p.path for p in caught.value.problems] == [path]
    assert shelf.messages == []


def test_s17_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(opened: Open) -> None:
    free = Shelf()
    opened(free).request(JobRequest(type="a", id="i"))
    size = len(free.messages[0].body)
    exact, less = (Shelf(attrs.evolve(WIDE, max_body_bytes=limit)) for limit in (size, size - 1))
    opened(exact).request(JobRequest(type="a", id="i"))
    assert len(exact.messages) == 1
    with pytest.raises(InvalidRequest, match=f"takes {size} bytes, adapter 'shelf' takes at most {size - 1}"):
        opened(less).request(JobRequest(type="a", id="i"))
    assert opened(exact).request_many([JobRequest(type="a", id="j")])
    with pytest.raises(InvalidRequest):
        opened(less).request_many([JobRequest(type="a", id="j")])


def test_s17_a_delay_of_exactly_the_longest_is_taken(opened: Open) -> None:
    day = timedelta(days=1)
    shelf = Shelf(attrs.evolve(WIDE, delay_granularity=timedelta(seconds=1), longest_delay=day))
    manager = opened(shelf, clock=VirtualClock())
    manager.request("a", delay=day)
    with pytest.raises(InvalidRequest, match="longer than 'shelf' can hold"):
        manager.request("a", delay=day + timedelta(microseconds=1))
    assert len(shelf.messages) == 1


def test_a_plugin_may_change_a_request_and_its_mistakes_are_mistakes(opened: Open) -> None:
    class Preparing:
        @hookimpl
        def kessel_prepare_request(self, request: JobRequest) -> JobRequest | None:
            if request.type == "keep":
                return None
            return attrs.evolve(request, headers={"trace": "t" if request.type == "good" else 5})

        @hookimpl
        def kessel_job_enqueued(self, request: JobRequest) -> None:
            enqueued.append(request.type)

    enqueued: list[str] = []
    manager = opened(Shelf(), Preparing())
    assert manager.request("good").headers == {"trace": "t"}
    assert manager.request("keep").headers == {}
    with pytest.raises(InvalidRequest):
        manager.request("bad")
    manager.request_many([("keep", 1)])
    assert enqueued == ["good", "keep", "keep"]
    result = manager.process_single_job("good")
    assert result.request is not None
    assert result.request.headers == {"trace": "t"}


@pytest.mark.parametrize("answer", [5, {}, [], False])
def test_a_plugin_that_prepares_something_else_than_a_request_is_named_and_nothing_is_stored(
    opened: Open, answer: object
) -> None:
    class Preparing:
        @hookimpl
        def kessel_prepare_request(self) -> object:
            return answer

    shelf = Shelf()
    manager = opened(shelf, Preparing())
    text = rf"kessel_prepare_request returned {type(answer).__name__}, not a JobRequest"
    for ask in (lambda: manager.request("a"), lambda: manager.request_many(["a"])):
        with pytest.raises(PluginError, match=text):
            ask()
    assert shelf.messages == []


def test_d10_an_event_loop_can_request(opened: Open) -> None:
    shelf = Shelf()
    request = asyncio.run(opened(shelf).request_async("a", 1, ref="r"))
    assert ([m.id for m in shelf.messages], request.ref) == ([request.id], "r")


# --- wiring -----------------------------------------------------------------------------------------


def test_handlers_come_from_plugins_configuration_and_caller(opened: Open) -> None:
    class Offering:
        @hookimpl
        def kessel_handlers(self) -> Any:
            return {"offered": len}

    config = Config(handlers={"renamed": "offered", "imported": "math:floor"})
    manager = opened(plugin=Offering(), config=config, handlers={"given": print})
    assert manager.registry.types() == ("given", "imported", "offered", "renamed")


def test_every_wrong_handler_is_listed_with_its_origin(opened: Open) -> None:
    config = Config(handlers={"a": "nowhere", "b": "math:nothing"})
    with pytest.raises(InvalidConfig) as caught:
        opened(config=config, handlers={"c": 5})
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert all(part in text for part in ("handlers.a", "math:nothing", "JobManager(handlers=...)"))


def test_an_unknown_middleware_is_refused_with_the_nearest_name(opened: Open) -> None:
    with pytest.raises(InvalidConfig, match="did you mean 'logging'"):
        opened(middleware=("loging",))


def test_a_job_can_be_run_without_a_queue(opened: Open) -> None:
    shelf, told = Shelf(), list[JobResult]()
    manager = opened(shelf, handlers={"a": lambda payload: payload})
    request = JobRequest(type="a", payload=7, delay=timedelta(hours=1), callback=told.append)
    result = manager.process_single_job(request)
    assert (result.value, told, shelf.messages) == (7, [result], [])


@pytest.mark.parametrize(
    ("error", "status"),
    [(ConnectionError(), Status.TRANSIENT), (Snooze(timedelta(hours=1)), Status.SNOOZED)],
    ids=["transient", "snooze"],
)
def test_what_would_be_tried_again_without_a_queue_is_the_result(
    opened: Open, error: Exception, status: Status
) -> None:
    def failing(payload: JsonValue) -> None:
        raise error

    manager, told = opened(handlers={"a": failing}), list[JobResult]()
    result = manager.process_single_job(JobRequest(type="a", id="i", callback=told.append))
    assert (result.status, told) == (status, [])
    assert not waiting(manager), "kept for ever, because it is not run again"


def test_a_job_without_a_queue_waits_for_no_delay_of_its_request_or_of_a_plugin(opened: Open) -> None:
    class Later:
        @hookimpl
        def kessel_prepare_request(self, request: JobRequest) -> JobRequest:
            return attrs.evolve(request, delay=timedelta(hours=1))

    for plugin in (None, Later()):
        manager = opened(plugin=plugin, handlers={"a": lambda payload: payload})
        for delay in (None, timedelta(hours=2)):
            assert manager.process_single_job(JobRequest(type="a", payload=1, delay=delay)).value == 1


def test_s15_a_job_without_a_queue_takes_no_function_of_a_job_with_its_id(opened: Open) -> None:
    def told_meanwhile(payload: JsonValue) -> JsonValue:
        if payload == "without":  # the other one comes to its end while this runs
            assert [result.value for result in run_until_idle(manager)] == ["queued"]
        return payload

    queued, without = list[JobResult](), list[JobResult]()
    manager = opened(clock=VirtualClock(), handlers={"a": told_meanwhile})
    manager.request(JobRequest(type="a", id="i", payload="queued", callback=queued.append))
    manager.process_single_job(JobRequest(type="a", id="i", payload="without", callback=without.append))
    assert [result.value for result in (*queued, *without)] == ["queued", "without"]
    assert not waiting(manager)


def test_s15_the_function_of_a_request_that_is_refused_gets_no_result_of_another(opened: Open) -> None:
    """S14: the job that holds the id may end while the second request is on its way."""
    manager = opened(clock=VirtualClock(), handlers={"a": lambda payload: payload})
    first, second = list[JobResult](), list[JobResult]()
    manager.request(JobRequest(type="a", id="i", payload=1, callback=first.append))
    adapter = manager.adapter
    enqueue = adapter.enqueue

    def late(message: Message) -> None:
        try:
            enqueue(message)
        finally:
            run_until_idle(manager)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter, "enqueue", late)
        with pytest.raises(IdHeld):
            manager.request(JobRequest(type="a", id="i", payload=2, callback=second.append))
    assert ([result.value for result in first], second, waiting(manager)) == ([1], [], [])


def test_s15_of_requests_that_are_refused_together_no_function_is_kept(opened: Open) -> None:
    manager = opened(Shelf(WIDE))
    wrong = [JobRequest(type="a", callback=print), JobRequest(type=" ", callback=print)]
    with pytest.raises(InvalidRequest):
        manager.request_many(wrong)
    assert not waiting(manager)


def test_s15_a_stored_job_says_that_a_function_waits_and_is_asked_for_again_without_it(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    manager, told = opened(clock=VirtualClock(), handlers={"a": lambda payload: payload}), list[JobResult]()
    job = manager.request("a", callback=told.append)
    assert job.callback is not None
    assert job.callback.startswith("function:")
    assert job.as_request().callback is None
    with pytest.raises(InvalidRequest, match="give the function itself"):
        manager.request("a", callback=job.callback)
    run_until_idle(manager)
    assert [result.request for result in told] == [job]
    assert caplog.text == ""


def test_a_job_without_a_queue_that_is_interrupted_leaves_nothing_behind(opened: Open) -> None:
    def interrupted(payload: JsonValue) -> None:
        raise KeyboardInterrupt

    manager = opened(handlers={"a": interrupted})
    with pytest.raises(KeyboardInterrupt):
        manager.process_single_job(JobRequest(type="a", id="i", callback=print))
    assert not waiting(manager)


# --- the worker -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"slots": 0}, "slots"),
        ({"slots": True}, "slots"),
        ({"queues": []}, "queues"),
        ({"queues": ["-"]}, "queues[0]"),
        ({"grace": timedelta(-1)}, "grace"),
    ],
)
def test_a_worker_that_cannot_work_is_refused(opened: Open, arguments: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        opened().worker(**arguments)
    assert [p.path for p in caught.value.problems] == [path]


def test_a_started_worker_runs_jobs_and_is_stopped_once(opened: Open) -> None:
    done = threading.Event()
    manager = opened(handlers={"a": lambda payload: done.set()})
    worker = manager.start(slots=2)
    with pytest.raises(KesselError, match="already"):
        manager.start()
    manager.request("a")
    assert done.wait(10)
    assert worker.health().slots == 2
    manager.stop()
    manager.stop()
    assert worker.counts == {"success": 1}
    assert not worker.health().running


class Held:
    """A handler that does not end before it is told to."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, payload: JsonValue) -> None:
        self.begun.set()
        self.go_on.wait(30)


def test_d9_a_second_stop_of_another_thread_waits_too_and_shortens_the_grace(opened: Open) -> None:
    """And no second worker starts beside the first before that has ended."""
    held = Held()
    manager = opened(handlers={"a": held})
    worker = manager.start(slots=1)
    manager.request("a")
    assert held.begun.wait(10)
    first = threading.Thread(target=manager.stop, args=(timedelta(hours=1),))
    first.start()
    until(lambda: worker.is_stopping)
    with pytest.raises(KesselError, match="already"):
        manager.start()
    manager.stop(timedelta(0))
    assert manager.adapter.stats("default").ready == 1, "it was given back, so the stop has waited for it"
    first.join(20)
    assert not first.is_alive()
    held.go_on.set()
    assert manager.start(slots=1).health().running


def test_d9_while_it_waits_a_stop_holds_no_lock_that_a_job_which_stops_needs(opened: Open) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def stops(payload: JsonValue) -> None:
        begun.set()
        assert go_on.wait(20)
        manager.stop()

    manager = opened(handlers={"a": stops})
    worker = manager.start(slots=1)
    manager.request("a")
    assert begun.wait(10)
    waiting = threading.Thread(target=manager.stop)
    waiting.start()
    until(lambda: worker.is_stopping)
    go_on.set()
    waiting.join(20)
    assert worker.counts == {"success": 1}


@pytest.mark.parametrize("who", ["a job", "its owner"])
def test_d9_another_worker_may_start_after_one_that_ended_by_itself(opened: Open, who: str) -> None:
    before = len(numbers())
    manager = opened(handlers={"a": lambda payload: manager.stop()})
    worker = manager.start(slots=1)
    if who == "a job":
        manager.request("a")
        until(lambda: worker.counts and not any(slot.thread.is_alive() for slot in worker._slots))
    else:
        worker.stop()
        worker.join()
    second = manager.start(slots=1)
    assert second.health().running
    manager.stop()
    assert not second.health().running
    assert len(numbers()) <= before, "the first one has left a descriptor open"


def test_d9_an_async_handler_is_cancelled_with_the_stop_that_gives_its_job_back(opened: Open) -> None:
    """Though the manager stays open: else it would run on beside the next delivery of its job."""
    begun, is_cancelled = threading.Event(), threading.Event()

    async def waits(payload: JsonValue) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    manager = opened(handlers={"a": waits})
    manager.request("a")
    worker = manager.start(slots=1)
    assert begun.wait(10)
    manager.stop(timedelta(0))
    assert is_cancelled.wait(20)
    assert manager.adapter.stats("default").ready == 1
    until(lambda: worker.counts == {"lost": 1})


def test_d9_a_grace_that_is_no_span_of_time_is_refused_before_anything_stops(opened: Open) -> None:
    manager = opened(handlers={"a": print})
    worker = manager.start(slots=1)
    with pytest.raises(TypeError, match="grace: expected a timedelta"):
        manager.stop(5)  # type: ignore[arg-type]
    assert worker.health().running
    manager.stop()
    assert worker.is_stopping


def test_draining_leaves_delayed_jobs(opened: Open) -> None:
    manager = opened(handlers={"a": print, "b": lambda payload: 1 // 0})
    manager.request_many([("a", 1), ("a", 2), ("b", 3)])
    manager.request("a", delay=timedelta(days=1))
    assert manager.worker(slots=1).drain() == {"failed": 1, "success": 2}
    assert manager.adapter.stats("default").delayed == 1


def test_d9_s21_a_job_that_does_not_end_in_time_is_given_back(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    running, go_on = threading.Event(), threading.Event()

    def stuck(payload: JsonValue) -> None:
        running.set()
        go_on.wait(30)

    manager = opened(handlers={"a": stuck})
    manager.request("a")
    worker = manager.start(slots=1)
    assert running.wait(10)
    assert worker.health().busy == 1
    manager.stop(timedelta(0))
    assert manager.adapter.stats("default").ready == 1
    assert "given back" in caplog.text
    go_on.set()


def test_d9_a_lost_queue_is_said_once_and_tried_again(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    class Coming(Shelf):
        asked = 0

        def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
            self.asked += 1
            if self.asked > 4:
                found.set()
            if self.asked == 3:  # the first was before the slot was started
                raise RuntimeError("a bug of the adapter")
            raise AdapterUnavailable("away")

    found = threading.Event()
    manager = opened(Coming())
    worker = manager.start(slots=1)
    assert found.wait(30)
    assert worker.health().disconnected == 1
    assert not worker.health().ok
    manager.stop(timedelta(0))
    said = [r for r in caplog.records if "not usable, trying again" in r.getMessage()]
    assert len(said) == 1


def test_s15_a_worker_tells_callbacks_of_its_process(opened: Open) -> None:
    clock, told = VirtualClock(), list[JobResult]()
    manager = opened(handlers={"a": lambda payload: payload}, clock=clock)
    manager.request_many([JobRequest(type="a", payload=n, callback=told.append) for n in range(3)])
    run_until_idle(manager)
    assert [result.value for result in told] == [0, 1, 2]

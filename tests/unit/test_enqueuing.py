"""The hook `kessel_enqueue_jobs` goes around calls that store jobs, and changes no outcome (D3, S14)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import attrs
import kessel_memory.plugin
import pytest
from kessel_memory.adapter import MemoryAdapter, MemoryOptions

from kessel_core import (
    AdapterUnavailable,
    Config,
    EnqueueIncomplete,
    EnqueueRejected,
    EnqueueUnknown,
    IdHeld,
    InvalidConfig,
    InvalidRequest,
    Job,
    JobContext,
    JobManager,
    JobRequest,
    JobResult,
    KesselError,
    LeaseLost,
    PluginError,
    Status,
    build_plugins,
    hookimpl,
)
from kessel_core.contract import AdapterContext, Browse, Message, need
from kessel_core.hooks import Middleware
from kessel_core.model.states import JobState
from kessel_core.testing import VirtualClock, run_delivery, run_until_idle

Wrapped = Generator[Any, Sequence[BaseException | None], Any]


class Around:
    """Notes what it sees; raises and yields what it is told to."""

    def __init__(
        self,
        name: str = "a",
        seen: list[Any] | None = None,
        *,
        headers: Any = None,
        before: BaseException | None = None,
        after: BaseException | None = None,
    ) -> None:
        self.name, self.seen = name, [] if seen is None else seen
        self.headers, self.before, self.after = headers, before, after

    @hookimpl(wrapper=True)
    def kessel_enqueue_jobs(self, jobs: Sequence[Job], result: JobResult | None) -> Wrapped:
        self.seen.append((f"+{self.name}", [job.type for job in jobs], result and result.id))
        if self.before is not None:
            raise self.before
        headers = self.headers
        if callable(headers):
            headers = headers(jobs)
        elif isinstance(headers, dict):
            headers = [headers] * len(jobs)
        try:
            outcomes = yield headers
        except BaseException as exc:
            self.seen.append((f"!{self.name}", exc))
            raise
        self.seen.append((f"-{self.name}", [*outcomes]))
        if self.after is not None:
            raise self.after


def open_with(adapter: Any, *wrappers: Around, **options: Any) -> JobManager:
    """Connect a manager whose middleware are these, outermost first."""

    class Plugin:
        @hookimpl
        def kessel_middleware(self) -> list[Middleware]:
            return [
                Middleware(name=one.name, factory=lambda one=one: one, for_requests=True) for one in wrappers
            ]

    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "own": Plugin()}, distributions=[])
    names = tuple(one.name for one in wrappers)
    if not isinstance(adapter, str):
        options["clock"] = adapter._store.clock
    return JobManager(adapter, plugins=plugins, middleware=names, **options).connect()


A = TypeVar("A", bound=MemoryAdapter)


def memory(kind: type[A] = MemoryAdapter, **options: Any) -> A:  # type: ignore[assignment]  # the default
    return kind(MemoryOptions(**options), AdapterContext(clock=VirtualClock()))


class Failing(MemoryAdapter):
    """Fails to store a job whose priority says so."""

    #: Called instead of storing.
    fails: Callable[[str], BaseException] | None = None

    def enqueue(self, message: Message) -> None:
        if self.fails is not None and message.priority == 1:
            raise self.fails(message.id)
        super().enqueue(message)

    def enqueue_many(self, messages: Sequence[Message]) -> list[Any]:
        outcomes: list[Any] = []
        for message in messages:
            try:
                self.enqueue(message)
                outcomes.append(None)
            except (AdapterUnavailable, EnqueueRejected, EnqueueUnknown) as exc:
                outcomes.append(exc)
        return outcomes


def stored(manager: JobManager) -> list[Job]:
    return [one.job() for one in need(manager.adapter, Browse).peek("default", JobState.READY, 100)]


def test_a_wrapper_is_told_that_a_requested_job_is_stored() -> None:
    around = Around()
    with open_with("memory://", around) as manager:
        manager.request("t")
        manager.request(JobRequest(type="u"))
    assert around.seen == [("+a", ["t"], None), ("-a", [None]), ("+a", ["u"], None), ("-a", [None])]


@pytest.mark.parametrize(
    "error",
    [
        lambda job_id: EnqueueRejected(job_id, "no", "invalid"),
        lambda job_id: EnqueueUnknown(job_id, "who knows"),
        lambda job_id: AdapterUnavailable("away"),
    ],
)
def test_s14_a_request_that_is_not_stored_is_told_with_its_error(error: Callable[[str], Exception]) -> None:
    around, adapter = Around(), memory(Failing)
    adapter.fails = error
    with open_with(adapter, around) as manager, pytest.raises(type(error("x"))) as caught:
        manager.request("t", priority=1)
    assert around.seen[1] == ("-a", [caught.value])


def test_s14_a_held_id_is_told_as_such() -> None:
    around = Around()
    with open_with("memory://", around) as manager:
        manager.request(JobRequest(type="t", id="x"))
        with pytest.raises(IdHeld) as caught:
            manager.request(JobRequest(type="t", id="x"))
    assert around.seen[-1] == ("-a", [caught.value])


def test_s14_of_many_each_outcome_is_told_in_order() -> None:
    around, adapter = Around(), memory(Failing)
    adapter.fails = lambda job_id: EnqueueRejected(job_id, "no", "invalid")
    with open_with(adapter, around) as manager, pytest.raises(EnqueueIncomplete) as caught:
        manager.request_many([JobRequest(type="t"), JobRequest(type="u", priority=1), JobRequest(type="v")])
    assert around.seen[0] == ("+a", ["t", "u", "v"], None)
    (rejected,) = caught.value.rejected.values()
    assert around.seen[1] == ("-a", [None, rejected, None])
    assert len(around.seen) == 2


@pytest.mark.parametrize("many", [False, True])
def test_what_is_no_answer_of_the_queue_is_raised_in_the_wrapper(many: bool) -> None:
    around, adapter = Around(), memory(Failing)
    adapter.fails = lambda job_id: KeyboardInterrupt()
    with open_with(adapter, around) as manager, pytest.raises(KeyboardInterrupt) as caught:
        if many:
            manager.request_many([JobRequest(type="t", priority=1)])
        else:
            manager.request("t", priority=1)
    assert around.seen[1] == ("!a", caught.value)


def test_s1_an_invalid_request_calls_no_wrapper_and_neither_does_none() -> None:
    around = Around()
    with open_with("memory://", around) as manager:
        with pytest.raises(InvalidRequest):
            manager.request(" ")
        with pytest.raises(InvalidRequest):
            manager.request_many(["a", " "])
        assert manager.request_many([]) == []
    assert around.seen == []


def test_wrappers_are_called_in_the_order_of_the_middleware_and_told_in_reverse() -> None:
    seen: list[Any] = []
    with open_with("memory://", Around("a", seen), Around("b", seen)) as manager:
        manager.request("t")
    assert [entry[0] for entry in seen] == ["+a", "+b", "-b", "-a"]


# --- headers -------------------------------------------------------------------------------------------


def test_headers_are_stored_returned_and_shown_to_inner_wrappers_and_watchers() -> None:
    shown: list[Any] = []
    outer = Around("a", headers={"x": "outer", "y": "outer"})
    inner = Around("b", headers=lambda jobs: shown.append(dict(jobs[0].headers)) or [{"y": "inner"}])
    with open_with("memory://", outer, inner) as manager:
        job = manager.request("t", headers={"x": "mine", "z": "mine"})
        assert stored(manager) == [job]
    assert shown == [{"x": "outer", "y": "outer", "z": "mine"}]
    assert dict(job.headers) == {"x": "outer", "y": "inner", "z": "mine"}


def test_headers_of_many_go_to_the_job_that_they_are_for() -> None:
    around = Around(headers=lambda jobs: [{"n": job.type} if job.type != "u" else {} for job in jobs])
    with open_with("memory://", around) as manager:
        jobs = manager.request_many(["t", "u", "v"])
        assert stored(manager) == jobs
    assert [dict(job.headers) for job in jobs] == [{"n": "t"}, {}, {"n": "v"}]


def test_s2_headers_that_make_a_job_too_large_are_left_out() -> None:
    around = Around(headers={"long": "x" * 1000})
    with open_with(memory(max_body_bytes=600), around, handlers={"u": lambda payload: None}) as manager:
        one = manager.request("t")
        (other,) = manager.request_many(["t"])
        assert stored(manager) == [one, other]
    assert dict(one.headers) == dict(other.headers) == {}
    assert [entry[0] for entry in around.seen] == ["+a", "-a"] * 2


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ([], "expected 1 mappings"),
        ([{"a": 1}], "expected text, got int"),
        ([{"a": "\ud800"}], "surrogate"),
        ([{1: "a"}], "expected text, got int"),
        (7, "wrong headers"),
        ({"tenant": "north"}, "expected a mapping for each job, got str"),
        ([["a"]], "expected a mapping for each job, got list"),
        ("a", "expected a mapping for each job, got str"),
        ([None], "expected a mapping for each job, got NoneType"),
    ],
)
def test_wrong_headers_name_the_plugin_and_nothing_is_stored(headers: Any, why: str) -> None:
    outer = Around("a")
    wrong = Around("b", headers=lambda jobs: headers)
    with open_with("memory://", outer, wrong) as manager:
        with pytest.raises(PluginError, match=r"middleware b.*kessel_enqueue_jobs") as caught:
            manager.request("t")
        assert why in str(caught.value)
        assert stored(manager) == []
        assert isinstance(wrong.seen[-1][1], GeneratorExit), "told at once, while the error is still there"
    assert outer.seen[-1] == ("!a", caught.value)


def test_s2_headers_that_just_fit_are_stored() -> None:
    with open_with("memory://") as manager:
        size = len(manager.message(JobRequest(type="t", headers={"long": "x" * 1000})).body)
    for limit, kept in ((size, ["long"]), (size - 1, [])):
        around = Around(headers={"long": "x" * 1000})
        with open_with(memory(max_body_bytes=limit), around) as manager:
            assert list(manager.request("t").headers) == kept


# --- wrappers that fail --------------------------------------------------------------------------------


def test_what_a_wrapper_raises_before_the_call_reaches_the_caller_and_nothing_is_stored() -> None:
    refused = KesselError("not that one")
    outer, inner = Around("a"), Around("b", before=refused)
    with open_with("memory://", outer, inner) as manager:
        for ask in (lambda: manager.request("t"), lambda: manager.request_many(["t", "u"])):
            with pytest.raises(KesselError) as caught:
                ask()
            assert caught.value is refused
            assert outer.seen[-1] == ("!a", refused)
        assert stored(manager) == []


def test_a_wrapper_that_does_not_yield_is_named() -> None:
    class Silent(Around):
        @hookimpl(wrapper=True)
        def kessel_enqueue_jobs(self) -> Wrapped:
            if self.name == "never":
                yield
            return None

    with open_with("memory://", Silent()) as manager, pytest.raises(PluginError, match="did not yield"):
        manager.request("t")


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit("broken")])
def test_s14_a_wrapper_that_fails_after_the_call_changes_no_outcome_and_is_logged(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    outer, adapter = Around("a"), memory(Failing)
    inner = Around("b", after=error)
    with open_with(adapter, outer, inner) as manager:
        job = manager.request("t")
        assert stored(manager) == [job]
        assert [one.type for one in manager.request_many(["u", "v"])] == ["u", "v"]
        adapter.fails = lambda job_id: EnqueueRejected(job_id, "no", "invalid")
        with pytest.raises(EnqueueRejected):
            manager.request("t", priority=1)
    assert [entry[0] for entry in outer.seen] == ["+a", "-a"] * 3
    assert caplog.text.count("plugin middleware b: kessel_enqueue_jobs failed after the call") == 3
    assert "broken" in caplog.text


def test_a_wrapper_that_yields_twice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Twice(Around):
        @hookimpl(wrapper=True)
        def kessel_enqueue_jobs(self) -> Wrapped:
            yield
            yield

    with open_with("memory://", Twice()) as manager:
        manager.request("t")
    assert "plugin middleware a: kessel_enqueue_jobs yielded twice" in caplog.text


def test_what_interrupts_the_call_is_raised_in_the_innermost_wrapper_first() -> None:
    seen: list[Any] = []
    adapter = memory(Failing)
    adapter.fails = lambda job_id: KeyboardInterrupt()
    with (
        open_with(adapter, Around("a", seen), Around("b", seen)) as manager,
        pytest.raises(KeyboardInterrupt),
    ):
        manager.request("t", priority=1)
    assert [entry[0] for entry in seen] == ["+a", "+b", "!b", "!a"]


def test_a_wrapper_that_makes_something_else_of_an_interruption_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Other(Around):
        @hookimpl(wrapper=True)
        def kessel_enqueue_jobs(self) -> Wrapped:
            try:
                yield
            finally:
                raise RuntimeError("broken")

    class Swallows(Around):
        @hookimpl(wrapper=True)
        def kessel_enqueue_jobs(self) -> Wrapped:
            try:
                yield
            except BaseException:
                return

    adapter, outer = memory(Failing), Around("o")
    adapter.fails = lambda job_id: KeyboardInterrupt()
    with (
        open_with(adapter, outer, Other("a"), Swallows("b"), Around("c")) as manager,
        pytest.raises(KeyboardInterrupt) as caught,
    ):
        manager.request("t", priority=1)
    assert outer.seen[-1] == ("!o", caught.value)
    assert caplog.text.count("kessel_enqueue_jobs failed after the call") == 1


# --- what a job brings along -----------------------------------------------------------------------------


def chained(adapter: Any, *wrappers: Around, **more: Any) -> tuple[JobManager, list[Any]]:
    """Open a manager with a job that asks for another one and has a callback job."""
    ran: list[Any] = []

    def first(payload: Any, job: JobContext) -> None:
        job.follow_up("second")

    def note(payload: Any, job: JobContext) -> None:
        ran.append((job.type, dict(job.headers)))

    handlers = {"first": first, "second": note, "told": note}
    return open_with(adapter, *wrappers, handlers=handlers, **more), ran


class Without(MemoryAdapter):
    """Cannot store follow-ups with the settlement."""

    @property
    def capabilities(self) -> Any:
        return attrs.evolve(super().capabilities, follow=False)


@pytest.mark.parametrize("adapter", [MemoryAdapter, Without])
def test_s20_follow_ups_and_callback_jobs_are_gone_around_with_the_result_that_brings_them(
    adapter: type[MemoryAdapter],
) -> None:
    around = Around(headers={"h": "v"})
    manager, ran = chained(memory(adapter), around)
    with manager:
        job = manager.request("first", callback="job:told")
        run_until_idle(manager)
    assert around.seen == [
        ("+a", ["first"], None),
        ("-a", [None]),
        ("+a", ["second", "told"], job.id),
        ("-a", [None, None]),
    ]
    assert sorted(ran) == [("second", {"h": "v"}), ("told", {"h": "v"})]


def test_s20_headers_that_make_a_follow_up_too_large_are_left_out_instead_of_burying_its_job() -> None:
    around = Around(headers={"long": "x" * 1000})
    manager, ran = chained(memory(max_body_bytes=900), around)
    with manager:
        manager.request("first", callback="job:told")
        results = run_until_idle(manager)
    assert {result.status for result in results} == {Status.SUCCESS}
    assert sorted(ran) == [("second", {}), ("told", {})]


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(3)])
@pytest.mark.parametrize("fails", ["before", "after", "headers"])
def test_s20_a_wrapper_that_fails_around_a_settlement_is_logged_and_the_job_ends(
    fails: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Around("b")
    outer = Around("a")
    manager, ran = chained(memory(), outer, broken)
    with manager:
        manager.request("first", callback="job:told")
        setattr(broken, fails, [] if fails == "headers" else error)
        results = run_until_idle(manager)
    assert [result.status for result in results] == [Status.SUCCESS] * 3
    assert len(ran) == 2
    assert outer.seen[-1] == ("-a", [None, None])
    assert caplog.text.count("plugin middleware b: kessel_enqueue_jobs failed") == 1


def test_s20_the_users_own_interrupt_in_a_wrapper_around_a_settlement_is_raised() -> None:
    around = Around()
    manager, _ = chained(memory(), around)
    with manager:
        manager.request("first")
        around.before = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            run_until_idle(manager)


@pytest.mark.parametrize("error", [EnqueueUnknown("a", "who knows"), InvalidRequest([]), None])
def test_s15_functions_of_jobs_that_were_never_passed_on_are_forgotten(error: Exception | None) -> None:
    """Whatever broke off while the jobs were made: nothing was stored, so none of them will ever end."""

    def requests() -> Iterator[JobRequest]:
        yield JobRequest(type="t", callback=print)
        if error is not None:
            raise error
        yield JobRequest(type="u", queue="", callback=print)

    with open_with(memory()) as manager:
        with pytest.raises(type(error) if error is not None else InvalidRequest):
            manager.request_many(requests())
        assert not manager._need().callbacks._functions


def test_s15_the_function_of_a_job_that_is_too_large_is_forgotten_with_those_beside_it() -> None:
    with open_with(memory(max_body_bytes=500)) as manager:
        wanted = [JobRequest(type="t", payload="x" * size, callback=print) for size in (1, 1000)]
        with pytest.raises(InvalidRequest, match="takes at most 500"):
            manager.request_many(wanted)
        assert not manager._need().callbacks._functions


def test_s15_a_function_waits_for_a_job_that_a_wrapper_goes_around() -> None:
    told: list[JobResult] = []
    adapter = memory(Failing)
    adapter.fails = lambda job_id: EnqueueRejected(job_id, "no", "invalid")
    with open_with(adapter, Around(), handlers={"t": lambda payload: 7}) as manager:
        with pytest.raises(EnqueueRejected):
            manager.request("t", priority=1, callback=told.append)
        assert not manager._need().callbacks._functions
        manager.request("t", callback=told.append)
        run_until_idle(manager)
    assert [result.value for result in told] == [7]


def test_s20_a_refused_follow_up_is_told_with_its_error() -> None:
    class Refusing(Without):
        def enqueue(self, message: Message) -> None:
            if b'"second"' in message.body:
                raise EnqueueRejected(message.id, "no", "invalid")
            super().enqueue(message)

    around = Around()
    manager, _ = chained(memory(Refusing), around)
    with manager:
        job = manager.request("first")
        (result,) = run_until_idle(manager)
    assert result.reason == "follow-up-refused"
    assert around.seen[2] == ("+a", ["second"], job.id)
    (error,) = around.seen[3][1]
    assert isinstance(error, EnqueueRejected)


def test_s7_what_follows_a_job_whose_lease_is_lost_is_told_as_unknown() -> None:
    class Losing(MemoryAdapter):
        def consumer(self, *args: Any, **options: Any) -> Any:
            consumer = super().consumer(*args, **options)

            def lost(*args: Any) -> None:
                raise LeaseLost("x", "lost")

            consumer.settle = lost  # type: ignore[method-assign]
            consumer.settle_and_reserve = lost  # type: ignore[method-assign,assignment]
            return consumer

    around = Around()
    manager, _ = chained(memory(Losing), around)
    with manager:
        manager.request("first")
        manager.process_single_job("first")
        consumer = manager.adapter.consumer(["default"])
        reservation = consumer.reserve(timedelta(0))
        assert reservation is not None
        run_delivery(manager, reservation, consumer)
        consumer.close()
    assert around.seen[3] == ("-a", [None]), "inline"
    (error,) = around.seen[5][1]
    assert isinstance(error, EnqueueUnknown)
    assert error.job_id != ""


def test_a_job_without_anything_that_follows_calls_no_wrapper_when_it_is_settled() -> None:
    around = Around()
    with open_with(memory(), around, handlers={"t": lambda payload: None}) as manager:
        manager.request("t")
        run_until_idle(manager)
    assert len(around.seen) == 2


# --- where it is used ------------------------------------------------------------------------------------


def test_a_process_that_only_requests_makes_middleware_for_requests_and_no_other() -> None:
    around, made = Around(), []

    class Plugin:
        @hookimpl
        def kessel_middleware(self) -> list[Middleware]:
            return [
                Middleware(name="a", factory=lambda: around, for_requests=True),
                Middleware(name="worker-only", factory=lambda: made.append("worker-only")),
            ]

    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "own": Plugin()}, distributions=[])
    names = ("nowhere", "worker-only", "a", "logging")
    with JobManager("memory://", plugins=plugins, middleware=names, only_requests=True) as manager:
        manager.request("t")
    assert around.seen == [("+a", ["t"], None), ("-a", [None])]
    assert made == []


def test_a_process_that_only_requests_reports_middleware_for_requests_that_two_offer() -> None:
    class Plugin:
        def __init__(self, for_requests: bool) -> None:
            self.for_requests = for_requests

        @hookimpl
        def kessel_middleware(self) -> list[Middleware]:
            return [Middleware(name="a", factory=Around, for_requests=self.for_requests)]

    extra = {"memory": kessel_memory.plugin, "one": Plugin(True), "two": Plugin(False)}
    plugins = build_plugins(extra=extra, distributions=[])
    with pytest.raises(InvalidConfig, match="one"):
        JobManager("memory://", plugins=plugins, middleware=("a",), only_requests=True).connect()
    with JobManager("memory://", plugins=plugins, middleware=("one/a",), only_requests=True) as manager:
        assert len(manager._need().producer._wrappers) == 1


@pytest.mark.parametrize("only_requests", [False, True])
def test_a_middleware_of_this_project_that_is_not_installed_is_named_with_its_distribution(
    only_requests: bool,
) -> None:
    plugins = build_plugins(extra={"memory": kessel_memory.plugin}, distributions=[])
    manager = JobManager("memory://", plugins=plugins, middleware=("otel",), only_requests=only_requests)
    with pytest.raises(InvalidConfig, match=r"otel.*pip install kessel-otel"):
        manager.connect()


def test_a_process_that_only_requests_reports_wrong_options_of_middleware_beside_a_wrong_address() -> None:
    class Plugin:
        @hookimpl
        def kessel_middleware(self) -> list[Middleware]:
            return [Middleware(name="a", factory=Around, for_requests=True)]

    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "own": Plugin()}, distributions=[])
    config = Config(middleware=("a",), middleware_options={"a": {"b": 1}, "other": {"c": 1}})
    with pytest.raises(InvalidConfig) as caught:
        JobManager("memroy://", plugins=plugins, config=config, only_requests=True).connect()
    assert [problem.where for problem in caught.value.problems] == [
        ("adapter",),
        ("middleware_options", "a", "b"),
    ]


def test_middleware_with_the_hook_that_is_not_for_requests_is_refused() -> None:
    class Plugin:
        @hookimpl
        def kessel_middleware(self) -> list[Middleware]:
            return [Middleware(name="a", factory=Around)]

    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "own": Plugin()}, distributions=[])
    with pytest.raises(InvalidConfig, match="for_requests=True"):
        JobManager("memory://", plugins=plugins, middleware=("a",)).connect()


def test_a_plugin_itself_may_go_around_inside_of_the_middleware() -> None:
    seen: list[Any] = []
    outer = Around("a", seen)

    class Plugin(Around):
        @hookimpl
        def kessel_middleware(self) -> list[Middleware]:
            return [Middleware(name="a", factory=lambda: outer, for_requests=True)]

    own = Plugin("own", seen)
    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "own": own}, distributions=[])
    with JobManager("memory://", plugins=plugins, middleware=("a",)) as manager:
        manager.request("t")
    assert [entry[0] for entry in seen] == ["+a", "+own", "-own", "-a"]


def test_an_implementation_that_is_no_wrapper_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    class Plain:
        @hookimpl
        def kessel_enqueue_jobs(self, jobs: Any) -> None:
            return None

    with caplog.at_level(logging.WARNING):
        plugins = build_plugins(extra={"plain": Plain()}, distributions=[])
    (status,) = [one for one in plugins.report if one.name == "plain"]
    assert "kessel_enqueue_jobs goes around a call, so it must be a wrapper" in str(status)

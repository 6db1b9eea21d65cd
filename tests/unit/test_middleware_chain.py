"""D2: middleware goes around each job in the configured order; each application has a chain of its own."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Generator, Iterable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import attrs
import kessel_memory.plugin
import pytest

from kessel_core import InvalidConfig, JobManager, JobResult, PluginError, Status, build_plugins, hookimpl
from kessel_core.features.retry import RetryPause
from kessel_core.hooks import Middleware
from kessel_core.model.retry import RetryPolicy
from kessel_core.plugins.chain import Chain, build_chain

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(**fields: Any) -> Any:
    clock = SimpleNamespace(now=lambda: NOW, monotonic=lambda: 1.0)
    request = SimpleNamespace(id="j1", type="t", ref=None)
    return SimpleNamespace(id="j1", type="t", attempt=3, queue="q", clock=clock, request=request, **fields)


def result(**fields: Any) -> JobResult:
    return JobResult(**{"id": "j1", "request": None, "status": Status.SUCCESS, **fields})


class Runner:
    """Stands for the core's own implementation."""

    def __init__(self) -> None:
        self.ran = 0

    @hookimpl(trylast=True)
    def kessel_execute_job(self, job: Any) -> JobResult:
        self.ran += 1
        return result()


class Around:
    """Notes when it is entered and left."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job: Any) -> Generator[None, JobResult, JobResult]:
        self.seen.append(f"+{self.name}")
        got = yield
        self.seen.append(f"-{self.name}")
        return got


class Offer:
    def __init__(self, offer: dict[str, Any]) -> None:
        self.offer = offer

    @hookimpl
    def kessel_middleware(self) -> Iterable[Middleware]:
        return [
            factory if isinstance(factory, Middleware) else Middleware(name=name, factory=factory)
            for name, factory in self.offer.items()
        ]


def chain_of(*order: str, options: Any = None, **offer: Any) -> tuple[Chain, Runner]:
    """Build a chain of these names out of what is offered, around a runner that counts."""
    plugins = build_plugins(extra={"mine": Offer(offer)}, distributions=[])
    runner = Runner()
    return build_chain(plugins, order, options, inner=[runner]), runner


def test_first_name_is_outermost_wherever_it_comes_from() -> None:
    seen: list[str] = []
    offer: dict[str, Any] = {n: lambda n=n: Around(n, seen) for n in "abc"}
    chain, _ = chain_of("b", "logging", "c", "a", **offer)
    chain.execute(job())
    links = chain.members
    assert seen == ["+b", "+c", "+a", "-a", "-c", "-b"]
    assert [link.name for link in links] == ["b", "logging", "c", "a"]
    assert links[0].origin == "mine (the application)"
    assert links[1].origin == "logging (kessel-core)"


def test_two_applications_on_one_set_of_plugins_have_each_their_own_chain() -> None:
    """What one application puts around its jobs is nothing to the other."""
    seen: list[str] = []
    offer: dict[str, Any] = {n: lambda n=n: Around(n, seen) for n in "ab"}
    plugins = build_plugins(extra={"mine": Offer(offer)}, distributions=[])
    before = plugins.objects()
    first = build_chain(plugins, ["a", "b"], inner=[Runner()])
    second = build_chain(plugins, ["b"], inner=[Runner()])
    second.execute(job())
    assert seen == ["+b", "-b"]
    seen.clear()
    first.execute(job())
    assert seen == ["+a", "+b", "-b", "-a"]
    assert plugins.objects() == before


def test_what_plugins_always_do_is_inside_of_the_configured_middleware() -> None:
    """D2: whatever they and the middleware are called."""
    seen: list[str] = []
    always = Around("always", seen)
    plugins = build_plugins(
        extra={"x": always, "mine": Offer({"x": lambda: Around("x", seen)})}, distributions=[]
    )
    chain = build_chain(plugins, ["x"], inner=[Runner()])
    assert chain.execute(job()).ok
    assert seen == ["+x", "+always", "-always", "-x"]
    assert [link.name for link in chain.members] == ["x"]


def test_x2_a_plugin_called_like_a_middleware_stays_registered_and_is_called() -> None:
    """Review X2: no name of a plugin means anything to the chain."""
    ended: list[str] = []

    class Audit:
        @hookimpl
        def kessel_job_finished(self, result: JobResult) -> None:
            ended.append(result.id)

    plugins = build_plugins(
        extra={"memory": kessel_memory.plugin, "middleware-audit": Audit()}, distributions=[]
    )
    with JobManager("memory://", handlers={"t": lambda payload: payload}, plugins=plugins) as manager:
        done = manager.process_single_job("t")
    assert ended == [done.id]
    assert "middleware-audit" in dict(plugins.objects())


def test_hook_of_a_middleware_that_no_chain_calls_is_refused() -> None:
    class Watching(Around):
        @hookimpl
        def kessel_job_finished(self, result: JobResult) -> None: ...

    with pytest.raises(InvalidConfig, match="let the plugin itself implement it"):
        chain_of("odd", odd=lambda: Watching("w", []))


@attrs.frozen
class PickyOptions:
    #: Most that is let through.
    most: int
    types: tuple[str, ...] = ()


def test_factory_gets_its_own_options_structured() -> None:
    """Text of a file or variable is read by the option's type, as an adapter's options are."""
    got: list[Any] = []

    def made(options: Any = None) -> Any:
        got.append(options)
        return Around("x", [])

    x = Middleware(name="x", factory=made, options=PickyOptions)
    other = Middleware(name="other", factory=made, options=PickyOptions)
    options = {"x": {"most": "3", "types": ["a"]}, "other": {"most": 9}}
    chain_of("x", "plain", options=options, x=x, other=other, plain=made)
    assert got == [PickyOptions(3, ("a",)), None]


def test_a_factory_that_ends_the_program_is_told_as_one_that_fails() -> None:
    with pytest.raises(InvalidConfig, match=r"'x' cannot be made: SystemExit: 0"):
        chain_of("x", x=lambda: sys.exit(0))


def test_mistakes_in_options_are_told_with_their_place_as_data() -> None:
    """Of every middleware alike, also of one that has no options."""
    picky = Middleware(name="picky", factory=print, options=PickyOptions)
    options = {"picky": {"most": "many", "moost": 1}, "plain": {"a": 1}, "logging": {"level": "loud"}}
    with pytest.raises(InvalidConfig) as caught:
        chain_of("picky", "plain", "logging", options=options, picky=picky, plain=lambda: Around("p", []))
    assert {problem.where for problem in caught.value.problems} == {
        ("middleware_options", "picky", "most"),
        ("middleware_options", "picky", "moost"),
        ("middleware_options", "plain", "a"),
        ("middleware_options", "logging", "level"),
    }
    with pytest.raises(InvalidConfig, match=r"middleware_options\.picky\.most: is required"):
        chain_of("picky", picky=picky)


def test_every_unknown_or_wrong_option_is_refused_also_of_the_built_in_ones() -> None:
    options = {"logging": {"level": "loud", "levle": "info"}, "loging": {"a": 1}}
    with pytest.raises(InvalidConfig) as caught:
        chain_of("logging", options=options)
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "middleware_options.logging.levle: unknown option" in text
    assert "middleware_options.logging.level: " in text
    assert "middleware_options.loging: no such middleware; did you mean 'logging'" in text


def test_level_of_the_logged_line_is_an_option(caplog: pytest.LogCaptureFixture) -> None:
    chain, _ = chain_of("logging", options={"logging": {"level": "debug"}})
    with caplog.at_level(logging.INFO, "kessel.jobs"):
        chain.execute(job())
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "kessel.jobs"):
        chain.execute(job())
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_all_mistakes_in_the_chain_are_one_error() -> None:
    def refuses() -> Any:
        raise ValueError("needs a level")

    with pytest.raises(InvalidConfig) as caught:
        chain_of("loging", "picky", "logging", "logging", picky=refuses)
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "did you mean 'logging'" in text
    assert "needs a level" in text
    assert "named twice" in text


@pytest.mark.parametrize(("thing", "said"), [(Around, "instance"), (object(), "implements no hook")])
def test_what_is_no_middleware_is_refused_with_its_owner(thing: object, said: str) -> None:
    with pytest.raises(InvalidConfig, match=rf"'odd' from mine \(the application\).*{said}"):
        chain_of("odd", odd=lambda: thing)


def test_plain_implementation_stops_the_job_and_outer_wrappers_see_its_result() -> None:
    class Stop:
        @hookimpl
        def kessel_execute_job(self, job: Any) -> JobResult:
            return result(message="stopped")

    seen: list[str] = []
    chain, runner = chain_of("around", "stop", stop=lambda: Stop(), around=lambda: Around("a", seen))
    assert chain.execute(job()).message == "stopped"
    assert (runner.ran, seen) == (0, ["+a", "-a"])


def test_exception_passes_through_each_wrapper_which_may_answer_or_raise_another() -> None:
    """D2: from the inside out, as `yield` raises it."""

    class Answers:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self) -> Generator[None, JobResult, JobResult]:
            try:
                return (yield)
            except LookupError as exc:
                return result(message=f"answered {exc}")

    class Renames:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: Any) -> Generator[None, JobResult, JobResult]:
            try:
                return (yield)
            except ValueError as exc:
                raise LookupError(str(exc)) from exc

    class Fails:
        @hookimpl
        def kessel_execute_job(self, job: Any) -> JobResult:
            raise ValueError(job.id)

    seen: list[str] = []
    offer: dict[str, Any] = {"answers": Answers, "renames": Renames, "fails": Fails}
    offer["around"] = lambda: Around("a", seen)
    chain, runner = chain_of("answers", "around", "renames", "fails", **offer)
    assert chain.execute(job()).message == "answered j1"
    assert (runner.ran, seen) == (0, ["+a"])
    chain, _ = chain_of("around", "renames", "fails", **offer)
    with pytest.raises(LookupError, match="j1"):
        chain.execute(job())


def test_what_ends_a_thread_is_seen_by_the_wrappers_as_well() -> None:
    """Ctrl-C and `sys.exit`: a wrapper that cleans up must not hear of it from the garbage collector."""
    seen: list[BaseException] = []

    class Looks:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: Any) -> Generator[None, JobResult, JobResult]:
            try:
                return (yield)
            except BaseException as exc:
                seen.append(exc)
                raise

    class Exits:
        @hookimpl
        def kessel_execute_job(self, job: Any) -> JobResult:
            raise SystemExit(job.id)

    chain, _ = chain_of("looks", "exits", looks=Looks, exits=Exits)
    with pytest.raises(SystemExit) as caught:
        chain.execute(job())
    assert seen == [caught.value]


def test_plain_implementation_without_an_answer_leaves_the_job_to_the_next() -> None:
    class Nothing:
        @hookimpl
        def kessel_execute_job(self) -> None: ...

    chain, runner = chain_of("nothing", nothing=Nothing)
    assert chain.execute(job()).ok
    assert runner.ran == 1
    plugins = build_plugins(extra={"mine": Offer({"nothing": Nothing})}, distributions=[])
    assert build_chain(plugins, ["nothing"]).execute(job()) is None


@pytest.mark.parametrize(
    ("yields", "fails", "said"),
    [(0, False, "did not yield"), (2, False, "yielded twice"), (2, True, "yielded twice")],
)
def test_wrapper_that_does_not_yield_once_is_named(yields: int, fails: bool, said: str) -> None:
    ended: list[str] = []

    class Odd:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: Any) -> Generator[None, JobResult, None]:
            try:
                for _ in range(yields):
                    with contextlib.suppress(ValueError):
                        yield
            finally:
                ended.append(job.id)

    class Fails:
        @hookimpl
        def kessel_execute_job(self, job: Any) -> JobResult | None:
            if fails:
                raise ValueError
            return None

    chain, runner = chain_of("odd", "fails", odd=Odd, fails=Fails)
    with pytest.raises(PluginError, match=f"'middleware odd' is not usable: .*{said}") as caught:
        chain.execute(job())
    assert caught.traceback  # which would keep the generator alive
    assert runner.ran == (1 if yields and not fails else 0)
    assert ended == ["j1"]


# --- logging -----------------------------------------------------------------------------------------


def test_logging_writes_one_line_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    chain, _ = chain_of("logging")
    with caplog.at_level(logging.INFO, "kessel.jobs"):
        chain.execute(job())
    (record,) = caplog.records
    fields = {
        name: getattr(record, name) for name in ("job_id", "job_type", "status", "attempt", "queue", "ms")
    }
    assert fields == {
        "job_id": "j1",
        "job_type": "t",
        "status": "success",
        "attempt": 3,
        "queue": "q",
        "ms": 0.0,
    }
    assert record.levelno == logging.INFO


def test_logging_that_is_off_does_not_even_read_the_clock(caplog: pytest.LogCaptureFixture) -> None:
    chain, runner = chain_of("logging")
    given = job()
    del given.clock
    with caplog.at_level(logging.WARNING, "kessel.jobs"):
        assert chain.execute(given).ok
    assert runner.ran == 1
    assert caplog.records == []


# --- retry (S11) ---------------------------------------------------------------------------------------


def test_retry_policy_answers_after_every_other_plugin() -> None:
    """S11: and without being named in the order."""

    class Fixed:
        @hookimpl
        def kessel_retry_pause(self, job: Any) -> timedelta | None:
            return timedelta(seconds=7) if job.attempt == 1 else None

    plugins = build_plugins(extra={"fixed": Fixed()}, distributions=[])
    policy = RetryPolicy(base=timedelta(seconds=2), cap=timedelta(seconds=2))
    pause = build_chain(plugins, inner=[RetryPause(policy)]).retry_pause
    first, third = job(), job()
    first.attempt = 1
    assert pause(job=first, result=None) == timedelta(seconds=7)
    assert timedelta(0) <= pause(job=third, result=None) <= timedelta(seconds=2)


def test_retries_are_set_in_one_section_only() -> None:
    """S11: the numbers of `jobs` are checked with the configuration; there is no second way past it."""
    with pytest.raises(InvalidConfig, match=r"middleware_options\.retry: .*jobs\.retry_base") as caught:
        chain_of(options={"retry": {"base": "5s"}})
    assert [problem.where for problem in caught.value.problems] == [("middleware_options", "retry")]
    with pytest.raises(InvalidConfig, match=r"'retry' is not a middleware; .*jobs\.retry_base"):
        chain_of("retry")


def test_built_in_plugin_that_is_disabled_stays_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    plugins = build_plugins(disabled=["logging"], distributions=[])
    assert ["is built in" in warning.message for warning in plugins.warnings] == [True]
    assert "'logging' is built in" in caplog.text

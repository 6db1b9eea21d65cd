"""D2: middleware goes around each job in the configured order; logging, expiry and retry are plugins."""

from __future__ import annotations

import logging
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from kessel_core import InvalidConfig, JobRequest, JobResult, Reason, Status, hookimpl
from kessel_core.plugins.registry import Plugins, build_plugins

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(**fields: Any) -> Any:
    clock = SimpleNamespace(now=lambda: NOW, monotonic=lambda: 1.0)
    request = SimpleNamespace(not_after=fields.pop("not_after", None))
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
    def kessel_middleware(self) -> dict[str, Any]:
        return self.offer


def built(**offer: Any) -> tuple[Plugins, Runner]:
    plugins = build_plugins(extra={"mine": Offer(offer)}, distributions=[])
    runner = Runner()
    plugins.manager.register(runner)
    return plugins, runner


def test_first_name_is_outermost_wherever_it_comes_from() -> None:
    seen: list[str] = []
    plugins, _ = built(**{n: lambda options, n=n: Around(n, seen) for n in "abc"})
    links = plugins.middleware(["b", "expiry", "c", "a"])
    plugins.manager.hook.kessel_execute_job(job=job())
    assert seen == ["+b", "+c", "+a", "-a", "-c", "-b"]
    assert [link.name for link in links] == ["b", "expiry", "c", "a"]
    assert links[0].origin == "mine (the application)"
    assert links[1].origin == "expiry (kessel-core)"


def test_last_order_holds_when_the_chain_is_made_again() -> None:
    seen: list[str] = []
    plugins, _ = built(**{n: lambda options, n=n: Around(n, seen) for n in "ab"})
    plugins.middleware(["a", "b"])
    plugins.middleware(["b"])
    plugins.manager.hook.kessel_execute_job(job=job())
    assert seen == ["+b", "-b"]


def test_factory_gets_its_own_options() -> None:
    got: list[Any] = []

    def made(options: Any) -> Any:
        got.append(options)
        return Around("x", [])

    plugins, _ = built(x=made, other=made)
    plugins.middleware(["x"], {"x": {"a": 1}, "other": {"b": 2}})
    assert got == [{"a": 1}]


def test_every_unknown_or_wrong_option_is_refused_also_of_the_built_in_ones() -> None:
    plugins, _ = built()
    options = {"logging": {"level": "loud", "levle": "info"}, "expiry": {"a": 1}, "expiri": {"a": 1}}
    with pytest.raises(InvalidConfig) as caught:
        plugins.middleware(["logging", "expiry"], options)
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "middleware_options.logging: levle: unknown option" in text
    assert "middleware_options.logging: level: " in text
    assert "middleware_options.expiry: a: unknown option" in text
    assert "middleware_options.expiri: no such middleware; did you mean 'expiry'" in text


def test_level_of_the_logged_line_is_an_option(caplog: pytest.LogCaptureFixture) -> None:
    plugins, _ = built()
    plugins.middleware(["logging"], {"logging": {"level": "debug"}})
    plugins.manager.register(Runner())
    with caplog.at_level(logging.INFO, "kessel.jobs"):
        plugins.manager.hook.kessel_execute_job(job=job())
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "kessel.jobs"):
        plugins.manager.hook.kessel_execute_job(job=job())
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_all_mistakes_in_the_chain_are_one_error() -> None:
    def refuses(options: Any) -> Any:
        raise ValueError("needs a level")

    plugins, _ = built(picky=refuses)
    with pytest.raises(InvalidConfig) as caught:
        plugins.middleware(["loging", "picky", "expiry", "expiry"])
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "did you mean 'logging'" in text
    assert "needs a level" in text
    assert "named twice" in text


@pytest.mark.parametrize(("thing", "said"), [(Around, "instance"), (object(), "implements no hook")])
def test_what_is_no_middleware_is_refused_with_its_owner(thing: object, said: str) -> None:
    plugins, _ = built(odd=lambda options: thing)
    with pytest.raises(InvalidConfig, match=rf"'odd' from mine \(the application\).*{said}"):
        plugins.middleware(["odd"])


def test_plain_implementation_stops_the_job_and_outer_wrappers_see_its_result() -> None:
    class Stop:
        @hookimpl
        def kessel_execute_job(self, job: Any) -> JobResult:
            return result(message="stopped")

    seen: list[str] = []
    plugins, runner = built(stop=lambda options: Stop(), around=lambda options: Around("a", seen))
    plugins.middleware(["around", "stop"])
    assert plugins.manager.hook.kessel_execute_job(job=job()).message == "stopped"
    assert (runner.ran, seen) == (0, ["+a", "-a"])


# --- expiry (S5) -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("not_after", "runs"),
    [(None, True), (NOW + timedelta(microseconds=1), True), (NOW, False), (NOW - timedelta(days=1), False)],
)
def test_expiry_stops_a_job_from_its_expiration_on(not_after: datetime | None, runs: bool) -> None:
    """S5: just before the handler."""
    plugins, runner = built()
    plugins.middleware(["expiry"])
    request = JobRequest(type="t", id="j1", expiration=not_after)
    given = job()
    given.request = request
    got = plugins.manager.hook.kessel_execute_job(job=given)
    assert runner.ran == runs
    if not runs:
        assert (got.status, got.reason, got.attempt) == (Status.FAILED, Reason.EXPIRED, 3)
        assert got.request is request


def test_expiry_looks_after_every_wrapper_was_entered() -> None:
    """S5: a wrapper inside of it may take long, too."""
    moment = [NOW - timedelta(seconds=1)]

    class Slow:
        @hookimpl(wrapper=True)
        def kessel_execute_job(self, job: Any) -> Generator[None, JobResult, JobResult]:
            moment[0] += timedelta(seconds=1)
            return (yield)

    plugins, runner = built(slow=lambda options: Slow())
    plugins.middleware(["expiry", "slow"])
    given = job(not_after=NOW)
    given.clock.now = lambda: moment[0]
    assert plugins.manager.hook.kessel_execute_job(job=given).reason is Reason.EXPIRED
    assert runner.ran == 0


# --- logging -----------------------------------------------------------------------------------------


def test_logging_writes_one_line_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    plugins, _ = built()
    plugins.middleware(["logging"])
    with caplog.at_level(logging.INFO, "kessel.jobs"):
        plugins.manager.hook.kessel_execute_job(job=job())
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
    plugins, runner = built()
    plugins.middleware(["logging"])
    given = job()
    del given.clock
    with caplog.at_level(logging.WARNING, "kessel.jobs"):
        assert plugins.manager.hook.kessel_execute_job(job=given).ok
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
    plugins.middleware([], {"retry": {"base": timedelta(seconds=2), "cap": timedelta(seconds=2)}})
    first, third = job(), job()
    first.attempt = 1
    pause = plugins.manager.hook.kessel_retry_pause
    assert pause(job=first, result=None) == timedelta(seconds=7)
    assert timedelta(0) <= pause(job=third, result=None) <= timedelta(seconds=2)


def test_wrong_retry_options_are_a_configuration_error() -> None:
    plugins, _ = built()
    with pytest.raises(InvalidConfig, match=r"middleware_options\.retry"):
        plugins.middleware([], {"retry": {"base": timedelta(seconds=9), "cap": timedelta(seconds=1)}})


def test_built_in_plugin_that_is_disabled_stays_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    plugins = build_plugins(disabled=["expiry"], distributions=[])
    assert ["is built in" in warning for s in plugins.report for warning in s.warnings] == [True]
    assert "'expiry' is built in" in caplog.text

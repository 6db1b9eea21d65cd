"""D1-D3: what plugins offer is collected with its owners; watchers are isolated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kessel_core import (
    AdapterUnavailable,
    ConfigError,
    InvalidConfig,
    PluginError,
    Problem,
    SystemClock,
    hookimpl,
)
from kessel_core.contract import AdapterContext, AdapterSpec
from kessel_core.plugins.chain import build_chain
from kessel_core.plugins.registry import Plugins, build_plugins
from kessel_core.plugins.watchers import watchers_of


@attrs.frozen
class Options:
    host: str = ""
    lease: int = 60


def spec(name: str, *schemes: str) -> AdapterSpec:
    def opened(options: Any, context: Any) -> Any:
        raise ModuleNotFoundError("no client library")

    return AdapterSpec(name=name, schemes=schemes, options=Options, open=opened)


class Adapters:
    def __init__(self, *specs: Any) -> None:
        self.specs = specs

    @hookimpl
    def kessel_adapters(self) -> Any:
        return self.specs


class Named:
    """Offers callbacks and middleware under one name."""

    def __init__(self, name: str, thing: Any) -> None:
        self.offer = {name: thing}

    @hookimpl
    def kessel_callbacks(self) -> Any:
        return self.offer

    @hookimpl
    def kessel_middleware(self) -> Any:
        return self.offer


def built(**extra: object) -> Plugins:
    return build_plugins(extra=extra, distributions=[])


def opened(plugins: Plugins, url: str, options: dict[str, Any] | None = None) -> Any:
    return plugins.adapter_for(url, options, context=AdapterContext(clock=SystemClock()))


@pytest.mark.parametrize(("first", "second"), [(spec("x"), spec("x")), (spec("x", "s"), spec("y", "s"))])
def test_adapter_claimed_twice_is_nobodys_and_both_are_named(first: AdapterSpec, second: AdapterSpec) -> None:
    """D4."""
    plugins = built(one=Adapters(first), two=Adapters(second), good=Adapters(spec("z", "z")))
    assert list(plugins.adapters()) == ["z"]
    assert list(plugins.adapters()) == ["z"], "asking again changes nothing"
    warned = {s.name: s.warnings for s in plugins.report if s.warnings}
    assert set(warned) == {"one", "two"}
    for texts in warned.values():
        assert len(texts) == 1
        assert "one (" in texts[0]
        assert "two (" in texts[0]


@pytest.mark.parametrize("url", ["x", "s://host"])
def test_opening_what_is_claimed_twice_says_so(url: str) -> None:
    plugins = built(one=Adapters(spec("x", "s")), two=Adapters(spec("x", "s")))
    with pytest.raises(InvalidConfig, match=r"claimed by one .* and by two"):
        opened(plugins, url)


@pytest.mark.parametrize("url", ["mon", "mon://host"])
def test_unknown_adapter_gets_the_nearest_name_and_the_broken_plugins(url: str) -> None:
    plugins = built(moon=Adapters(spec("moon", "moon")), bad=Adapters)
    with pytest.raises(InvalidConfig, match=r"did you mean 'moon'.*bad \(the application\)"):
        opened(plugins, url)


def test_all_wrong_options_of_an_adapter_are_one_error() -> None:
    plugins = built(moon=Adapters(spec("moon", "moon")))
    with pytest.raises(InvalidConfig) as caught:
        opened(plugins, "moon://host?leese=5&lease=long")
    text = str(caught.value)
    assert len(caught.value.problems) == 2
    assert "did you mean 'lease'" in text
    assert "'long'" in text


def test_option_in_url_and_table_is_refused() -> None:
    plugins = built(moon=Adapters(spec("moon", "moon")))
    with pytest.raises(InvalidConfig, match="also in the URL"):
        opened(plugins, "moon://host?lease=5", {"lease": 6})


def odd(**changes: Any) -> Plugins:
    return built(moon=Adapters(attrs.evolve(spec("moon", "moon"), **changes)))


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> Any:
        raise error

    return fail


def test_an_adapter_that_opens_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="opened a str, not a QueueAdapter"):
        opened(odd(open=lambda *_: "queue"), "moon")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("a bug"), PluginError),
        (ConfigError("as it is"), ConfigError),
        (InvalidConfig([Problem(("host",), "is wrong")]), InvalidConfig),
    ],
)
def test_an_adapter_that_cannot_read_its_url_is_named(error: Exception, told: type[Exception]) -> None:
    with pytest.raises(told, match=r"a bug|as it is|moon://h: adapter\.host: is wrong") as caught:
        odd(from_url=raising(error)).chosen_adapter("moon://h")
    assert type(caught.value) is told


def test_what_an_adapter_says_of_its_backend_is_passed_on() -> None:
    error = AdapterUnavailable("away")
    with pytest.raises(AdapterUnavailable) as caught:
        opened(odd(open=raising(error)), "moon")
    assert caught.value is error


def test_what_is_no_url_at_all_is_wrong_configuration() -> None:
    with pytest.raises(InvalidConfig, match="adapter: "):
        built().chosen_adapter("moon://[::1")


@pytest.mark.parametrize("name", ["jobs.db", "./jobs", "moon:", "c:jobs"])
def test_a_path_for_an_adapter_says_how_a_url_is_written(name: str) -> None:
    with pytest.raises(InvalidConfig, match=r"write a URL, as sqlite:///jobs\.db"):
        built(moon=Adapters(spec("moon", "moon"))).chosen_adapter(name)


def test_missing_client_library_is_an_error_of_that_plugin() -> None:
    with pytest.raises(PluginError, match="no client library"):
        opened(built(moon=Adapters(spec("moon", "moon"))), "moon://host")


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(2)])
def test_registration_hook_that_fails_is_left_out(error: BaseException) -> None:
    """D4."""

    class Bad:
        @hookimpl
        def kessel_adapters(self) -> Any:
            yield spec("half")
            raise error

    plugins = built(bad=Bad(), good=Adapters(spec("z")))
    assert list(plugins.adapters()) == ["z"]
    assert "kessel_adapters failed" in plugins.report[-2].warnings[0]


def test_what_is_no_adapter_spec_is_a_warning_once() -> None:
    plugins = built(odd=Adapters("text"))
    plugins.adapters()
    plugins.adapters()
    assert plugins.report[-1].warnings == ["kessel_adapters gave str, not an AdapterSpec"]


def test_callback_and_middleware_claimed_twice_are_nobodys() -> None:
    plugins = built(one=Named("x", print), two=Named("x", print))
    assert plugins.callbacks() == {}
    with pytest.raises(
        InvalidConfig, match=r"claimed by .*one .* and by .*two|claimed by .*two .* and by .*one"
    ):
        build_chain(plugins, ["x"])


def test_handlers_come_with_their_source() -> None:
    class Handlers:
        @hookimpl
        def kessel_handlers(self) -> Any:
            return {"t": print}

    assert built(mine=Handlers()).handlers() == [("plugin mine (the application)", {"t": print})]


# --- watchers ------------------------------------------------------------------------------------


def watcher(act: Callable[[Any], object]) -> object:
    class Watch:
        @hookimpl
        def kessel_job_settled(self, result: Any) -> None:
            act(result)

    return Watch()


def test_no_watcher_is_an_empty_tuple() -> None:
    assert watchers_of(built()).settled == ()


def test_watchers_get_only_what_they_want_and_each_is_called() -> None:
    seen: list[Any] = []

    class Nothing:
        @hookimpl
        def kessel_job_settled(self) -> None:
            seen.append("nothing")

    class Both:
        @hookimpl
        def kessel_job_settled(self, settlement: Any, result: Any) -> None:
            seen.append((settlement, result))

    for watch in watchers_of(built(a=Nothing(), b=watcher(seen.append), c=Both())).settled:
        watch(result=1, settlement=2)
    assert sorted(map(str, seen)) == ["(2, 1)", "1", "nothing"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)])
def test_watcher_that_raises_is_logged_by_name_and_stops_nobody(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """D3."""

    def bad(_: Any) -> None:
        raise error

    seen: list[Any] = []
    plugins = built(a=watcher(seen.append), guilty=watcher(bad), z=watcher(seen.append))
    with caplog.at_level(logging.ERROR, "kessel.plugins"):
        for watch in watchers_of(plugins).settled:
            watch(result="r", settlement=None)
    assert seen == ["r", "r"]
    (record,) = caplog.records
    assert "guilty (the application" in record.getMessage()
    assert "kessel_job_settled" in record.getMessage()
    assert record.exc_info is not None


def test_keyboard_interrupt_in_a_watcher_is_the_users() -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    (watch,) = watchers_of(built(a=watcher(interrupted))).settled
    with pytest.raises(KeyboardInterrupt):
        watch(result=None, settlement=None)

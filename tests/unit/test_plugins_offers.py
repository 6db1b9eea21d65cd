"""D1-D3: what plugins offer is collected with its owners; watchers are isolated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
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
    build_plugins,
    hookimpl,
)
from kessel_core.contract import AdapterContext, AdapterSpec
from kessel_core.errors import PluginClash
from kessel_core.hooks import Middleware, Section
from kessel_core.plugins.offers import gathered
from kessel_core.plugins.registry import Plugins
from kessel_core.plugins.status import PluginStatus
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


def built(**extra: object) -> Plugins:
    return build_plugins(extra=extra, distributions=[])


def opened(plugins: Plugins, url: str, options: dict[str, Any] | None = None) -> Any:
    return plugins.chosen_adapter(url, options).open(AdapterContext(clock=SystemClock()))


@pytest.mark.parametrize("url", ["x", "s://host"])
def test_adapter_that_two_plugins_offer_is_nobodys_and_both_are_named(url: str) -> None:
    """D4; what only one of them offers stays usable."""
    first, second = spec("x", "s", "a"), spec("x", "s", "b")
    plugins = built(one=Adapters(first), two=Adapters(second), good=Adapters(spec("z", "z")))
    assert {"a://", "b://", "z", "z://"} <= set(plugins.adapters().usable())
    with pytest.raises(InvalidConfig, match=r"offered by one \(.* and by two \(.*; disable one") as caught:
        opened(plugins, url)
    (clash,) = caught.value.problems
    assert isinstance(clash, PluginClash)
    assert (clash.where, clash.owners) == (("adapter",), ("one (the application)", "two (the application)"))


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
    with pytest.raises(InvalidConfig) as caught:
        opened(plugins, "moon://host?lease=long", {"lease": 6, "leese": 6})
    assert [str(problem).partition(",")[0] for problem in caught.value.problems] == [
        "adapter_options.lease: is also in the URL",
        "moon://host?lease=long: adapter.lease: expected a whole number",
        "adapter_options.leese: unknown option; did you mean 'lease'?",
    ]


def odd(**changes: Any) -> Plugins:
    return built(moon=Adapters(attrs.evolve(spec("moon", "moon"), **changes)))


def raising(error: BaseException) -> Callable[..., Any]:
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


@pytest.mark.parametrize("step", ["open", "from_url"])
def test_what_the_code_of_an_adapter_says_of_its_url_is_told_without_secrets(step: str) -> None:
    """Many client libraries repeat the URL that they were given (one rule for secrets, as finding D10)."""
    error = RuntimeError("cannot reach moon://me:hunter2@h?token=hunter2")
    with pytest.raises(PluginError, match=r"RuntimeError: cannot reach moon://\*\*\*@h") as caught:
        opened(odd(**{step: raising(error)}), "moon://h")
    assert "hunter2" not in str(caught.value)


def test_f65_an_adapter_whose_options_fail_in_their_own_way_is_named() -> None:
    @attrs.frozen
    class Failing:
        def __attrs_post_init__(self) -> None:
            raise LookupError("no moon://me:hunter2@h")

    with pytest.raises(
        PluginError, match=r"'moon'.*its options cannot be read: LookupError: no moon://\*\*\*@h"
    ):
        built(odd=Adapters(attrs.evolve(spec("moon", "moon"), options=Failing))).chosen_adapter("moon")


@pytest.mark.parametrize("step", ["open", "from_url"])
def test_an_adapter_whose_code_ends_the_program_is_told_as_one_that_fails(step: str) -> None:
    with pytest.raises(PluginError, match=r"'moon'.*SystemExit: 0"):
        opened(odd(**{step: raising(SystemExit(0))}), "moon://h")


@pytest.mark.parametrize("url", ["moon://h?lease=5", "MOON://h?lease=5", "Moon://h?lease=5"])
def test_the_scheme_of_a_url_may_be_written_in_capitals(url: str) -> None:
    """RFC 3986, 3.1: the case of a scheme does not count."""
    moon = built(moon=Adapters(spec("moon", "moon")))
    assert moon.chosen_adapter(url).options == Options(lease=5, host="h")


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


def test_a_scheme_with_a_dot_is_not_taken_for_a_path() -> None:
    with pytest.raises(InvalidConfig, match=r"no plugin opens 'mo\.on://'; did you mean 'moon'"):
        built(moon=Adapters(spec("moon", "moon"))).chosen_adapter("mo.on://h")


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
    assert plugins.adapters().names == ("z",)
    assert "kessel_adapters failed" in plugins.report[-2].warnings[0]


def test_what_is_no_adapter_spec_is_a_warning_once() -> None:
    plugins = built(odd=Adapters("text"))
    plugins.adapters()
    plugins.adapters()
    assert plugins.report[-1].warnings == ("kessel_adapters gave str, not an AdapterSpec",)


def test_what_is_wrong_with_a_plugin_is_told_once_however_many_applications_find_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each application that adds parts of its own asks the plugins again."""
    plugins = built(odd=Adapters("text"))
    owner = plugins.report[-1]
    for joined in (plugins, *(plugins.joined([(owner, object())]) for _ in range(2))):
        joined.adapters()
        assert joined.report[-1].warnings == ("kessel_adapters gave str, not an AdapterSpec",)
    assert [record.getMessage() for record in caplog.records] == [
        "plugin odd (the application): kessel_adapters gave str, not an AdapterSpec"
    ]


def test_d3_parts_that_are_joined_to_joined_plugins_are_called_beside_those_of_before() -> None:
    seen: list[Any] = []
    """Also of one owner; a plugin with a section may have the name of the part that writes histories."""
    plugins = built(own=Adapters())
    owner = plugins.report[-1]
    both = plugins.joined([(owner, watcher(seen.append))]).joined([(owner, watcher(seen.append))])
    for watch in watchers_of(both).settled:
        watch(result="r", settlement=None)
    assert seen == ["r", "r"]


class Callbacks:
    def __init__(self, function: Any) -> None:
        self.function = function

    @hookimpl
    def kessel_callbacks(self) -> Any:
        return {"x": self.function}


def test_callback_that_two_plugins_offer_is_settled_by_naming_the_owner(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plugins = built(one=Callbacks(print), two=Callbacks(repr))
    assert plugins.callbacks().usable() == {"one/x": print, "two/x": repr}
    assert "callback 'x' is offered by one (the application) and by two" in caplog.text
    assert 'ask for "one/x" or "two/x"' in caplog.text


def test_d4_an_owner_that_does_not_say_which_of_two_is_meant_is_no_way_to_write_a_callback() -> None:
    """Two plugins of one distribution: each is named by its own name, and not by the distribution's."""
    one, two = (PluginStatus(name=name, distribution="Acme_Tools", module="m") for name in ("one", "two"))
    offered = gathered("callback", [(one, {"x": print, "y": len}), (two, {"x": repr})])
    assert offered.usable() == {"one/x": print, "two/x": repr, "y": len}
    assert len(offered.of("Acme_Tools/x")) == len(offered.of("acme-tools/x")) == 2
    assert [offer.thing for offer in offered.of("acme-tools/y")] == [len]


def test_d4_a_type_that_looks_like_a_name_with_its_owner_is_what_it_says() -> None:
    one, two = (PluginStatus(name=name, distribution="d", module="m") for name in ("one", "two"))
    offered = gathered("handler", [(one, {"x": print}), (two, {"one/x": repr})])
    assert offered.usable() == {"x": print, "one/x": repr}


def test_what_two_plugins_offer_is_no_clash_if_it_is_the_very_same_thing() -> None:
    plugins = built(one=Callbacks(print), two=Callbacks(print))
    assert plugins.callbacks().usable() == {"x": print}
    assert plugins.clashes() == []


def test_each_plugin_is_asked_once_however_many_applications_there_are() -> None:
    class Counting:
        asked = 0

        @hookimpl
        def kessel_handlers(self) -> Any:
            self.asked += 1
            return {"t": print}

    counting = Counting()
    plugins = built(one=counting)
    assert plugins.handlers() is plugins.handlers()
    assert counting.asked == 1


@pytest.mark.parametrize(
    ("hook", "offer", "said"),
    [
        ("kessel_middleware", {"x": print}, "kessel_middleware gave str, not a Middleware"),
        (
            "kessel_middleware",
            [Middleware(name="m", factory=print, options=int)],
            "the options of 'm' must be an attrs class, got <class 'int'>",
        ),
        ("kessel_sections", [Section(name="s", factory=print, options=dict)], "must be an attrs class"),
        (
            "kessel_adapters",
            [AdapterSpec(name="a", schemes=("a",), options=dict, open=print)],
            "the options of 'a' must be an attrs class",
        ),
        ("kessel_callbacks", [print], "not a mapping scheme -> function"),
        ("kessel_callbacks", {"x": 3}, "not a scheme and a function"),
        ("kessel_handlers", {3: print}, "expected text that is not blank"),
        ("kessel_handlers", {" ": print}, "expected text that is not blank"),
        ("kessel_handlers", [print], "has no type: decorate it"),
        ("kessel_handlers", 3, "kessel_handlers failed: TypeError"),
    ],
)
def test_what_a_hook_does_not_ask_for_is_told_with_its_plugin(hook: str, offer: Any, said: str) -> None:
    odd = SimpleNamespace(**{hook: hookimpl(lambda: offer)})
    plugins = built(odd=odd)
    plugins.clashes()
    (warning,) = plugins.report[-1].warnings
    assert said in warning


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

"""What the configuration says wins over what plugins offer; what it leaves open is one clear error."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import kessel_memory.plugin
import pytest

from kessel_core import Config, InvalidConfig, JobManager, build_plugins, hookimpl
from kessel_core.errors import PluginClash
from kessel_core.hooks import Middleware
from kessel_core.plugins.chain import Chain, build_chain
from kessel_core.plugins.registry import Plugins


@attrs.define(eq=False)
class Team:
    """A plugin that offers a handler for `charge`, and a middleware `audit`, each answering with its name."""

    name: str
    types: tuple[str, ...] = ("charge",)

    def charge(self, payload: object) -> str:
        return self.name

    @hookimpl
    def kessel_handlers(self) -> Any:
        return dict.fromkeys(self.types, self.charge)

    @hookimpl
    def kessel_middleware(self) -> Any:
        return [Middleware(name="audit", factory=lambda options: Audit(self.name), options=AuditOptions)]


@attrs.frozen
class AuditOptions:
    level: int = 1


@attrs.define(eq=False)
class Audit:
    name: str

    @hookimpl
    def kessel_retry_pause(self, job: Any, result: Any) -> Any:
        return self.name


def two_teams(**types: tuple[str, ...]) -> Plugins:
    extra = {name: Team(name, types.get(name, ("charge",))) for name in ("acme", "zeta")}
    return build_plugins(extra={"memory": kessel_memory.plugin, **extra}, distributions=[])


def answer(plugins: Plugins, configured: dict[str, str] | None = None, given: Any = None) -> object:
    config = Config(adapter="memory://", handlers=configured or {}, middleware=())
    with JobManager(config=config, handlers=given, plugins=plugins) as manager:
        return manager.process_single_job("charge").value


# --- handlers --------------------------------------------------------------------------------


def test_handlers_of_two_teams_for_one_type_are_one_error_that_says_how_to_settle_it() -> None:
    with pytest.raises(InvalidConfig) as caught:
        answer(two_teams())
    (clash,) = caught.value.problems
    assert isinstance(clash, PluginClash)
    assert clash.where == ("handlers", "charge")
    assert clash.owners == ("acme (the application)", "zeta (the application)")
    assert str(clash) == (
        "handlers.charge: handler 'charge' is offered by "
        "acme (the application) and by zeta (the application); "
        'write in [kessel.handlers] charge = "acme/charge" or charge = "zeta/charge"'
    )


@pytest.mark.parametrize("team", ["acme", "zeta"])
def test_configuration_settles_a_clash_of_handlers_by_naming_the_owner(team: str) -> None:
    assert answer(two_teams(), {"charge": f"{team}/charge"}) == team


def test_configuration_names_the_owner_of_a_type_with_a_colon() -> None:
    plugins = two_teams(acme=("charge:now",), zeta=("charge:now",))
    named = {"charge": "acme/charge:now", "charge:now": "zeta/charge:now"}
    assert answer(plugins, named) == "acme"


def test_configuration_settles_a_clash_of_handlers_by_a_handler_of_its_own() -> None:
    assert answer(two_teams(), {"charge": f"{__name__}:of_the_configuration"}) == "configuration"


def test_a_clash_that_the_configuration_settles_by_a_mistake_is_told_as_the_mistake_alone() -> None:
    with pytest.raises(InvalidConfig) as caught:
        answer(two_teams(), {"charge": f"{__name__}:missing"})
    assert [problem.path for problem in caught.value.problems] == ["handlers.charge"]
    assert "missing" in str(caught.value)
    assert "offered by" not in str(caught.value)


def of_the_configuration(payload: object) -> str:
    return "configuration"


def test_what_the_application_maps_goes_before_what_plugins_offer(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "kessel.plugins"):
        assert answer(two_teams(zeta=()), given={"charge": lambda payload: "mine"}) == "mine"
    assert "handler 'charge': JobManager(handlers=...) goes before plugin acme" in caplog.text


def test_two_sources_of_the_application_that_map_one_type_clash() -> None:
    with pytest.raises(InvalidConfig, match="is mapped by the configuration and again by JobManager"):
        answer(two_teams(), {"charge": "acme/charge"}, {"charge": lambda payload: "mine"})


def test_the_very_same_handler_from_a_plugin_and_from_the_application_is_no_conflict() -> None:
    plugins = two_teams(zeta=())
    acme: Any = dict(plugins.objects())["acme"]
    assert answer(plugins, {"charge": "acme/charge"}, {"charge": acme.charge}) == "acme"


def test_a_type_mapped_to_what_two_plugins_offer_says_what_to_write_there() -> None:
    with pytest.raises(InvalidConfig) as caught:
        answer(two_teams(), {"charge": "acme/charge", "more": "charge"})
    (clash,) = caught.value.problems
    assert clash.where == ("handlers", "more")
    assert "write 'acme/charge' or 'zeta/charge' there" in str(clash)


def test_one_plugin_that_offers_a_type_twice_is_told_how_to_settle_it() -> None:
    class Twice:
        @hookimpl
        def kessel_handlers(self) -> Any:
            return {"charge": print, " charge": repr}

    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "twice": Twice()}, distributions=[])
    with pytest.raises(
        InvalidConfig, match=r"by twice \(the application\) more than once; .*module:attribute"
    ):
        answer(plugins)


def test_a_type_that_is_no_bare_key_is_quoted_in_the_line_that_settles_it() -> None:
    with pytest.raises(InvalidConfig, match=r'"bill\.charge" = "acme/bill\.charge"'):
        answer(two_teams(acme=("bill.charge",), zeta=("bill.charge",)))


# --- middleware ------------------------------------------------------------------------------


def chain(*order: str, options: Any = None) -> Chain:
    return build_chain(two_teams(), order, options)


def test_middleware_of_two_teams_of_one_name_is_one_error_that_names_both() -> None:
    with pytest.raises(InvalidConfig) as caught:
        chain("audit")
    (clash,) = caught.value.problems
    assert isinstance(clash, PluginClash)
    assert clash.where == ("middleware",)
    assert (
        "is offered by acme (the application) and by zeta (the application); write in `middleware` "
        in str(clash)
    )
    assert clash.advice == 'write in `middleware` "acme/audit" or "zeta/audit"'


def test_one_plugin_that_offers_a_middleware_twice_is_not_to_be_settled_by_its_name() -> None:
    """`twice/audit` would mean both again, and be told in the same words."""

    class Twice:
        @hookimpl
        def kessel_middleware(self) -> list[Middleware]:
            return [Middleware(name="audit", factory=lambda: None), Middleware(name="audit", factory=object)]

    plugins = build_plugins(extra={"twice": Twice()}, distributions=[])
    with pytest.raises(InvalidConfig, match=r"'audit' is offered by .* more than once; tell its author"):
        build_chain(plugins, ["audit"])


def test_configuration_settles_a_clash_of_middleware_by_naming_the_owner() -> None:
    found = chain("zeta/audit", "acme/audit")
    assert [link.name for link in found.members] == ["zeta/audit", "acme/audit"]
    assert found.retry_pause(job=None, result=None) == "zeta"


def test_options_stand_under_the_name_that_the_order_uses() -> None:
    with pytest.raises(InvalidConfig) as caught:
        chain("acme/audit", options={"acme/audit": {"level": "high"}})
    assert caught.value.problems[0].where == ("middleware_options", "acme/audit", "level")
    with pytest.raises(InvalidConfig, match="`middleware` calls it 'acme/audit': write it so here, too"):
        chain("acme/audit", options={"audit": {"level": 2}})


def test_one_middleware_that_is_named_in_two_ways_is_named_twice() -> None:
    with pytest.raises(InvalidConfig, match="named twice"):
        build_chain(two_teams(), ["logging", "kessel-core/logging"])


# --- who only requests -----------------------------------------------------------------------


@pytest.mark.parametrize("middleware", [("no-such-middleware",), ("audit",)])
def test_a_producer_needs_neither_handlers_nor_middleware_of_the_workers(middleware: tuple[str, ...]) -> None:
    config = Config(
        adapter="memory://",
        handlers={"charge": "no_such_module:charge"},
        middleware=middleware,
        middleware_options={"no-such-middleware": {"level": 3}},
    )
    with JobManager(config=config, plugins=two_teams(), only_requests=True) as manager:
        assert manager.request("charge").type == "charge"

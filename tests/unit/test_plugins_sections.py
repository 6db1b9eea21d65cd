"""Sections of plugins: `[kessel.NAME]`, checked whole at start, and made anew for each application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import kessel_memory.plugin
import pytest

from kessel_core import (
    Config,
    InvalidConfig,
    JobManager,
    JobResult,
    KesselError,
    Problem,
    Transient,
    build_plugins,
    hookimpl,
    load_config,
)
from kessel_core.hooks import Section, SectionContext
from kessel_core.testing import VirtualClock, run_until_idle


def _short(instance: object, attribute: object, value: tuple[str, ...]) -> None:
    wrong = [Problem((n,), "is too short") for n, text in enumerate(value) if len(text) < 3]
    if wrong:
        raise InvalidConfig([problem.under("secrets") for problem in wrong])


@attrs.frozen
class Harbour:
    depth: int
    secrets: tuple[str, ...] = attrs.field(default=(), validator=_short)
    beds: Mapping[str, int] = attrs.field(factory=dict)


@attrs.frozen
class TideOptions:
    step: timedelta = timedelta(hours=6)
    main: Harbour = Harbour(depth=10)
    harbours: Mapping[str, Harbour] = attrs.field(factory=dict)


class Tide:
    """What the section makes: a handler, a retry policy, a watcher."""

    def __init__(self, options: TideOptions, context: SectionContext) -> None:
        self.options, self.context = options, context
        self.finished: list[str] = []

    @hookimpl
    def kessel_handlers(self) -> dict[str, object]:
        return {"tide.read": self.read, "tide.fail": self.fail}

    @hookimpl
    def kessel_retry_pause(self, job: Any) -> timedelta | None:
        return self.options.step if job.type == "tide.fail" else None

    @hookimpl
    def kessel_job_finished(self, result: JobResult) -> None:
        self.finished.append(result.id)

    def read(self, payload: Any) -> Any:
        return self.options.main.depth

    def fail(self, payload: Any) -> Any:
        raise Transient("too low")


class Offer:
    """A plugin with sections."""

    def __init__(self, *sections: object) -> None:
        self.sections = sections

    @hookimpl
    def kessel_sections(self) -> list[object]:
        return list(self.sections)


TIDE = Section(name="tide", options=TideOptions, factory=Tide)


def manager(*plugins: object, sections: Any = None, **more: Any) -> JobManager:
    extra = {"memory": kessel_memory.plugin} | {f"own{n}": plugin for n, plugin in enumerate(plugins)}
    config = Config(sections=sections or {})
    built = build_plugins(extra=extra, distributions=[])
    return JobManager("memory://", **{"plugins": built, "config": config, **more})


def mistakes(*plugins: object, sections: Any = None, **more: Any) -> dict[str, str]:
    """Path -> message of what is wrong at connect."""
    with pytest.raises(InvalidConfig) as error:
        manager(*plugins, sections=sections, **more).connect()
    return {problem.path: problem.message for problem in error.value.problems}


# --- what a section makes ---------------------------------------------------------------------------------


def test_the_handlers_of_a_section_run_with_its_options() -> None:
    with manager(Offer(TIDE), sections={"tide": {"main": {"depth": 7}}}) as opened:
        assert opened.process_single_job("tide.read").value == 7


def test_a_section_whose_options_have_defaults_is_made_without_a_table() -> None:
    with manager(Offer(TIDE)) as opened:
        assert opened.process_single_job("tide.read").value == 10


def test_a_section_that_needs_an_option_counts_only_where_it_is_configured() -> None:
    deep = Section(name="deep", options=Harbour, factory=lambda options, context: options)
    with manager(Offer(deep)):
        pass
    with manager(Offer(deep), sections={"deep": {"depth": 3}}) as opened:
        assert opened.section("deep") == Harbour(depth=3)
    assert mistakes(Offer(deep), sections={"deep": {}}) == {"sections.deep.depth": "is required"}


def test_a_section_whose_options_make_something_of_themselves_needs_no_table() -> None:
    @attrs.frozen
    class Derived:
        name: str = "tide"
        title: str = attrs.field(init=False)

        def __attrs_post_init__(self) -> None:
            object.__setattr__(self, "title", self.name.title())

    made: list[Any] = []
    with manager(
        Offer(Section(name="own", options=Derived, factory=lambda options, _: made.append(options)))
    ):
        assert [options.title for options in made] == ["Tide"]


def test_policy_and_watcher_of_a_section_are_called() -> None:
    clock = VirtualClock()
    with manager(Offer(TIDE), sections={"tide": {"step": "90m"}}, clock=clock) as opened:
        start = clock.now()
        opened.request("tide.fail")
        results = run_until_idle(opened, limit=timedelta(days=2))
        assert clock.now() - start == 9 * timedelta(minutes=90)
        tide = opened.section("tide")
    assert isinstance(tide, Tide)
    assert tide.finished == [results[-1].id]
    assert tide.context.clock is clock


def test_a_section_gets_the_store_of_its_application_when_it_is_open() -> None:
    seen: list[object] = []

    def early(options: object, context: SectionContext) -> None:
        with pytest.raises(KesselError, match="not open yet"):
            context.store()

    with manager(Offer(attrs.evolve(TIDE, factory=early))):
        pass
    with manager(Offer(TIDE)) as opened:
        tide = opened.section("tide")
        assert isinstance(tide, Tide)
        seen.append(tide.context.store())
        assert seen == [opened.store]


def test_each_application_has_its_own_section_of_the_same_plugins() -> None:
    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "own": Offer(TIDE)}, distributions=[])
    one = manager(plugins=plugins, sections={"tide": {"main": {"depth": 1}}})
    two = manager(plugins=plugins, sections={"tide": {"main": {"depth": 2}}})
    with one, two:
        assert [each.process_single_job("tide.read").value for each in (one, two)] == [1, 2]
        assert one.section("tide") is not two.section("tide")
        assert one.section("tide") is one.section("tide")
    assert plugins.handlers().names == ()


def test_an_application_that_connects_again_has_a_new_section() -> None:
    opened = manager(Offer(TIDE))
    with opened:
        first = opened.section("tide")
    with opened:
        assert opened.section("tide") is not first


def test_a_process_that_only_requests_makes_a_section_when_it_is_asked_for() -> None:
    made: list[SectionContext] = []
    tide = Section(name="tide", options=TideOptions, factory=lambda options, context: made.append(context))
    wrong = {"tide": {}, "foo": {"a": 1}}
    with manager(Offer(tide), sections=wrong, only_requests=True) as opened:
        assert made == []
        opened.section("tide")
        assert [context.runs_jobs for context in made] == [False]
    with manager(Offer(tide)):
        assert [context.runs_jobs for context in made] == [False, True]


def test_asking_for_an_unknown_section_says_which_there_are() -> None:
    with (
        manager(Offer(TIDE)) as opened,
        pytest.raises(KesselError, match=r"no plugin has a section .tid..*tide"),
    ):
        opened.section("tid")


# --- what is wrong ----------------------------------------------------------------------------------------


def test_every_mistake_in_every_table_is_listed_beside_those_of_handlers_and_middleware() -> None:
    found = mistakes(
        Offer(TIDE),
        sections={
            "tide": {
                "stepp": "1h",
                "main": {"depth": "deep", "colour": "red"},
                "harbours": {"north": {"depht": 3}, "south": {"depth": "x", "secrets": ["ab"]}, "west": 5},
            }
        },
        handlers={"x": 3},
        middleware=["nothing"],
    )
    assert found == {
        "sections.tide.stepp": "unknown option; did you mean 'step'?",
        "sections.tide.main.depth": "expected a whole number, got 'deep'",
        "sections.tide.main.colour": "unknown option; known: beds, depth, secrets",
        "sections.tide.harbours.north.depht": "unknown option; did you mean 'depth'?",
        "sections.tide.harbours.north.depth": "is required",
        "sections.tide.harbours.south.depth": "expected a whole number, got 'x'",
        "sections.tide.harbours.south.secrets[0]": "is too short",
        "sections.tide.harbours.west": "expected a table, got int",
        "handlers.x": found["handlers.x"],
        "middleware": found["middleware"],
    }


@pytest.mark.parametrize("wrong", [7, ["long enough", 7], {"a": "hush-hush"}, [["hush-hush"]]])
def test_the_value_of_a_secret_inside_a_table_is_in_no_message(wrong: Any) -> None:
    found = mistakes(Offer(TIDE), sections={"tide": {"harbours": {"north": {"depth": 1, "secrets": wrong}}}})
    assert len(found) == 1
    assert all("hush" not in text and "7" not in text for text in found.values())


def test_a_table_that_no_plugin_reads_names_those_that_there_are() -> None:
    assert mistakes(Offer(TIDE), sections={"tyde": {}})["sections.tyde"] == (
        "no plugin has this section; did you mean 'tide'?"
    )
    assert mistakes(sections={"moon": {}}) == {"sections.moon": "no plugin has this section"}


def test_a_table_of_a_plugin_that_is_not_installed_says_what_to_install() -> None:
    assert mistakes(sections={"http": {}})["sections.http"].endswith("run: pip install kessel-http")
    assert mistakes(sections={"wokrer": {}})["sections.wokrer"].endswith("did you mean 'worker'?")


def test_two_plugins_with_the_same_section_are_both_named() -> None:
    other = Section(name="tide", options=TideOptions, factory=print)
    found = mistakes(Offer(TIDE), Offer(other))
    assert "offered by own0" in found["sections.tide"]
    assert "own1" in found["sections.tide"]


def test_a_section_must_not_have_the_name_of_an_option_of_kessel() -> None:
    assert "'worker' from own0" in mistakes(Offer(attrs.evolve(TIDE, name="worker")))["sections"]


def _raise(error: BaseException) -> Callable[..., object]:
    def factory(options: object, context: object) -> object:
        raise error

    return factory


@pytest.mark.parametrize(
    ("factory", "expected"),
    [
        (_raise(ValueError("no water")), {"sections.tide": "cannot be made: ValueError: no water"}),
        (_raise(OSError("no water")), {"sections.tide": "cannot be made: OSError: no water"}),
        (_raise(SystemExit(0)), {"sections.tide": "cannot be made: SystemExit: 0"}),
        (
            _raise(InvalidConfig([Problem(("step",), "too long"), Problem((), "bad")])),
            {"sections.tide.step": "too long", "sections.tide": "bad"},
        ),
        (
            lambda options, context: Offer(),
            {
                "sections.tide": "from own0 (the application): "
                "a section has no kessel_sections: let the plugin itself implement it"
            },
        ),
    ],
)
def test_a_section_that_cannot_be_made_is_a_mistake_of_the_configuration(
    factory: Any, expected: dict[str, str]
) -> None:
    assert mistakes(Offer(attrs.evolve(TIDE, factory=factory))) == expected


def test_f65_a_section_whose_options_fail_in_their_own_way_is_one_mistake() -> None:
    """Also where nobody has configured it: every application with that plugin ended with a traceback."""

    @attrs.frozen
    class Failing:
        step: int = 1

        def __attrs_post_init__(self) -> None:
            raise LookupError("no tide")

    offer = Offer(attrs.evolve(TIDE, options=Failing))
    for sections in ({}, {"tide": {"step": 2}}):
        found = mistakes(offer, sections=sections)
        assert found == {"sections.tide": "cannot be made: LookupError: no tide"}


def test_a_misspelt_hook_of_a_section_is_named() -> None:
    class Misspelt:
        @hookimpl
        def kessel_handlerz(self) -> None: ...

    made = attrs.evolve(TIDE, factory=lambda options, context: Misspelt())
    assert "kessel_handlerz" in mistakes(Offer(made))["sections.tide"]


def test_what_is_no_section_is_a_remark_on_its_plugin() -> None:
    with manager(Offer(TIDE, "tide")) as opened:
        (status,) = [status for status in opened.plugins.report if status.name == "own0"]
    assert status.warnings == ("kessel_sections gave str, not a Section",)


# --- where it is written ----------------------------------------------------------------------------------


def loaded(tmp_path: Path, text: str, **environ: str) -> Any:
    (tmp_path / "kessel.toml").write_text(text)
    return load_config(environ=environ, directory=tmp_path)


def test_a_file_holds_the_tables_of_plugins_beside_those_of_kessel(tmp_path: Path) -> None:
    found = loaded(tmp_path, "[kessel.worker]\nslots = 2\n[kessel.tide.harbours.north]\ndepth = 3\n")
    assert found.config.sections == {"tide": {"harbours": {"north": {"depth": 3}}}}
    assert found.config.worker.slots == 2


def test_a_variable_holds_all_tables_as_json_and_replaces_those_of_the_file(tmp_path: Path) -> None:
    found = loaded(tmp_path, "[kessel.moon]\na = 1\n", KESSEL_SECTIONS='{"tide": {"step": "1h"}}')
    assert found.config.sections == {"tide": {"step": "1h"}}
    assert str(found.origins["sections"]) == "KESSEL_SECTIONS"


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        ("[kessel.wroker]\nslots = 2", "wroker", "did you mean 'worker'"),
        ("[kessel.sections.tide]\nstep = '1h'", "sections", "[kessel.NAME]"),
        ("[kessel]\ntide = 3", "tide", "unknown option"),
        ("[kessel.worker.tide]\nstep = '1h'", "worker.tide", "unknown option"),
    ],
)
def test_what_cannot_be_the_table_of_a_plugin_is_refused_when_it_is_read(
    tmp_path: Path, text: str, where: str, says: str
) -> None:
    with pytest.raises(InvalidConfig) as error:
        loaded(tmp_path, text)
    (problem,) = error.value.problems
    assert problem.path == where
    assert says in problem.message


def test_a_mistake_is_placed_as_it_is_written_in_file_and_variable(tmp_path: Path) -> None:
    placed = []
    for environ in ({}, {"KESSEL_SECTIONS": '{"tide": {"stepp": 1}}'}):
        found = loaded(tmp_path, "[kessel.tide]\nstepp = 1\n", **environ)
        with pytest.raises(InvalidConfig) as error:
            manager(Offer(TIDE), config=found.config).connect()
        placed.append(str(found.located(error.value).problems[0]).partition(": unknown")[0])
    assert placed == ["kessel.toml: tide.stepp", "KESSEL_SECTIONS: tide.stepp"]

"""Sections of plugins on the command line, and commands of plugins that take a manager."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from kessel_core import KesselError

TIDE = """
import attrs, click
from kessel_core import hookimpl, with_section
from kessel_core.hooks import Section

@attrs.frozen
class Options:
    depth: int = 3
    secrets: tuple[str, ...] = ()

class Tide:
    def __init__(self, options, context):
        self.depth, self.store = options.depth, context.store

@hookimpl
def kessel_sections():
    return [Section(name="tide", options=Options, factory=Tide)]

@hookimpl
def kessel_cli(group):
    @group.command("tide")
    @click.argument("name")
    @click.option("--store", is_flag=True)
    @with_section("tide")
    def tide(made, name, store):
        "Say how deep it is."
        click.echo(f"{name}: {made.depth}")
        if store:
            assert made.store() is made.store()
            click.echo(str(made.store() and made.store().name))
            if made.store():
                made.store().put("tide", "a", b"1")
            globals()["last"] = made.store()
"""


@pytest.fixture
def tide(site: Any) -> None:
    site.install("tide", TIDE)


@pytest.mark.usefixtures("tide")
def test_a_command_of_a_plugin_gets_what_was_made_of_its_section_as_configured(kessel: Any) -> None:
    kessel.write("other.toml", '[kessel]\nadapter = "memory://"\n[kessel.tide]\ndepth = 8\n')
    for arguments in (("-c", "other.toml", "tide", "north"), ("tide", "north", "-c", "other.toml")):
        assert kessel.ok(*arguments).out == "north: 8\n"
    assert kessel.ok("tide", "north", "-a", "memory://").out == "north: 3\n"


@pytest.mark.usefixtures("tide")
def test_a_command_of_a_plugin_opens_the_store_when_it_asks_and_makes_none(kessel: Any) -> None:
    own = ("tide", "x", "--store", "-a", "sqlite:///jobs.db")
    assert kessel.ok(*own).out == "x: 3\nNone\n"
    assert list(kessel.directory.glob("*.db")) == []
    kessel.ok("request", "a", "-a", "sqlite:///jobs.db")
    assert kessel.ok(*own).out == "x: 3\nsqlite\n"
    with pytest.raises(KesselError, match="closed"):
        sys.modules["plugin_tide"].last.get("tide", "a")
    kessel.write("kessel.toml", '[kessel]\nadapter = "memory://"\nstore = "sqlite:///kept.db"\n')
    assert kessel.ok("tide", "x", "--store").out == "x: 3\nNone\n"
    assert not (kessel.directory / "kept.db").exists()


@pytest.mark.usefixtures("tide")
@pytest.mark.parametrize("before", [True, False])
def test_plugins_that_the_file_disables_are_not_used_by_a_command_of_another(
    kessel: Any, before: bool
) -> None:
    kessel.write("other.toml", '[kessel.plugins]\ndisabled = ["sqlite"]\n')
    file, command = ("-c", "other.toml"), ("tide", "x", "--store")
    done = kessel(*file, *command) if before else kessel(*command, *file)
    assert done.code == 3
    assert "sqlite" in done.err


@pytest.mark.usefixtures("tide")
def test_a_command_of_a_plugin_needs_no_queue_that_it_does_not_ask_for(
    kessel: Any, unreachable: None
) -> None:
    assert kessel.ok("tide", "x", "-a", "moon://").out == "x: 3\n"
    assert kessel("tide", "x", "--store", "-a", "moon://").code == 1


@pytest.mark.usefixtures("tide")
@pytest.mark.parametrize("command", [("tide", "north"), ("drain",)])
def test_a_mistake_in_a_section_is_one_message_with_file_and_key(kessel: Any, command: Any) -> None:
    kessel.write("kessel.toml", '[kessel]\nadapter = "memory://"\n[kessel.tide]\ndepht = 8\n')
    done = kessel(*command)
    assert done.code == 2
    assert "kessel.toml: tide.depht: unknown option; did you mean 'depth'?" in done.err


def test_a_worker_does_not_start_with_a_table_that_no_plugin_reads(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel]\nadapter = "memory://"\n[kessel.moon]\ndepth = 8\n')
    done = kessel("drain")
    assert done.code == 3
    assert "kessel.toml: moon: no plugin has this section" in done.err


@pytest.mark.usefixtures("tide")
@pytest.mark.parametrize("queue", ["memory://", "sqlite:///not-made-yet.db"])
def test_the_doctor_finds_what_is_wrong_with_a_section(kessel: Any, queue: str) -> None:
    kessel.write("kessel.toml", f'[kessel]\nadapter = "{queue}"\n[kessel.tide]\ndepht = 8\n')
    done = kessel("doctor", "--json")
    assert done.code == 1
    assert [f["detail"] for f in done.json if "tide.depht" in f["detail"]] != []


@pytest.mark.usefixtures("tide")
def test_config_shows_the_sections_without_their_secrets(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel.tide]\ndepth = 8\nsecrets = ["hush"]\n')
    found = kessel.ok("config", "--json").json["options"]["sections"]
    assert found == {"value": {"tide": {"depth": 8, "secrets": "***"}}, "origin": "kessel.toml"}


DOCTOR = """
from kessel_core import hookimpl
from kessel_core.contract import Finding, Level

@hookimpl
def kessel_doctor(context):
    yield Finding(Level.WARNING, "moon", f"{sorted(context.types)} {context.queues}", "look up")
    if "broken" in context.queues:
        raise OSError("no telescope")
    if "odd" in context.queues:
        yield "a sentence"
"""


def moon_findings(kessel: Any, queue: str) -> tuple[int, list[dict[str, str]]]:
    kessel.write("kessel.toml", f'[kessel]\nqueues = ["{queue}"]\n')
    done = kessel("doctor", "--json", "--adapter", "sqlite:///jobs.db")
    return done.code, [found for found in done.json if found["subject"] in ("moon", "plugin moon")]


def test_a_plugin_has_findings_of_its_own(kessel: Any, site: Any) -> None:
    site.install("moon", DOCTOR)
    kessel.ok("request", "a", "--adapter", "sqlite:///jobs.db")
    code, (found,) = moon_findings(kessel, "mail")
    assert code == 0
    assert (found["level"], found["advice"]) == ("warning", "look up")
    assert found["detail"].endswith("('mail',)")
    assert "'addition'" in found["detail"]


@pytest.mark.parametrize(
    ("queue", "why"),
    [("broken", "OSError: no telescope"), ("odd", "TypeError: kessel_doctor gave str, not a Finding")],
)
def test_the_doctor_of_a_plugin_that_fails_is_a_finding_beside_what_it_found(
    kessel: Any, site: Any, queue: str, why: str
) -> None:
    site.install("moon", DOCTOR)
    kessel.ok("request", "a", "--adapter", "sqlite:///jobs.db")
    code, (first, second) = moon_findings(kessel, queue)
    assert code == 1
    assert first["subject"] == "moon"
    assert second["level"] == "error"
    assert f"its doctor failed: {why}" in second["detail"]


FERRY = """
import attrs
from kessel_core import hookimpl
from kessel_core.hooks import Section

@attrs.frozen
class Options:
    line: str

class Ferry:
    def __init__(self, options, context):
        self.line = options.line

    @hookimpl
    def kessel_handlers(self):
        return {f"ferry.{self.line}": len}

@hookimpl
def kessel_sections():
    return [Section(name="ferry", options=Options, factory=Ferry)]
"""


def test_the_doctor_knows_the_types_that_a_section_has_handlers_for(kessel: Any, site: Any) -> None:
    site.install("ferry", FERRY)
    kessel.write("kessel.toml", '[kessel.ferry]\nline = "north"\n')
    assert "ferry.north" in kessel("doctor").out

"""Mistakes in what is configured: all of them at once, each with the place where it is written."""

from __future__ import annotations

from typing import Any

import pytest

from kessel_core import load_config

EVERYTHING_WRONG = """
[kessel]
middleware = ["nope", "logging"]
[kessel.adapter_options]
bogus = 1
lease = "1ms"
[kessel.middleware_options.logging]
lvl = "x"
[kessel.handlers]
gone = "no_such_module:f"
"""


def lines(text: str) -> list[str]:
    """The problems of an error, one a line."""
    return [line.removeprefix("  - ") for line in text.splitlines() if line.startswith("  - ")]


@pytest.mark.parametrize("command", ["worker", "drain"])
def test_options_handlers_and_middleware_are_told_together_each_with_its_place(
    kessel: Any, command: str
) -> None:
    kessel.write("kessel.toml", EVERYTHING_WRONG)
    done = kessel(command)
    assert done.code == 3
    assert [line.split(": ")[:2] for line in lines(done.err)] == [
        ["kessel.toml", "adapter_options.bogus"],
        ["kessel.toml", "adapter_options.lease"],
        ["kessel.toml", "handlers.gone"],
        ["kessel.toml", "middleware"],
        ["kessel.toml", "middleware_options.logging.lvl"],
    ]
    assert not (kessel.directory / "kessel.db").exists(), "nothing is opened before all is right"


def test_a_variable_and_an_argument_are_named_by_what_was_typed(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KESSEL_HANDLERS", '{"gone": "no_such_module:f"}')
    done = kessel("worker", "--adapter", "sqlite:///x.db?bogus=1")
    assert done.code == 2
    adapter, handler = lines(done.err)
    assert adapter.startswith("--adapter: sqlite:///x.db?bogus=1: bogus: unknown option")
    assert handler.startswith("KESSEL_HANDLERS: gone: 'no_such_module:f' cannot be imported")


def test_an_option_of_the_adapter_is_told_by_every_command_that_opens_it(kessel: Any) -> None:
    kessel.write("kessel.toml", "[kessel.adapter_options]\nbogus = 1\n")
    for command in (["stats"], ["request", "a"], ["buried", "list"], ["peek"]):
        done = kessel(*command)
        assert done.code == 2
        assert "kessel.toml: adapter_options.bogus: unknown option" in done.err


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ('middleware = ["nope"]', 3),
        ('adapter = "carrier-pigeon://loft"', 3),
        ("[kessel.middleware_options.logging]\nlvl = 1", 2),
        ("[kessel.adapter_options]\nbogus = 1", 2),
        ('middleware = ["logging"]', 0),
    ],
)
def test_the_same_mistake_has_the_same_exit_code_at_check_and_at_work(
    kessel: Any, wrong: str, code: int
) -> None:
    """D4, D12: 3 when what is named is not usable, 2 when it is written wrongly."""
    kessel.write("kessel.toml", f"[kessel]\n{wrong}\n")
    check, work = kessel("plugins", "--check"), kessel("drain")
    assert (check.code, work.code) == (code, code)
    assert check.err.replace("error: ", "").strip() in work.err


def test_the_chain_of_middleware_says_where_it_is_wrong(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel]\nmiddleware = ["loging"]\n')
    done = kessel("middleware")
    assert done.code == 3
    assert "kessel.toml: middleware: 'loging' is not known; did you mean 'logging'?" in done.err


def test_a_request_needs_no_handler_that_the_worker_needs(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel.handlers]\ngone = "no_such_module:f"\n')
    assert "requested" in kessel.ok("request", "gone").out
    done = kessel("worker")
    assert done.code == 2
    assert "kessel.toml: handlers.gone: 'no_such_module:f' cannot be imported" in done.err


@pytest.mark.parametrize("command", ["plugins", "hooks", "adapters"])
def test_what_works_with_a_broken_configuration_says_that_it_is_not_used(kessel: Any, command: str) -> None:
    kessel.write("kessel.toml", "[kessel\n")
    done = kessel.ok(command)
    assert done.out
    assert done.err.count("the configuration is wrong, and not used") == 1
    kessel.write("kessel.toml", "[kessel]\n")
    assert not kessel.ok(command).err


def test_an_empty_name_in_a_list_is_an_error(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KESSEL_QUEUES", "a,,b")
    done = kessel("stats")
    assert done.code == 2
    assert "KESSEL_QUEUES: " in done.err


def test_an_empty_list_of_names_is_none(kessel: Any) -> None:
    assert load_config(environ={"KESSEL_MIDDLEWARE": " "}, directory=kessel.directory).config.middleware == ()


def test_an_unknown_buried_job_is_said_to_be_none(kessel: Any) -> None:
    kessel.ok("request", "x")
    for command in ("kick", "delete", "show"):
        done = kessel("buried", command, "nosuch")
        assert done.code == 1
        assert done.err == "error: no buried job 'nosuch' in default\n"

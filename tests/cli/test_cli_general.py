"""What holds for every command: help, exit codes (D12), errors without a traceback."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import click
import pytest

from kessel_core.cli.root import COMMANDS
from kessel_core.cli.root import kessel as group
from kessel_core.plugins import known


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_says_the_same_as_the_list_of_commands(name: str) -> None:
    module, attribute, line = COMMANDS[name]
    command = getattr(importlib.import_module(f"kessel_core.cli.{module}"), attribute)
    assert isinstance(command, click.Command)
    assert (command.help or "").splitlines()[0] == line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(kessel: Any, name: str) -> None:
    done = kessel.ok(name, "--help")
    assert "--config" in done.out or name == "kessel"


def test_help_lists_every_command(kessel: Any) -> None:
    done = kessel.ok("--help")
    assert all(name in done.out for name in COMMANDS)


def test_help_imports_no_command_and_no_rich() -> None:
    """Issue target: `kessel --help` stays quick, because it loads only what it shows.

    `commands` and `serving` are no commands, but what plugins make theirs with.
    """
    code = (
        "import sys\nfrom kessel_core.cli.root import run\nrun(['--help'])\n"
        "late = [m for m in sys.modules if m == 'rich' or m.startswith('kessel_core.cli.')]\n"
        "print(sorted(late), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = [f"kessel_core.cli.{name}" for name in ("app", "commands", "root", "serving")]
    assert str(loaded) in done.stderr


def test_version_is_printed(kessel: Any) -> None:
    assert kessel.ok("--version").out.startswith("kessel, version ")


def test_module_runs_as_the_script_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kessel_core.cli", "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "Usage: kessel" in done.stdout


def test_misspelt_command_gets_the_nearest_name(kessel: Any) -> None:
    done = kessel("wroker")
    assert done.code == 2
    assert "Did you mean 'worker'?" in done.err


def test_unknown_option_is_exit_code_2(kessel: Any) -> None:
    assert kessel("stats", "--frobnicate").code == 2


def test_unknown_scheme_names_no_usable_plugin_and_is_exit_code_3_without_traceback(kessel: Any) -> None:
    """D4, D12."""
    done = kessel("stats", "--adapter", "carrier-pigeon://loft")
    assert done.code == 3
    assert "carrier-pigeon" in done.err
    assert "Traceback" not in done.err


def test_port_out_of_range_is_exit_code_2(kessel: Any, unreachable: None) -> None:
    done = kessel("stats", "--adapter", "moon://base:99999")
    assert done.code == 2
    assert "99999" in done.err


def test_unreachable_backend_is_exit_code_1(kessel: Any, unreachable: None) -> None:
    done = kessel("stats", "--adapter", "moon://base")
    assert done.code == 1
    assert done.err == "error: nobody answers at base:1\n"


def test_a_command_of_a_plugin_that_is_not_installed_names_its_distribution(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(known.COMMANDS, "distil", "kessel-still")
    done = kessel("distil")
    assert done.code == 2
    assert "There is no command 'distil'. A plugin adds it; run: pip install kessel-still" in done.err


def test_interrupt_is_said_and_is_exit_code_130(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(group, "main", interrupted)
    done = kessel("stats")
    assert (done.code, done.err.strip()) == (130, "interrupted")


def test_reader_that_has_seen_enough_is_no_traceback() -> None:
    command = f"{sys.executable} -m kessel_core.cli plugins --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr


def test_all_problems_of_the_configuration_are_listed_with_exit_code_2(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D11, D12: file, environment and argument, together, and nothing was opened."""
    kessel.write("kessel.toml", "[kessel.worker]\nslot = 3\n")
    monkeypatch.setenv("KESSEL_JOBS_MAX_ATTEMPTS", "none")
    done = kessel("worker", "--slots", "0")
    assert done.code == 2
    for origin in ("kessel.toml: worker.slot", "KESSEL_JOBS_MAX_ATTEMPTS", "--slots"):
        assert origin in done.err
    assert not (kessel.directory / "kessel.db").exists()


def test_misspelt_file_is_exit_code_2(kessel: Any) -> None:
    kessel.write("kessel.toml", "")
    done = kessel("stats", "--config", "kesel.toml")
    assert done.code == 2
    assert "did you mean 'kessel.toml'?" in done.err


def test_options_of_configuration_stand_before_or_after_the_command(kessel: Any) -> None:
    kessel.write("other.toml", "[kessel.worker]\nslots = 7\n")
    for arguments in (("--config", "other.toml", "config"), ("config", "--config", "other.toml")):
        options = kessel.ok(*arguments, "--json").json["options"]
        assert options["worker.slots"] == {"value": 7, "origin": "other.toml"}

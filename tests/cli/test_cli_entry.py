"""The two ways to start the command end with its exit code."""

from __future__ import annotations

import runpy
import sys
import threading
from types import ModuleType

import pytest

from kessel_core.cli import ending, main


@pytest.fixture(autouse=True)
def _no_worker_ran_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's command that ran here earlier has asked for a bounded end, which `main` would set going."""
    monkeypatch.setattr(ending, "_bounded", threading.Event())


def test_script_exits_with_the_code_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kessel", "no-such-command"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2


def test_module_exits_with_the_code_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "kessel_core.cli.__main__", raising=False)  # a test may have imported it
    monkeypatch.setattr("sys.argv", ["kessel", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("kessel_core.cli.__main__", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("kessel, version ")


def test_ctrl_c_while_the_command_loads_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "kessel_core.cli.root", Interrupted("kessel_core.cli.root"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130

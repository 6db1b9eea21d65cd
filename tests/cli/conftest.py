"""Runs the command in this process, in a directory and an environment of its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from kessel_core.cli.root import run


@attrs.frozen
class Done:
    """What a run of the command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, read as JSON."""
        return json.loads(self.out)


class Kessel:
    """Calls `kessel ...` and collects what it prints."""

    def __init__(self, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self._capsys = capsys
        self.directory = directory

    def __call__(self, *arguments: str) -> Done:
        self._capsys.readouterr()
        try:
            code = run(arguments)
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 1
        captured = self._capsys.readouterr()
        return Done(code, captured.out, captured.err)

    def ok(self, *arguments: str) -> Done:
        """Call it, and insist on exit code 0."""
        done = self(*arguments)
        assert done.code == 0, done
        return done

    def write(self, name: str, text: str) -> Path:
        """Write a file into the directory of the run."""
        path = self.directory / name
        path.write_text(text)
        return path


@pytest.fixture
def kessel(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Kessel]:
    """The command, in an empty directory and without any KESSEL_* variable."""
    import os

    for name in os.environ:
        if name.startswith("KESSEL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    root, own = logging.getLogger(), logging.getLogger("kessel")
    before = (root.level, own.level)
    yield Kessel(capsys, tmp_path)
    root.handlers[:] = [handler for handler in root.handlers if handler.get_name() != "kessel"]
    root.setLevel(before[0])
    own.setLevel(before[1])

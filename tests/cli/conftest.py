"""Runs the command in this process, in a directory and an environment of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from kessel_core.cli.root import run

RAISED = 'AdapterUnavailable(f"nobody answers at {options.host}:{options.port}")'
UNREACHABLE = f"""
import attrs
from kessel_core.contract import AdapterSpec
from kessel_core import AdapterUnavailable
from kessel_core import hookimpl

@attrs.frozen
class Options:
    host: str = "base"
    port: int = 1
    username: str = ""
    password: str = ""

def unreachable(options, context):
    raise {RAISED}

@hookimpl
def kessel_adapters():
    return [AdapterSpec(name="moon", schemes=("moon",), options=Options, open=unreachable)]
"""


class Site:
    """A folder on the path into which plugins are installed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def install(self, name: str, source: str, *, version: str = "1.0") -> None:
        """Make a distribution with one plugin, as an installer would leave it behind."""
        module = f"plugin_{name}"
        (self._directory / f"{module}.py").write_text(source)
        info = self._directory / f"{name}_dist-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[kessel.v1]\n{name} = {module}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A place for plugins of this test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield Site(folder)
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]


@pytest.fixture
def failing(site: Site) -> Callable[..., None]:
    """Install an adapter that raises when it opens; the text is what stands behind `raise`."""

    def install(name: str, raised: str, more: str = "") -> None:
        site.install(name, UNREACHABLE.replace("moon", name).replace(RAISED, raised) + more)

    return install


@pytest.fixture
def unreachable(failing: Callable[..., None]) -> None:
    """An adapter `moon://` that never answers."""
    failing("moon", RAISED)


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
def kessel(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kessel:
    """The command, in an empty directory and without any KESSEL_* variable."""
    import os

    for name in os.environ:
        if name.startswith("KESSEL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Kessel(capsys, tmp_path)

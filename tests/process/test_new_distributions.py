"""`kessel new`: what it writes can be built, installed in a clean environment, and passes its own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Kind -> (name, package, name of the plugin).
MADE = {
    "adapter": ("shelf-two", "kessel_adapter_shelf_two", "shelf-two"),
    "handlers": ("mail", "kessel_handlers_mail", "handlers-mail"),
    "middleware": ("audit", "kessel_middleware_audit", "middleware-audit"),
}


def clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("KESSEL_", "PYTEST_", "PYTHON", "COV"))}


def run(
    *command: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env if env is not None else clean_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kessel(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "kessel_core.cli", *arguments, cwd=cwd)


def test_new_distributions_pass_their_tests_in_a_clean_environment(tmp_path: Path) -> None:
    for kind, (name, _, _) in MADE.items():
        succeeded(kessel("new", kind, name, cwd=tmp_path))
    made = {kind: tmp_path / f"kessel-{kind}-{name}" for kind, (name, _, _) in MADE.items()}
    sources = [ROOT, ROOT / "plugins" / "kessel_conformance", *made.values()]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path / "wheels")]
    succeeded(run(sys.executable, "-m", "pip", "wheel", *options, *sources, cwd=tmp_path))
    wheels = sorted((tmp_path / "wheels").glob("*.whl"))
    assert len(wheels) == 5
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    # The pip of this environment installs into the other one, which saves giving it its own.
    installer = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    succeeded(run(*installer, *wheels, cwd=tmp_path))

    command = python.with_name("kessel")
    names = [plugin for _, _, plugin in MADE.values()]
    report = json.loads(succeeded(run(command, "plugins", "--check", "--json", *names, cwd=tmp_path)))
    assert sorted((status["name"], status["status"]) for status in report) == sorted(
        (name, "active") for name in names
    )
    for kind, (_, package, _) in MADE.items():
        site = succeeded(run(python, "-c", f"import {package}; print({package}.__file__)", cwd=tmp_path))
        assert str(tmp_path / "venv") in site
        assert (Path(site.strip()).parent / "py.typed").is_file()
        # Not `python -m pytest`, which would import the sources in place of what is installed.
        told = succeeded(run(python.with_name("pytest"), "-q", "-p", "no:cacheprovider", cwd=made[kind]))
        assert " passed" in told


@pytest.mark.parametrize("kind", MADE)
def test_new_distribution_is_complete(kind: str, tmp_path: Path) -> None:
    name, package, plugin = MADE[kind]
    succeeded(kessel("new", kind, name, "--into", "here", cwd=tmp_path))
    home = tmp_path / "here"
    files = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert files == {
        ".github/workflows/test.yml",
        ".gitignore",
        "CHANGELOG.md",
        "README.md",
        "pyproject.toml",
        f"{package}/__init__.py",
        f"{package}/{kind}.py",
        f"{package}/plugin.py",
        f"{package}/py.typed",
        f"tests/test_{package}.py",
    }
    project = tomllib.loads((home / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == f"kessel-{kind}-{name}"
    assert "kessel-core>=0.1,<0.2" in project["dependencies"]
    assert "kessel-plugin" in project["keywords"]
    assert project["entry-points"]["kessel.v1"] == {plugin: f"{package}.plugin"}
    assert "kessel-conformance>=0.1,<0.2" in project["optional-dependencies"]["test"]
    assert "${{ matrix.python }}" in (home / ".github/workflows/test.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    ["", "Shelf", "2shelf", "a b", "a_b", "a--b", "a-", "../up", "a.b", "é", "a\n", "a" * 51, "memory"],
)
def test_name_that_fits_nowhere_writes_nothing(name: str, tmp_path: Path) -> None:
    done = kessel("new", "adapter", name, cwd=tmp_path)
    assert done.returncode == 2
    assert "Invalid value for NAME" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("occupied", ["directory", "file"])
def test_occupied_target_is_left_as_it_is(occupied: str, tmp_path: Path) -> None:
    target = tmp_path / "kessel-handlers-mail"
    if occupied == "directory":
        target.mkdir()
        (target / "mine.txt").write_text("mine", encoding="utf-8")
    else:
        target.write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.rglob("*"))
    done = kessel("new", "handlers", "mail", cwd=tmp_path)
    assert done.returncode == 2
    assert "kessel-handlers-mail" in done.stderr.splitlines()[-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_empty_directory_is_filled(tmp_path: Path) -> None:
    succeeded(kessel("new", "middleware", "audit", "--into", ".", cwd=tmp_path))
    assert (tmp_path / "pyproject.toml").is_file()

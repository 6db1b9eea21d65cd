"""`kessel new`: what it writes is complete and clean, and a mistake leaves nothing behind.

That it can be built, installed and tested shows in tests/wheels.
"""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from kessel_conformance.scaffold import rendered, write

from kessel_core import build_plugins

#: Kind -> (name, package, name of the plugin).
MADE = {
    "adapter": ("shelf-two", "kessel_adapter_shelf_two", "shelf-two"),
    "store": ("shelf-two", "kessel_store_shelf_two", "store-shelf-two"),
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


def test_new_distributions_are_clean_for_ruff_and_strict_mypy(tmp_path: Path) -> None:
    for kind, (name, _, _) in MADE.items():
        succeeded(kessel("new", kind, name, cwd=tmp_path))
        home = tmp_path / f"kessel-{kind}-{name}"
        for command in (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)):
            succeeded(run(sys.executable, "-m", *command, cwd=home))


def test_new_adapter_keeps_all_that_it_declares_from_its_source_too(tmp_path: Path) -> None:
    """Without a wheel, so that a case of the suite which it fails shows long before the step from wheels."""
    succeeded(kessel("new", "adapter", "shelf-two", "--into", "here", cwd=tmp_path))
    home = tmp_path / "here"
    suite = ("pytest", "-q", "-p", "no:cacheprovider", "-k", "test_conformance")
    env = {**clean_environment(), "PYTHONPATH": str(home)}
    told = succeeded(run(sys.executable, "-m", *suite, cwd=home, env=env))
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


def test_ci_of_a_new_adapter_can_install_a_server_and_checks_what_it_builds() -> None:
    """The tests start the server; where it is missing they are an error there, and no skip."""
    text = rendered("adapter", "shelf")[".github/workflows/test.yml"]
    assert '\n      SERVER_PACKAGE: ""\n' in text
    steps = text.partition("steps:\n")[2].split("\n      - ")
    commands = [step.rpartition("run: ")[2].strip().splitlines()[0] for step in steps if "run: " in step]
    kinds = [
        "pip install '.",
        "apt-get install",
        "ruff",
        "plugins --check",
        "pytest",
        "pip wheel",
        "adapters --check",
    ]
    assert [kind for command in commands for kind in kinds if kind in command] == kinds
    (install,) = (step for step in steps if "apt-get" in step)
    assert "if: env.SERVER_PACKAGE != ''" in install
    assert install.rstrip().endswith('"$SERVER_PACKAGE"')
    assert commands[-1].endswith("kessel adapters --check shelf")
    for kind in ("handlers", "middleware"):
        assert "SERVER_PACKAGE" not in rendered(kind, "shelf")[".github/workflows/test.yml"]


def test_readme_of_a_new_adapter_says_what_is_to_be_committed() -> None:
    texts = rendered("adapter", "shelf")
    readme = texts["README.md"]
    assert "Commit all three" in readme and "conformance.badge.json" in readme
    assert "SERVER_PACKAGE" in readme
    for name in ("conformance", "json", "badge"):
        assert name not in texts[".gitignore"]


@pytest.mark.parametrize(
    "name",
    [
        *("", "Shelf", "2shelf", "a b", "a_b", "a--b", "a-", "../up", "a.b", "é", "a\n", "a" * 51),
        *("memory", "logging", "kessel-foo", "kessel-adapter-foo", "--name"),
    ],
)
def test_name_that_fits_nowhere_writes_nothing(name: str, tmp_path: Path) -> None:
    done = kessel("new", "adapter", name, cwd=tmp_path)
    assert done.returncode == 2
    assert len([line for line in done.stderr.splitlines() if line.startswith("Error: ")]) == 1
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_name_of_what_comes_with_kessel_is_refused() -> None:
    """With two plugins of one name, or two adapters for one scheme, neither can be used."""
    plugins = build_plugins()
    own = [status.name for status in plugins.report if status.distribution.startswith("kessel-")]
    offered = {
        "adapter": [*own, *plugins.adapters().names],
        "store": plugins.stores().names,
        "middleware": plugins.middleware().names,
        "handlers": [name.removeprefix("handlers-") for name in own if name.startswith("handlers-")],
    }
    for kind, names in offered.items():
        assert names
        for name in {name.removesuffix("://") for name in names if "+" not in name}:
            with pytest.raises(ValueError, match="comes with kessel"):
                rendered(kind, name)


@pytest.mark.parametrize("name", ["Shelf Two", "shelf_two", "kessel-adapter-shelf-two", "Kessel_Shelf.Two"])
def test_name_that_nearly_fits_gets_the_one_that_does(name: str, tmp_path: Path) -> None:
    assert "did you mean 'shelf-two'?" in kessel("new", "adapter", name, cwd=tmp_path).stderr


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("name", ["class", "none", "import", "self", "test", "a", "a1-2b", "x" * 50])
def test_odd_name_that_fits_gives_valid_files(kind: str, name: str) -> None:
    """Keywords of Python, too: no name is used bare."""
    texts = rendered(kind, name)
    for path, text in texts.items():
        assert "${" not in text.replace("${{ matrix.python }}", ""), path
        if path.endswith(".py"):
            ast.parse(text, path)
    project = tomllib.loads(texts["pyproject.toml"])["project"]
    assert project["name"] == f"kessel-{kind}-{name}"


@pytest.mark.parametrize("existing", [True, False])
def test_failure_halfway_leaves_nothing_behind(
    existing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a" / "b"
    if existing:
        target.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    written, write_text = [], Path.write_text

    def full(path: Path, *arguments: Any, **options: Any) -> int:
        written.append(path)
        if len(written) == 6:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write(rendered("adapter", "shelf"), target)
    assert len(written) == 6
    assert sorted(tmp_path.rglob("*")) == before


def test_target_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = kessel("new", "adapter", "shelf", "--into", "file/shelf", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "Error: Invalid value for --into: file/shelf: Not a directory"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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

"""The examples of adapters as what they stand for: distributions of third parties, installed from wheels.

KESSEL_WHEELS names the folder of kessel's own wheels, KESSEL_DOCS that of the pages, beside the examples;
tools/test_wheels.sh sets them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

WHEELS = Path(os.environ["KESSEL_WHEELS"])
EXAMPLES = Path(os.environ["KESSEL_DOCS"]).parent / "examples"
#: Folder of the distribution, which is the package's name, too -> the name of its adapter.
ADAPTERS = {"kessel_adapter_directory": "directory", "kessel_adapter_redis_scripts": "redis-scripts"}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith(("KESSEL_", "PYTEST_", "PYTHON"))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples in a clean environment, beside kessel's own wheels."""
    home = tmp_path_factory.mktemp("examples")
    for package in ADAPTERS:
        shutil.copytree(EXAMPLES / package, home / package)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*build, "--wheel-dir", home / "wheels", *(home / package for package in ADAPTERS), cwd=home)
    venv.create(home / "venv", with_pip=False, symlinks=True)
    own = [*WHEELS.glob("kessel_core-*.whl"), *WHEELS.glob("kessel_conformance-*.whl")]
    made = sorted((home / "wheels").glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", home / "venv" / "bin" / "python", "install", "--quiet"]
    run(*pip, *own, *made, "pytest", cwd=home)
    return home


def test_there_is_a_test_of_every_example() -> None:
    assert set(ADAPTERS) == {path.parent.name for path in EXAMPLES.glob("*/pyproject.toml")}


def test_examples_are_found_as_plugins(home: Path) -> None:
    names = list(ADAPTERS.values())
    told = run(home / "venv" / "bin" / "kessel", "plugins", "--check", "--json", *names, cwd=home)
    assert {status["name"]: status["status"] for status in json.loads(told)} == dict.fromkeys(names, "active")


@pytest.mark.parametrize("package", ADAPTERS)
def test_example_passes_its_tests_as_installed(package: str, home: Path) -> None:
    # Not `python -m pytest`, which would import the sources in place of what is installed.
    told = run(home / "venv" / "bin" / "pytest", "-q", "-p", "no:cacheprovider", cwd=home / package)
    assert " passed" in told

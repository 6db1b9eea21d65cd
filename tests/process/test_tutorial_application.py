"""The application of the tutorial, taken from its page: it is typed, its tests pass, and it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "an-application.md"
FILE = re.compile(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```", re.M | re.S)


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """Write the files, and what an installation would add: the metadata with the entry point."""
    files = dict(FILE.findall(PAGE.read_text("utf-8")))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "src" / "gallery" / "__init__.py").touch()
    metadata = tmp_path / "src" / "gallery-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: gallery\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[kessel.v1]\ngallery = gallery.plugin\n")
    return tmp_path


def run(application: Path, *command: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KESSEL_")}
    # Examples of this repository offer types of their own, and would only be in the way.
    environment |= {"PYTHONPATH": "src", "KESSEL_PLUGINS_DISABLED": "handlers-example"}
    done = subprocess.run(
        command,
        cwd=application,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_shows_every_file_of_its_list(application: Path) -> None:
    listing = re.findall(r"^  (\S+\.(?:py|toml))", PAGE.read_text("utf-8"), re.M)
    assert len(listing) == 6
    for name in listing:
        assert (application / name).exists(), name


def test_its_tests_pass(application: Path) -> None:
    said = run(application, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "4 passed" in said


def test_its_types_are_right(application: Path) -> None:
    pytest.importorskip("mypy", reason="types are checked where the tools are installed")
    run(application, sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, "src", "tests")


def test_its_commands_run(application: Path) -> None:
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S))
    kessel = f'kessel() {{ "{sys.executable}" -m kessel_core.cli "$@"; }}\n'
    said = run(application, "bash", "-euo", "pipefail", "-c", kessel + script)
    assert "1 failed-transient, 2 success" in said

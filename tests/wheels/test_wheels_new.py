"""`kessel new`: what it writes becomes wheels that pass their tests in a clean environment.

KESSEL_WHEELS names the folder of kessel's own wheels; tools/test_wheels.sh sets it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

#: Kind -> (name, package, name of the plugin).
MADE = {
    "adapter": ("shelf-two", "kessel_adapter_shelf_two", "shelf-two"),
    "store": ("shelf-two", "kessel_store_shelf_two", "store-shelf-two"),
    "handlers": ("mail", "kessel_handlers_mail", "handlers-mail"),
    "middleware": ("audit", "kessel_middleware_audit", "middleware-audit"),
}
WHEELS = Path(os.environ["KESSEL_WHEELS"])


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


def wheels_of(home: Path, *projects: Path) -> list[Path]:
    """Build in this environment, which has the build backend; nothing is downloaded for it."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", home / "wheels"]
    run(sys.executable, "-m", "pip", "wheel", *options, *projects, cwd=home)
    return sorted((home / "wheels").glob("*.whl"))


def install(home: Path, *arguments: str | Path) -> None:
    # The pip of this environment installs into the other one, which saves giving it its own.
    pip = [sys.executable, "-m", "pip", "--python", home / "venv" / "bin" / "python", "install", "--quiet"]
    run(*pip, *arguments, cwd=home)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New distributions in a clean environment, beside kessel's own wheels."""
    home = tmp_path_factory.mktemp("new")
    for kind, (name, _, _) in MADE.items():
        run(Path(sys.executable).with_name("kessel"), "new", kind, name, cwd=home)
    made = wheels_of(home, *(home / f"kessel-{kind}-{name}" for kind, (name, _, _) in MADE.items()))
    venv.create(home / "venv", with_pip=False, symlinks=True)
    own = [*WHEELS.glob("kessel_core-*.whl"), *WHEELS.glob("kessel_conformance-*.whl")]
    install(home, *own, *made)
    return home


def test_plugins_of_new_distributions_are_active(home: Path) -> None:
    names = [plugin for _, _, plugin in MADE.values()]
    told = run(home / "venv" / "bin" / "kessel", "plugins", "--check", "--json", *names, cwd=home)
    assert {status["name"]: status["status"] for status in json.loads(told)} == dict.fromkeys(names, "active")


@pytest.mark.parametrize("kind", MADE)
def test_new_distribution_passes_its_tests_as_installed(kind: str, home: Path) -> None:
    name, package, _ = MADE[kind]
    binaries = home / "venv" / "bin"
    site = Path(
        run(binaries / "python", "-c", f"import {package}; print({package}.__file__)", cwd=home).strip()
    )
    assert site.is_relative_to(home / "venv")
    assert (site.parent / "py.typed").is_file()
    # Not `python -m pytest`, which would import the sources in place of what is installed.
    told = run(binaries / "pytest", "-q", "-p", "no:cacheprovider", cwd=home / f"kessel-{kind}-{name}")
    assert " passed" in told


def test_new_adapter_ships_its_report_as_its_readme_says(home: Path) -> None:
    """Installed, proved, built again: then `kessel adapters` shows the report to whoever installs it."""
    name, package, _ = MADE["adapter"]
    project, binaries = home / f"kessel-adapter-{name}", home / "venv" / "bin"
    readme = (project / "README.md").read_text(encoding="utf-8")
    command = next(line for line in readme.splitlines() if "--kessel-report" in line)
    assert f"--kessel-report {package}/conformance.json" in command
    run(binaries / "python", *command.replace("ci", "quick").split()[1:], cwd=project)
    (wheel,) = (path for path in wheels_of(home, project) if path.name.startswith(package))
    install(home, "--no-deps", "--force-reinstall", wheel)
    (found,) = json.loads(run(binaries / "kessel", "adapters", "--json", cwd=home))
    assert (found["name"], found["distribution"]) == (name, f"kessel-adapter-{name}")
    report = found["conformance"]["report"]
    assert report["passed"] and report["totals"]["pass"] > 40
    assert found["conformance"]["remarks"] == []
    # As CI does, with the wheel: the sources of the installed package are those of the report.
    run(binaries / "kessel", "adapters", "--check", name, cwd=home)

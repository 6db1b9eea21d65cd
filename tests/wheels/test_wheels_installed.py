"""What only built wheels can show: entry points, package data, the command. Run by tools/test_wheels.sh.

Nothing in here may import from the checkout: the tests run in a clean environment outside of it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

import pytest

DISTRIBUTIONS = [
    "kessel-core",
    "kessel-memory",
    "kessel-postgres",
    "kessel-redis",
    "kessel-sqlite",
    "kessel-beanstalk",
    "kessel-handlers-example",
    "kessel-http",
    "kessel-prometheus",
    "kessel-otel",
    "kessel-conformance",
]


def kessel(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("kessel")), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_each_distribution_ships_its_types_and_its_license_name(name: str) -> None:
    package = name.replace("-", "_")
    assert files(package).joinpath("py.typed").is_file()
    assert distribution(name).metadata["License-Expression"] == "MIT"


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_each_distribution_ships_its_licence_and_says_where_its_project_is(name: str) -> None:
    found = distribution(name)
    assert found.metadata["License-File"] == "LICENSE"
    assert any(Path(file).name == "LICENSE" for file in found.files or ())
    urls = dict(line.split(", ", 1) for line in found.metadata.get_all("Project-URL") or ())
    wanted = {"Homepage", "Documentation", "Source", "Issues", "Changelog", "Security"}
    assert urls.keys() == wanted
    assert all(url.startswith("https://") for url in urls.values())
    assert any(line.startswith("Topic :: ") for line in found.metadata.get_all("Classifier") or ())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_link_of_a_readme_works_on_an_index_page(name: str) -> None:
    text = distribution(name).metadata.get_payload()
    assert isinstance(text, str)
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert all(link.startswith(("https://", "#")) for link in links), links


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_no_distribution_ships_tests_or_another_one(name: str) -> None:
    tops = {Path(file).parts[0] for file in distribution(name).files or ()}
    package = name.replace("-", "_")
    assert {top for top in tops if not top.endswith(".dist-info") and top != ".."} == {package}


@pytest.mark.parametrize("name", DISTRIBUTIONS[1:])
def test_plugins_bound_the_core(name: str) -> None:
    assert any(
        need.replace(" ", "") in ("kessel-core<0.2,>=0.1", "kessel-core>=0.1,<0.2")
        for need in distribution(name).requires or ()
    )


def test_every_plugin_is_found_and_active(tmp_path: Path) -> None:
    done = kessel("plugins", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {plugin["distribution"]: plugin for plugin in json.loads(done.stdout)}
    for name in DISTRIBUTIONS[1:]:
        assert found[name]["status"] == "active", found[name]


def test_quick_start_works_on_what_was_installed(tmp_path: Path) -> None:
    assert kessel("request", "addition", '{"operands": [1, 2]}', cwd=tmp_path).returncode == 0
    done = kessel("drain", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["success"] == 1


def test_demo_works_on_what_was_installed(tmp_path: Path) -> None:
    done = kessel("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2,922 observations" in done.stdout


def test_the_command_is_on_the_path_of_the_environment() -> None:
    assert shutil.which("kessel", path=str(Path(sys.executable).parent))


def test_each_adapter_ships_a_conformance_report_of_its_own_version(tmp_path: Path) -> None:
    done = kessel("adapters", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {adapter["distribution"]: adapter["conformance"] for adapter in json.loads(done.stdout)}
    backends = ("beanstalk", "memory", "postgres", "redis", "sqlite")
    assert set(found) == {f"kessel-{name}" for name in backends}
    for name, conformance in found.items():
        assert conformance["remarks"] == [], name
        assert conformance["report"]["passed"], name

"""What a distribution shows on an index page: its licence, and links that lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOOL: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "dist.py"))
PROJECTS: list[Path] = TOOL["projects"]()


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_each_distribution_has_the_licence_of_the_project(project: Path) -> None:
    assert (project / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_the_links_of_a_readme_become_addresses_of_files_of_the_repository(project: Path) -> None:
    folder = PurePosixPath(project.relative_to(ROOT).as_posix())
    text = (project / "README.md").read_text("utf-8")
    made = TOOL["absolute"](text, "https://kessel.example", folder)
    paths = re.findall(r"\]\(https://kessel\.example/blob/main/([^)#]+)", made)
    assert len(paths) == len(TOOL["_LINK"].findall(text))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_urls_name_the_readme_of_each_distribution_and_pages_that_exist() -> None:
    for project in PROJECTS:
        folder = PurePosixPath(project.relative_to(ROOT).as_posix())
        table = TOOL["urls"]("https://kessel.example", folder)
        for path in re.findall(r"/blob/main/([^\"]+)", table):
            assert (ROOT / path).exists(), path


def test_how_to_report_a_weakness_is_linked_from_the_first_page_and_from_the_docs() -> None:
    assert "](SECURITY.md)" in (ROOT / "README.md").read_text("utf-8")
    assert "](../../SECURITY.md)" in (ROOT / "docs" / "explanation" / "security.md").read_text("utf-8")
    assert "](../SECURITY.md)" in (ROOT / "docs" / "README.md").read_text("utf-8")

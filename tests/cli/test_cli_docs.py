"""The reference page of the command names every command, and every how-to that it links exists."""

from __future__ import annotations

import re
from pathlib import Path

from kessel_core.cli.root import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command.md"


def test_every_command_is_in_the_reference() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^\| `kessel ([a-z]+)`", text, re.M) == list(COMMANDS)


def test_every_linked_page_exists() -> None:
    for link in re.findall(r"\]\(([^)]+\.md)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / link).exists(), link


def test_readme_leads_to_every_how_to() -> None:
    root = PAGE.parents[2]
    text = (root / "README.md").read_text(encoding="utf-8")
    for page in (root / "docs" / "howto").glob("*.md"):
        assert f"docs/howto/{page.name}" in text, page.name

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

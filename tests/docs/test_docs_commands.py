"""Every `kessel` command in the docs exists, with each of its options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from kessel_core.cli.app import App
from kessel_core.cli.root import kessel

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")])


def commands(page: str) -> list[list[str]]:
    """The words of each command, from code in the text and from blocks."""
    inline = re.findall(r"`kessel ([^`\n]+)`", page)
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", page, re.M | re.S)
    lines = [found for block in blocks for found in re.findall(r"^(?:\$ )?kessel ([^|>\n]+)", block, re.M)]
    # A quotation that goes on in another line, or inside another command, is more than this looks at.
    whole = [line for line in [*inline, *lines] if line.count("'") % 2 == line.count('"') % 2 == 0]
    return [shlex.split(line, comments=True) for line in whole]


def mistake(words: list[str]) -> str | None:
    """What is wrong with a command, of which a part may be left out or written in capitals."""
    context = click.Context(kessel, obj=App())
    command: click.Command = kessel
    known = {"-h", "--help", *(name for parameter in kessel.params for name in parameter.opts)}
    for word in words:
        if word.startswith("-") and word != "-":
            if word.partition("=")[0] not in known:
                return f"no option {word}"
        elif isinstance(command, click.Group) and word.islower():
            found = command.get_command(context, word.partition("|")[0])
            if found is None:
                return f"no command {word}"
            command, context = found, click.Context(found, parent=context)
            known |= {name for parameter in command.params for name in parameter.opts}
    return None


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    wrong = {" ".join(words): mistake(words) for words in commands(page.read_text("utf-8"))}
    assert {text: why for text, why in wrong.items() if why is not None} == {}


def test_mistakes_are_found() -> None:
    assert mistake(["buried", "list", "--queue", "mail"]) is None
    assert mistake(["buried", "lst"]) == "no command lst"
    assert mistake(["worker", "--slotz", "2"]) == "no option --slotz"
    assert commands("`kessel stats --json`\n```console\n$ kessel drain  # all\n```\n") == [
        ["stats", "--json"],
        ["drain"],
    ]

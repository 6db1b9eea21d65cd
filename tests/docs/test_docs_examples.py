"""Every Python example of README.md and docs/ runs.

The blocks of one file run in order, in one module of their own and in an empty folder. Functions named
`test_...` that an example defines are called, too. `<!-- not run -->` on the line before a block leaves it
out; say why in the text if it is not plain.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?P<mark>^ *<!-- not run -->\s*\n)?^(?P<indent> *)```python *\n(?P<code>.*?)^(?P=indent)``` *$",
    re.M | re.S,
)
PAGES = sorted(
    page
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if page.exists() and "```python" in page.read_text("utf-8")
)


def blocks(page: Path) -> list[str]:
    """The code of a page, each block moved down to its line, so that tracebacks show the page."""
    text = page.read_text("utf-8")
    return [
        "\n" * text.count("\n", 0, found.start("code")) + textwrap.dedent(found["code"])
        for found in BLOCK.finditer(text)
        if found["mark"] is None
    ]


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("example_" + re.sub(r"\W", "_", page.relative_to(ROOT).as_posix()))
    monkeypatch.chdir(tmp_path)
    # A real module, because the annotations of classes and handlers are looked up in it.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for code in blocks(page):
        exec(compile(code, str(page), "exec", dont_inherit=True), vars(module))
    for name, value in list(vars(module).items()):
        if name.startswith("test_") and inspect.isfunction(value) and not inspect.signature(value).parameters:
            value()


def test_blocks_are_found_and_marks_are_kept(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\na = 1\n```\n\n<!-- not run -->\n```python\nb = 2\n```\n"
        "1. item\n\n   ```python\n   c = 3\n   ```\n```sh\nls\n```\n"
    )
    assert [code.strip() for code in blocks(page)] == ["a = 1", "c = 3"]
    assert blocks(page)[1].count("\n") == 12, "at its own line"


def test_every_block_of_a_page_is_seen() -> None:
    """A fence that the pattern misses would never run."""
    for page in PAGES:
        text = page.read_text("utf-8")
        assert len(re.findall(r"^ *```python", text, re.M)) == len(BLOCK.findall(text)), page

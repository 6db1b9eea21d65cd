"""Small modules (E1): a long one says why, where a reader meets it first."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = [
    path
    for folder in (ROOT / "kessel_core", *ROOT.glob("plugins/*/kessel_*"), *ROOT.glob("examples/*/kessel_*"))
    for path in folder.rglob("*.py")
]
LINES = {path: len(path.read_text("utf-8").splitlines()) for path in MODULES}


def test_e1_a_module_of_more_than_350_lines_says_why_in_its_docstring() -> None:
    silent = {
        path.relative_to(ROOT).as_posix(): count
        for path, count in LINES.items()
        if count > 350 and "350 lines" not in (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "")
    }
    assert silent == {}, "split it, or say in its docstring why it is longer than 350 lines"


def test_e1_half_of_all_modules_are_shorter_than_150_lines() -> None:
    assert statistics.median(LINES.values()) < 150

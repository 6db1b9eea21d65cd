"""Small faults for a module of kessel: those of `tests/conformance/mutation.py`, and the lines that run them.

What is only words is left alone: lines of the log for developers, and the texts of findings.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "conformance"))  # the tests are no package
from mutation import python_mutants  # noqa: E402
from text_mutation import sql_mutants  # noqa: E402

#: Calls whose arguments are for people.
_WORDS: Final = frozenset({"debug", "info", "warning", "error", "exception", "log", "Finding"})


@dataclass(frozen=True)
class Fault:
    """One change of one module."""

    #: The module, from the root of the repository.
    file: str
    #: The function or the class that it is in; empty: neither.
    symbol: str
    #: What is done, in a few words; with a number where that is not unique.
    what: str
    #: The lines of its statement, first and last, from 1.
    lines: tuple[int, int]
    #: Where the text stands, in bytes, and what stands there instead.
    start: int
    end: int
    text: str

    @property
    def name(self) -> str:
        """What it is called in lists; outlives changes elsewhere in the file."""
        return f"{self.file}:{self.symbol or 'module'}: {self.what}"

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return f"{self.file}:{self.lines[0]} {self.symbol or 'module'}: {self.what}"

    def applied(self, source: bytes) -> bytes:
        """Return the changed module."""
        return source[: self.start] + self.text.encode() + source[self.end :]


def faults_of(file: str) -> list[Fault]:
    """Return all faults of a module that can be compiled, in the order of its text."""
    source = (ROOT / file).read_bytes()
    tree = ast.parse(source)
    places = _Places(source)
    changes = list(python_mutants(source.decode(), thorough=True))
    if b"SELECT" in source:
        changes += sql_mutants(source.decode())
    seen: Counter[str] = Counter()
    found: list[Fault] = []
    known: set[tuple[int, int, str]] = set()
    for change in changes:
        lines = places.statement(tree, change.start)
        if lines is None or (change.start, change.end, change.text) in known:
            continue
        known.add((change.start, change.end, change.text))
        key = f"{change.symbol}: {change.what}"
        seen[key] += 1
        what = change.what if seen[key] == 1 else f"{change.what} #{seen[key]}"
        fault = Fault(file, change.symbol, what, lines, change.start, change.end, change.text)
        if _compiles(fault, source):
            found.append(fault)
    return found


def _compiles(fault: Fault, source: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as a text that is called
            compile(fault.applied(source), fault.file, "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


class _Places:
    """Finds the statement of a place in a source."""

    def __init__(self, source: bytes) -> None:
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _span(self, node: ast.expr | ast.stmt | ast.ExceptHandler) -> tuple[int, int]:
        return (
            self._starts[node.lineno - 1] + node.col_offset,
            self._starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0),
        )

    def statement(self, tree: ast.Module, offset: int) -> tuple[int, int] | None:
        """Return the lines of the innermost statement, of a block only its head; None: it is only words."""
        lines = (1, 1)
        for node in self._around(tree, offset):
            if isinstance(node, (ast.stmt, ast.ExceptHandler)):
                body = getattr(node, "body", None)
                last = body[0].lineno if body else node.end_lineno or node.lineno
                lines = (node.lineno, max(node.lineno, last - bool(body)))
            elif (
                isinstance(node, ast.Call)
                and _is_for_people(node)
                and (self._span(node)[0] < offset or _name(node) == "debug")
            ):
                return None
        return lines

    def _around(self, node: ast.AST, offset: int) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if hasattr(child, "lineno"):
                start, end = self._span(child)  # type: ignore[arg-type]
                if not start <= offset < end:
                    continue
                yield child
            yield from self._around(child, offset)


def _name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _is_for_people(node: ast.Call) -> bool:
    of_log = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "log"
    return _name(node) in _WORDS and (of_log or _name(node) == "Finding")

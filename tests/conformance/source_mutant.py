"""One mutant by hand: a few characters of one function of a real adapter, wherever that stands."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
from trial import PLANS, ROOT, Failure

__all__ = ["SourceMutant", "telling"]

#: How a failure begins to show the calls that led to it.
HISTORY: Final = "What happened, in seconds since the start:"


@attrs.frozen
class SourceMutant:
    """One change of one file."""

    #: `memory.lifo`: the adapter whose suite must fail, and what is wrong.
    name: str
    #: The clause that a failing case must name.
    clause: str
    #: Package and symbol, as in `kessel_memory:Store.put`: a function, a method, a constant, or a file of
    #: Lua or SQL.
    place: str
    #: What to change, once in that symbol, and into what.
    old: str
    new: str
    #: How such a mistake comes about.
    why: str

    @property
    def adapter(self) -> str:
        return self.name.partition(".")[0]

    @property
    def package(self) -> Path:
        folder = self.place.partition(":")[0]
        if folder == "kessel_core":
            return ROOT / folder
        return next(ROOT.glob(f"[pe]*/{folder}/{folder}"))  # plugins or examples

    def changed(self) -> tuple[Path, str]:
        """Return the file that holds the symbol, within the package, and its changed source.

        Raises:
            ValueError: The symbol, or the text in it, is not there exactly once; the table follows the code.
        """
        symbol = self.place.partition(":")[2]
        found: list[tuple[Path, str, int, int]] = []
        if symbol.endswith((".lua", ".sql")):
            source = (self.package / symbol).read_text(encoding="utf-8")
            found.append((self.package / symbol, source, 0, len(source.splitlines())))
        for file in sorted(self.package.rglob("*.py")):
            source = file.read_text(encoding="utf-8")
            found += [(file, source, *lines) for name, lines in symbols(ast.parse(source)) if name == symbol]
        if len(found) != 1:
            raise ValueError(
                f"{self.name}: {symbol} is {len(found)} times in {self.package.name}, expected once"
            )
        file, source, first, last = found[0]
        lines = source.splitlines(keepends=True)
        text = "".join(lines[first:last])
        if (count := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.name}: its text is {count} times in {self.place}, expected once: {self.old!r}"
            )
        changed = [*lines[:first], text.replace(self.old, self.new), *lines[last:]]
        return file.relative_to(self.package), "".join(changed)


def symbols(node: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield functions, methods and constants of a module, each with its first line and the one after it."""
    for part in node.body:
        match part:
            case ast.ClassDef():
                yield from symbols(part, f"{prefix}{part.name}.")
            case ast.FunctionDef():
                yield prefix + part.name, (part.lineno - 1, part.end_lineno or 0)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                yield prefix + name, (part.lineno - 1, part.end_lineno or 0)


def telling(mutant: SourceMutant, failures: Sequence[Failure]) -> list[Failure]:
    """Return those failures that name the clause and show what happened; the clearest first."""
    good = [f for f in failures if f.text.startswith(f"{mutant.clause}: ") and HISTORY in f.text]
    return sorted(good, key=lambda failure: (failure.case == PLANS, len(failure.text)))

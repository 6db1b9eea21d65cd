"""Find all circular imports in the core and in each plugin, and print each as a path.

Imports inside functions and for type checking count: two modules that need each other have to be read
together, whenever Python loads them.

Usage: python tools/check_imports.py [FOLDER ...]
"""

from __future__ import annotations

import ast
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

Graph = dict[str, set[str]]


def modules(package: Path) -> dict[str, Path]:
    """Return the modules of a package by name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the known modules that a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], *base.split(".")]).rstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in known:
                    yield inner
                elif base in known:
                    yield base


def graph_of(package: Path) -> Graph:
    """Return what each module of a package imports from the same package."""
    known = modules(package)
    return {name: set(imported(name, path, known)) - {name} for name, path in known.items()}


def circles(graph: Graph) -> list[list[str]]:
    """Return the shortest circle through each import that is part of a circle, without duplicates."""
    found: dict[frozenset[str], list[str]] = {}
    for importer, imports in sorted(graph.items()):
        for first in sorted(imports):
            back = _path(graph, first, importer)
            if back:
                found.setdefault(frozenset(back), [importer, *back])
    return list(found.values())


def _path(graph: Graph, start: str, end: str) -> list[str]:
    """Return the shortest path along imports; empty if there is none."""
    came_from = {start: ""}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        if here == end:
            path = [here]
            while came_from[path[0]]:
                path.insert(0, came_from[path[0]])
            return path
        for there in sorted(graph[here] - came_from.keys()):
            came_from[there] = here
            waiting.append(there)
    return []


def problems(packages: list[Path]) -> Iterator[str]:
    """Yield a line for each circle."""
    for package in packages:
        yield from (" -> ".join(circle) for circle in circles(graph_of(package)))


if __name__ == "__main__":
    default = [ROOT / "kessel_core", *(path / path.name for path in sorted(ROOT.glob("plugins/kessel_*")))]
    lines = list(problems([Path(given).resolve() for given in sys.argv[1:]] or default))
    print("\n".join(lines) if lines else "No import circles.")
    sys.exit(bool(lines))

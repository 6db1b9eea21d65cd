"""What plugins, templates and examples take from the core is on one of the public lists (E3)."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: The lists, and the module of strategies that `kessel_core.testing` leads to, because it needs hypothesis.
PUBLIC = (
    "kessel_core",
    "kessel_core.contract",
    "kessel_core.hooks",
    "kessel_core.testing",
    "kessel_core.testing.strategies",
)

#: File -> private modules that it may import all the same, because it proves the core itself.
ALLOWED: dict[str, set[str]] = {}

#: File -> private modules that it still imports. Entries may only be removed: what a plugin or an
#: example needs has to be put on a public list on purpose, or the need has to go.
KNOWN: dict[str, set[str]] = {
    "plugins/kessel_conformance/kessel_conformance/handler_suite.py": {"kessel_core.model.json"},
    "plugins/kessel_conformance/kessel_conformance/harness_base.py": {"kessel_core.values.options"},
    "plugins/kessel_conformance/kessel_conformance/stores/child.py": {"kessel_core.values.options"},
    "plugins/kessel_conformance/kessel_conformance/runner.py": {"kessel_core.values.nearest"},
}


def programs() -> Iterator[tuple[str, str]]:
    """Yield file and text of what stands for code outside of the core; tests of plugins may look inside."""
    for path in sorted([*(ROOT / "plugins").rglob("*"), *(ROOT / "examples").rglob("*")]):
        if path.suffix in (".py", ".tmpl") and not {"tests", ".venv", "build"} & set(path.parts):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for path in sorted(
        [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("plugins/*/README.md")]
    ):
        for block in re.findall(r"^ *```(?:python|pycon)\n(.*?)^ *```", path.read_text("utf-8"), re.M | re.S):
            yield (
                path.relative_to(ROOT).as_posix(),
                re.sub(r"^(>>>|\.\.\.) ?", "", textwrap.dedent(block), flags=re.M),
            )


def imports(text: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import from the core; of a template, too, which is not yet Python."""
    for statement in re.findall(
        r"^ *((?:from|import) +kessel_core[\w.]*(?: +import +(?:\([^)]*\)|.*))?)", text, re.M
    ):
        (node,) = ast.parse(statement).body
        if isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def is_public(module: str, name: str) -> bool:
    return module in PUBLIC and (not name or name in import_module(module).__all__)


def test_plugins_templates_and_examples_import_public_names_only() -> None:
    """If an entry of KNOWN is no longer needed, remove it; add none."""
    private: dict[str, set[str]] = {}
    for file, text in programs():
        for module, name in imports(text):
            if not is_public(module, name) and module not in ALLOWED.get(file, ()):
                private.setdefault(file, set()).add(f"{module}.{name}" if module in PUBLIC else module)
    assert private == KNOWN

"""Write docs/reference/hooks.md from the docstrings of `kessel_core.hooks.specs`.

Usage: python tools/docs_hooks.py
"""

from __future__ import annotations

import inspect
from pathlib import Path

from kessel_core.hooks import specs
from kessel_core.plugins.discovery import HOOKS

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "hooks.md"


def page() -> str:
    """Return the text of the page."""
    intro = (inspect.getdoc(specs) or "").partition("\n")[2].strip()
    parts = [
        "# Hooks",
        intro,
        "Written by `tools/docs_hooks.py` from the docstrings of `kessel_core.hooks.specs`.",
    ]
    ordered = sorted(HOOKS, key=lambda name: getattr(specs, name).__code__.co_firstlineno)
    for name in ordered:
        spec = getattr(specs, name)
        arguments = ", ".join(inspect.signature(spec).parameters)
        returns = spec.__annotations__.get("return", "None")
        first = "; the first answer that is not None counts" if spec.kessel_spec["firstresult"] else ""
        parts += [f"## {name}({arguments})", f"Returns `{returns}`{first}.", inspect.getdoc(spec) or ""]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""Features of the core that are written against the public hooks, like any other plugin (D2)."""

from __future__ import annotations

from typing import Final

__all__ = ["BUILTIN"]

#: Built-in plugins: name -> module; registered before the plugins of other distributions.
BUILTIN: Final = {
    "logging": "kessel_core.features.logging",
}

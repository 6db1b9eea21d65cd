"""What the core does itself, written against hooks as anybody's plugin (D2)."""

from __future__ import annotations

from typing import Final

__all__ = ["BUILTIN"]

#: Plugins of the core: name -> module; registered before the plugins of other distributions.
BUILTIN: Final = {
    "logging": "kessel_core.features.logging",
}

"""The hooks of kessel, for authors of plugins: what a plugin can offer, go around, and watch (D1)."""

from __future__ import annotations

from kessel_core.hooks.specs import GROUP, hookimpl, hookspec

__all__ = ["GROUP", "hookimpl", "hookspec"]

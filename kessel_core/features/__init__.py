"""The built-in middleware and the retry policy, written as plugins like anybody's (D2)."""

from __future__ import annotations

from typing import Final

__all__ = ["BUILTIN"]

#: Plugin name -> module; registered before the plugins of other distributions.
BUILTIN: Final = {
    "logging": "kessel_core.features.logging",
    "expiry": "kessel_core.features.expiry",
    "retry": "kessel_core.features.retry",
}

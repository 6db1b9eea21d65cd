"""The built-in middleware and the retry policy, written as plugins like anybody's (D2)."""

from __future__ import annotations

from typing import Final

__all__ = ["BUILTIN"]

#: Plugin name -> module; registered before the plugins of other distributions.
BUILTIN: Final = {
    "logging": "kessel_core.middleware.logging",
    "expiry": "kessel_core.middleware.expiry",
    "retry": "kessel_core.middleware.retry",
}

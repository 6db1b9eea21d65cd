"""Makes configured values printable."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Final

from kessel_core.values.durations import duration_text
from kessel_core.values.secrets import HIDDEN, is_secret, redacted

__all__ = ["shown"]

#: How keys that sign webhooks begin. They are so often written one table too high that no name tells of them.
_KEY: Final = "whsec_"


def shown(name: str, value: object) -> object:
    """Return a value that is safe to print as JSON: secrets hidden, durations as text."""
    if is_secret(name.rpartition(".")[2]) and value not in (None, ""):
        return HIDDEN
    if isinstance(value, Mapping):
        return {str(key): shown(str(key), inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(name, inner) for inner in value]
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str):
        return HIDDEN if _KEY in value else redacted(value)
    # TOML has dates and times, which JSON has not.
    return value if value is None or isinstance(value, (int, float)) else str(value)

"""The long fault tests: how large a run is, and its seed, in one place."""

from __future__ import annotations

import os
import random
from typing import Final

__all__ = ["IS_LARGE", "drawn_seed"]

#: Whether this is the run of a release, `make chaos`; all others are small.
IS_LARGE: Final = os.environ.get("KESSEL_CHAOS") == "1"


def drawn_seed() -> int:
    """Return what `KESSEL_SEED` says, so that a run can be repeated, or a new seed; and print it."""
    number = int(os.environ.get("KESSEL_SEED") or random.SystemRandom().randrange(10**6))
    print(f"KESSEL_SEED={number}")
    return number

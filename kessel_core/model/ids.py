"""Job ids: UUIDv7 (RFC 9562), generated in the process."""

from __future__ import annotations

import os
import random
from datetime import datetime
from typing import Final

__all__ = ["new_id"]


# A generator of our own, seeded by the system: drawing from it costs a tenth of a system call, and the
# application may reseed the shared one. A forked child must not repeat its parent's ids.
_random: Final = random.Random()  # noqa: S311  # ids are unique, not secret


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def new_id(now: datetime) -> str:
    """Return a UUIDv7 as text: 48 bits of milliseconds, then 74 random bits (RFC 9562, 5.7).

    Ids of different milliseconds sort by time; within one they are random. They are unique, not
    secret: anyone who knows some can guess others.

    Args:
        now: The time to encode; aware, from 1970 to 9999.
    """
    # By hand because the standard library has uuid7 only from 3.14, and uuid.UUID objects cost
    # more than the rest of a request.
    milliseconds = int(now.timestamp() * 1000)
    drawn = _random.getrandbits(74)
    return "%08x-%04x-7%03x-%04x-%012x" % (  # noqa: UP031  # faster than an f-string
        milliseconds >> 16,
        milliseconds & 0xFFFF,
        drawn >> 62,
        0x8000 | drawn >> 48 & 0x3FFF,
        drawn & 0xFFFF_FFFF_FFFF,
    )

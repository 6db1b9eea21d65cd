"""When a delivery is tried again: the times of Standard Webhooks 1.0.0, with jitter.

Pure; randomness is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

__all__ = ["ATTEMPTS", "asked_pause", "pause_after"]

#: The pause after each attempt but the last.
_PAUSES: Final = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
#: After so many attempts a delivery is given up.
ATTEMPTS: Final = len(_PAUSES) + 1

#: A pause is longer or shorter by up to this part of it, so that what failed together is not tried together.
_JITTER: Final = 0.2
#: The longest pause that an endpoint may ask for.
_LONGEST: Final = timedelta(hours=24)


def pause_after(attempt: int, draw: Callable[[], float], asked: timedelta | None = None) -> timedelta:
    """Return the pause after an attempt that failed.

    Args:
        attempt: Its number, from 1; numbers past the last one count as the last.
        draw: Returns numbers in [0, 1), like `random.random`.
        asked: The pause that the endpoint asked for, if it did; it counts if it is longer.
    """
    pause = _PAUSES[min(max(attempt, 1), len(_PAUSES)) - 1] * (1 - _JITTER + 2 * _JITTER * draw())
    return pause if asked is None else max(pause, min(asked, _LONGEST))


def asked_pause(retry_after: str | None, now: datetime) -> timedelta | None:
    """Return the pause that a header `Retry-After` asks for: seconds or a date; None: none that can be read.

    Args:
        retry_after: The value of the header; None: there is none.
        now: The current time; aware.
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]+", text):
        # Ten digits are 31 years at least: those behind them, of which there may be thousands, do not matter.
        return timedelta(seconds=int(text.lstrip("0")[:10] or "0"))
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000" says that the zone is not known
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta(0))

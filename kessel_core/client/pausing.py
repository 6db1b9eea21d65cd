"""Pauses a queue for as long as something is done to it."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final

from kessel_core.clock import SystemClock
from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.facets import Pause
from kessel_core.model.settlement import NO_PAUSE

__all__ = ["Paused"]

#: How long a queue is paused, in seconds; short, so that a move that was killed does not stop it for long.
_PAUSE: Final = (30.0, 60.0)
#: Seconds after which a pause is renewed.
_RENEWED: Final = 5.0
#: Largest difference between two readings of one pause: servers have their own clock, and whole seconds.
_SAME_PAUSE: Final = timedelta(seconds=2)


class Paused:
    """A queue that delivers nothing, if its adapter can be paused; afterwards it is as it was before."""

    def __init__(self, adapter: QueueAdapter, queue: str) -> None:
        self._adapter = adapter
        self._queue = queue
        self._facet = adapter.facet(Pause)
        self._clock = SystemClock()
        self._renewed = self._clock.monotonic()
        # A random length, so that another adapter shows the same pause only if it is the same queue.
        self._length = timedelta(seconds=random.uniform(*_PAUSE))  # noqa: S311 - no secret
        #: The rest of its own pause at the beginning, and when that was; None: it had none.
        self._before: timedelta | None = None
        self._begun = 0.0
        #: Whether a pause had ended when it was renewed, because a call took so long.
        self._has_lapsed = False

    @property
    def is_there(self) -> bool:
        """Whether the queue is really paused."""
        return self._facet is not None

    @property
    def has_held(self) -> bool:
        """Whether the queue was paused all the time since the beginning, as far as can be known here."""
        return self._facet is not None and not (self._has_lapsed or self._is_over())

    def _is_over(self) -> bool:
        return self._clock.monotonic() - self._renewed >= self._length.total_seconds()

    def __enter__(self) -> Paused:
        if self._facet is not None:
            self._before = self._adapter.stats(self._queue).paused
            self._begun = self._clock.monotonic()
            # Killed, it leaves at least the pause that was there; still one that shows which queue it is.
            self._length += self._before or NO_PAUSE
            self._facet.pause(self._queue, self._length)
        return self

    def __exit__(self, *_: object) -> None:
        if self._facet is not None:
            # Its own pause went on meanwhile, and may be over.
            passed = timedelta(seconds=self._clock.monotonic() - self._begun)
            rest = NO_PAUSE if self._before is None else self._before - passed
            self._facet.pause(self._queue, max(rest, NO_PAUSE))

    def renew(self) -> None:
        """Keep it paused; called again and again."""
        if self._facet is not None and self._clock.monotonic() - self._renewed > _RENEWED:
            # The call may take long, and nobody knows when in it the pause began anew.
            begun = self._clock.monotonic()
            self._facet.pause(self._queue, self._length)
            self._has_lapsed = self._has_lapsed or self._is_over()
            self._renewed = begun

    def shows_in(self, other: QueueAdapter) -> bool:
        """Whether this very pause shows in another adapter."""
        here, there = (adapter.stats(self._queue).paused for adapter in (self._adapter, other))
        return here is not None and there is not None and abs(here - there) <= _SAME_PAUSE

"""Reserves whose answers were lost: what they may have taken is given back, and does not wait for its lease.

Who draws a token for each reserve before sending it knows under which token a job may be held, although not
which job. So once the backend can be reached again it is asked to make ready what is held under that token,
as if it had never been taken. A token is random and for one reserve only: whatever is held under another one,
by whomever and however long, is not touched.

The backend may carry the reserve out later than it is asked: the process of a server still works on it, or
the command waits in the buffer of a connection that is dead. So it is asked again, after pauses that grow,
until the job is found, or until what the reserve has taken could not be held any longer.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Final

import attrs

from kessel_core.clock import Clock
from kessel_core.errors import AdapterError

__all__ = ["LostReserve", "LostReserves", "new_token"]

#: Seconds between the first two times that the backend is asked for one reserve; then always twice as many.
_PAUSE: Final = 0.5

#: Seeded by the system, and again in a forked child, so that no two processes agree.
_tokens: Final = random.Random()  # noqa: S311 - tokens protect against accidents, they are not secret
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tokens.seed)


def new_token() -> int:
    """Return a random number of 62 bits, the token of a new delivery. Thread-safe, after a fork as well."""
    return _tokens.getrandbits(62)


@attrs.define(eq=False)
class LostReserve:
    """A reserve that may have been carried out, and whose answer was lost."""

    #: What it has taken is held under this token.
    token: int
    #: What it has taken is in one of these queues.
    queues: tuple[str, ...]
    #: When what it has taken is held no more, in seconds of the monotonic clock.
    until: float
    #: When to ask for it the next time, in the same seconds.
    again: float
    #: Seconds from then until the time after.
    pause: float = _PAUSE


class LostReserves:
    """Asks for what lost reserves may have taken. Thread-safe; a forked child may keep using it.

    It holds no lock, so none can be left behind by a fork, and two threads may ask for the same reserve: the
    second finds nothing.

    Args:
        clock: The application's.
        lease: How long a reserve holds what it takes.
        give_back: Makes ready again what is held under the tokens of some reserves, without counting the
            delivery, and wakes whoever waits for it; returns the tokens under which something was held.
            Raises the errors of the contract.
    """

    def __init__(
        self,
        clock: Clock,
        lease: timedelta,
        give_back: Callable[[Sequence[LostReserve]], Collection[int]],
    ) -> None:
        self._clock = clock
        self._lease = lease.total_seconds()
        self._give_back = give_back
        #: By token; each change of it is one step of the interpreter.
        self._lost: dict[int, LostReserve] = {}

    def add(self, token: int, queues: tuple[str, ...]) -> None:
        """Add a reserve whose answer was lost just now; the next `ask` asks for it.

        Args:
            token: What it has taken is held under.
            queues: Those that it was to take from.
        """
        now = self._clock.monotonic()
        # If it is carried out late, then before now as a rule.
        self._lost[token] = LostReserve(token, queues, now + self._lease, now)

    def ask(self) -> None:
        """Ask for the reserves whose time it is; call it before each take. Costs nothing where none is lost.

        Raises:
            AdapterError: The backend cannot be reached, or refuses; the next call asks again.
        """
        if self._lost:
            now = self._clock.monotonic()
            self._ask([one for one in list(self._lost.values()) if one.again <= now])

    def ask_quietly(self, *, every: bool = False) -> None:
        """Ask as `ask` does; an error only means that the next call asks again.

        Args:
            every: Ask for all of them, whether it is their time or not: it is the last chance.
        """
        if not self._lost:
            return
        try:
            if every:
                self._ask(list(self._lost.values()))
            else:
                self.ask()
        except AdapterError:
            pass  # what is not given back comes back when its lease ends

    @property
    def next_ask(self) -> timedelta | None:
        """After which span whoever waits for a job should call `ask`; zero or more, None: never."""
        if not self._lost:
            return None
        first = min((one.again for one in list(self._lost.values())), default=None)
        return None if first is None else timedelta(seconds=max(0.0, first - self._clock.monotonic()))

    def _ask(self, lost: Sequence[LostReserve]) -> None:
        if not lost:
            return
        now = self._clock.monotonic()
        for one in lost:  # first, so that others need not ask for the same meanwhile
            one.again = now + one.pause
        try:
            found = self._give_back(lost)
        except BaseException:
            for one in lost:
                one.again = now
            raise
        for one in lost:
            one.pause *= 2
            if one.token in found or now >= one.until:
                self._lost.pop(one.token, None)

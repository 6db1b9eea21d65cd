"""What one seed decides: the order of turns, and where something goes wrong.

Places where something may go wrong are numbered in the order in which they are reached. What happens at a
place depends on the seed and its number alone, so a run can be repeated with some of them left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from enum import StrEnum
from random import Random
from typing import Final, NamedTuple

import attrs

__all__ = ["Chances", "Fault", "Mishap", "Seed"]

_LONGEST_PAUSE: Final = 90.0
#: How far the wall clock may be off, in seconds.
_MOST_WRONG: Final = 3600.0
#: Less is drift, which is another matter: adapters need not follow it.
_SHORTEST_JUMP: Final = timedelta(seconds=2)


def _places(only: Iterable[int] | None) -> frozenset[int] | None:
    return None if only is None else frozenset(only)


@attrs.frozen
class Seed:
    """The number that decides all of a run of a simulation.

    Example:
        >>> Seed(17, only=[340, 212])
        Seed(17, only=(212, 340))
    """

    #: Any number.
    number: int = attrs.field(validator=attrs.validators.instance_of(int))
    #: Where something may go wrong, as a failure has printed it; None: wherever the number says.
    only: frozenset[int] | None = attrs.field(default=None, converter=_places)

    def __repr__(self) -> str:
        if self.only is None:
            return f"Seed({self.number})"
        places = ", ".join(map(str, sorted(self.only)))
        return f"Seed({self.number}, only=({places}{',' * (len(self.only) == 1)}))"

    def random(self, what: object) -> Random:
        """Return a generator of its own for one purpose; `Random.random` is the same on every Python."""
        return Random(f"{self.number}/{what}")  # noqa: S311  # to be repeated, not to be secret


class Fault(StrEnum):
    """How a call of the queue or the store goes wrong."""

    #: It is not made.
    REFUSED = "not sent"
    #: It is made, and the answer is lost.
    LOST = "answer lost"
    #: It is made after a while.
    SLOW = "sent late"
    #: It is made, and the answer takes a while.
    LATE = "answered late"


_FAULTS: Final = tuple(Fault)


class Mishap(NamedTuple):
    """What goes wrong at one place."""

    #: Its number.
    place: int
    #: The fault of a call.
    fault: Fault
    #: How long it takes, or how far the wall clock jumps, in seconds.
    seconds: float


class Chances:
    """Draws what goes wrong.

    Args:
        seed: Decides.
        deaths: The chance that a process dies, at each place where it may.
        faults: The chance that a call goes wrong.
        jumps: The chance that the wall clock jumps when time moves.
        stops: The chance that a process is stopped, in each minute.
    """

    def __init__(self, seed: Seed, deaths: float, faults: float, jumps: float, stops: float) -> None:
        self._seed = seed
        self._deaths, self._faults, self._jumps, self._stops = deaths, faults, jumps, stops
        self._draws = seed.random("mishaps")
        self._place = 0
        #: Where something went wrong.
        self.hits: list[int] = []

    def death(self) -> int | None:
        """Return the number of this place if a process dies here."""
        return self._hit(self._deaths)

    def fault(self) -> Mishap | None:
        """Return what goes wrong with a call."""
        place = self._hit(self._faults)
        if place is None:
            return None
        random = self._seed.random(place).random
        # Most are short; some outlast a lease.
        return Mishap(place, _FAULTS[int(random() * len(_FAULTS))], random() ** 2 * _LONGEST_PAUSE)

    def jump(self, wrong: timedelta) -> tuple[int, timedelta] | None:
        """Return how far the wall clock jumps.

        Args:
            wrong: How far it is ahead of the truth; it is never wrong by more than an hour.
        """
        place = self._hit(self._jumps)
        if place is None:
            return None
        draw = self._seed.random(place).random() * 2 - 1
        span = timedelta(seconds=round(draw**3 * _MOST_WRONG, 3)) - wrong
        return place, span if abs(span) >= _SHORTEST_JUMP else _SHORTEST_JUMP

    def stop(self) -> int | None:
        """Return the number of this place if a process is stopped here."""
        return self._hit(self._stops)

    def _hit(self, chance: float) -> int | None:
        self._place += 1
        hit = self._draws.random() < chance
        only = self._seed.only
        if not hit or (only is not None and self._place not in only):
            return None
        self.hits.append(self._place)
        return self._place

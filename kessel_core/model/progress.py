"""How far a running job is, as its handler says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

import attrs

__all__ = ["Progress"]

#: Longest note, in characters; the rest is cut.
LONGEST_NOTE: Final = 200
#: Larger numbers are a mistake; some readers of JSON would round them, too.
LARGEST: Final = 10**18


@attrs.frozen(kw_only=True)
class Progress:
    """How far a running job is, as its handler said last. Thread-safe."""

    #: What is done, in units of the handler's own; from zero to 10**18.
    done: float
    #: All that there is to do, in the same units, zero or more; None: not known. `done` may be beyond it,
    #: where it was an estimate.
    total: float | None = None
    #: What it is about, in words meant for people; at most 200 characters.
    note: str = ""
    #: When the handler said so; aware.
    at: datetime

    @property
    def share(self) -> float | None:
        """What is done of the total, from 0.0 to 1.0; None: the total is not known."""
        if self.total is None:
            return None
        return min(self.done / self.total, 1.0) if self.total else 1.0  # of nothing all is done

    def __str__(self) -> str:
        text = f"{self.done:,}"
        if self.total is not None:
            text += f" of {self.total:,} ({_percent(self.done, self.total)} %)"
        return f"{text}, {self.note}" if self.note else text

    @classmethod
    def checked(cls, done: object, total: object, note: object, at: datetime) -> Progress:
        """Make one of what a handler gave; a note that is too long is cut.

        Raises:
            ValueError: Something else cannot be; names every mistake.
        """
        numbers = {"done": _number(done), "total": None if total is None else _number(total)}
        problems = list(_problems(numbers, done, total, note))
        if problems:
            raise ValueError(f"progress: {'; '.join(problems)}")
        # What cannot be written in UTF-8 must not cost the job its report.
        text = str(note)[:LONGEST_NOTE].encode("utf-8", "replace").decode()
        return cls(done=numbers["done"] or 0, total=numbers["total"], note=text, at=at)


def _percent(done: float, total: float) -> int:
    """Return the whole per cent that are done, of the numbers as they are written: 0.29 of 1 is 29."""
    from fractions import Fraction  # only where somebody looks

    if not total:
        return 100
    return min(int(Fraction(str(done)) * 100 / Fraction(str(total))), 100)


def _number(given: object) -> float | None:
    """Return a plain number that JSON can write, also of a number of numpy; None if it is none."""
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        number: float = given
    else:
        from numbers import Integral, Real

        if isinstance(given, bool) or not isinstance(given, Real):
            return None
        number = int(given) if isinstance(given, Integral) else float(given)
    return number if -LARGEST <= number <= LARGEST else None  # nor is it NaN


def _problems(numbers: dict[str, float | None], done: object, total: object, note: object) -> Iterator[str]:
    if (number := numbers["done"]) is None or number < 0:
        yield f"done must be a number from 0 to 10**18, got {_shown(done)}"
    if total is not None and ((number := numbers["total"]) is None or number < 0):
        yield f"total must be a number from 0 to 10**18, or None, got {_shown(total)}"
    if not isinstance(note, str):
        yield f"note must be text, got {_shown(note)}"


def _shown(given: object) -> str:
    if isinstance(given, int) and abs(given) > LARGEST:
        return "a larger one"  # Python may refuse to write it
    return f"{given!r:.60}" if isinstance(given, (int, float, str)) else type(given).__name__

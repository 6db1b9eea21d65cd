"""A dict that nobody can change: what values hold where others would put a plain dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar

__all__ = ["EMPTY", "ReadOnlyDict", "read_only"]

K = TypeVar("K")
V = TypeVar("V")


class ReadOnlyDict(dict[K, V]):
    """A dict whose content is fixed when it is made; copies and pickles as itself.

    A subclass of dict, because JSON writers and `**` take nothing else.
    """

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this mapping cannot be changed; make another one, as {**mapping, key: value}")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[ReadOnlyDict[K, V]], tuple[dict[K, V]]]:
        return type(self), (dict(self),)

    def __copy__(self) -> ReadOnlyDict[K, V]:
        return self


#: Shared by all values that hold nothing; nobody can put anything into it.
EMPTY: Final[ReadOnlyDict[str, Any]] = ReadOnlyDict()


def read_only(given: Any) -> Any:
    """Return a mapping as one that cannot be changed; what is no mapping is left for the checks."""
    if type(given) is ReadOnlyDict:
        return given
    return ReadOnlyDict(given) if isinstance(given, Mapping) else given

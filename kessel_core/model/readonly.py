"""A dict that cannot be changed; frozen values hold it instead of a plain dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar

__all__ = ["EMPTY", "ReadOnlyDict", "read_only"]

K = TypeVar("K")
V = TypeVar("V")


class ReadOnlyDict(dict[K, V]):
    """A dict whose content is fixed when it is created; copies and pickles keep the type.

    A subclass of dict, because the JSON encoder accepts no other mapping.
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


#: Shared by all values without entries; safe to share, because it cannot be changed.
EMPTY: Final[ReadOnlyDict[str, Any]] = ReadOnlyDict()


def read_only(given: Any) -> Any:
    """Return a read-only copy of a mapping; anything else is returned as it is, for the checks to refuse."""
    if type(given) is ReadOnlyDict:
        return given
    return ReadOnlyDict(given) if isinstance(given, Mapping) else given

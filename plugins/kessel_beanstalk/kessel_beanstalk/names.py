"""The names of jobs: their own ids if known, else the server's numbers.

beanstalkd identifies jobs by its own numbers. The numbers of jobs that this process has put, listed or read
about recently are remembered, so that an operation on one of them need not search for it.
"""

from __future__ import annotations

import re
from typing import Final, Generic, TypeVar

from kessel_core.contract import head_of

__all__ = ["Names", "number_named"]

K = TypeVar("K")
V = TypeVar("V")
_MOST_PUT: Final = 10_000
#: More, because people act on the jobs that they have listed.
_MOST_SHOWN: Final = 200_000
_NUMBER_NAME: Final = re.compile(r"@[0-9]{1,20}")


def number_named(name: str) -> int | None:
    """Return the server's number that a name such as `@17` stands for, or None."""
    if _NUMBER_NAME.fullmatch(name) is None:
        return None
    number = int(name[1:])
    return number if number < 2**64 else None


class _Recent(Generic[K, V]):
    """A mapping that forgets the older half when it is full."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def set(self, key: K, value: V) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def get(self, key: K) -> V | None:
        found = self._young.get(key)
        return found if found is not None else self._old.get(key)


class Names:
    """Names and numbers of recent jobs; only hints, which the caller must check. Thread-safe."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all, because the server was restarted and may use the numbers again."""
        self._put_numbers = _Recent[str, int](_MOST_PUT)
        self._put_names = _Recent[int, str](_MOST_PUT)
        self._shown = _Recent[str, int](_MOST_SHOWN)

    def was_put(self, name: str, server_id: int) -> None:
        """Remember a job that this process has put; not by a name that stands for a number of the server."""
        if number_named(name) is not None:
            return
        self._put_numbers.set(name, server_id)
        self._put_names.set(server_id, name)

    def was_shown(self, name: str, server_id: int) -> None:
        """Remember a job that was listed."""
        self._shown.set(name, server_id)

    def numbers(self, name: str) -> list[int]:
        """Return the remembered numbers that a job may have."""
        found = (self._put_numbers.get(name), self._shown.get(name))
        return [number for number in found if number is not None]

    def name(self, server_id: int, body: bytes) -> str:
        """Return the name of a job: the id in its body, else the one it was put with, else `@<number>`."""
        head = head_of(body)
        return self.name_by(server_id, head.id if head is not None else "")

    def name_by(self, server_id: int, own: str) -> str:
        """Return the name of a job whose body has the id `own`; "" for none."""
        if own and (own[0] != "@" or number_named(own) is None):  # else it would stand for another job
            return own
        return self._put_names.get(server_id) or f"@{server_id}"

"""The contract of a store: small facts beside the jobs, such as results and entries about workers.

An adapter may offer a store as a facet; others are opened by a URL of their own, so that every queue can
have one. A third party derives from `Store`, and implements the methods that end in `_entry` or `_entries`;
the public ones check their arguments first, so one rule holds everywhere.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Protocol
from urllib.parse import SplitResult

import attrs

from kessel_core.clock import Clock, plain_span
from kessel_core.contract.facets import Facet
from kessel_core.contract.promises import Durability, Reach, declared_of
from kessel_core.contract.spec import AdapterContext, unknown_place
from kessel_core.contract.url import url_options
from kessel_core.errors import CapabilityMissing, StoreRejected
from kessel_core.model.names import space_name_problem
from kessel_core.model.settlement import NO_PAUSE
from kessel_core.values.secrets import quoted

__all__ = ["SET_A_STORE", "Entry", "Store", "StoreCapabilities", "StoreSpec", "key_problem", "no_store"]

#: What to do where there is none.
SET_A_STORE: Final = 'set store to a URL, for example store = "sqlite:///kessel-store.db"'

#: A key is at most this long, in characters: an id of a job, and something before it.
LONGEST_KEY: Final = 300
#: The most entries that one `scan` returns.
LARGEST_PAGE: Final = 1000
#: How often the default of `wait` looks, in seconds: soon enough for people, and cheap.
_POLL: Final = 0.05


@attrs.frozen
class Entry:
    """One entry of a store, as it was when it was read."""

    #: Its key; unique in its space.
    key: str
    #: Positive; greater than every version that this key had before, also before it was deleted or expired.
    version: int
    #: What was put.
    value: bytes
    #: When it ends; aware; None: never.
    expires_at: datetime | None = None


@attrs.frozen(kw_only=True)
class StoreCapabilities:
    """What a store promises, with values that the conformance suite tests."""

    #: Who can see the entries.
    reach: Reach
    #: What an acknowledged put survives (S19).
    durability: Durability = Durability.NONE
    #: `wait` is woken by a put or a delete, whoever made it; it does not poll.
    wakes: bool = False
    #: Longest value in bytes; None: no limit.
    max_value_bytes: int | None = None
    #: All time comes from the clock in `AdapterContext`, so that tests can move it (S18). Otherwise
    #: expiry is measured by the backend's clock.
    virtual_time: bool = False

    def declared(self) -> tuple[str, ...]:
        """Return the names of what is declared, in the order of the fields."""
        return declared_of(self)


class Wakeable(Protocol):
    """Who waits in a line, such as a `Waiter`."""

    #: Guards `woken`, and is notified when that is set; `Store.wait_woken` sleeps on it.
    condition: threading.Condition
    #: Whether it was told to look again.
    woken: bool


class Store(Facet):
    """Entries in spaces, each with a version (S19). Thread-safe.

    Every method raises the `AdapterError` tree only: `StoreRejected` for a space, key or value that it does
    not take, `AdapterUnavailable` if the backend cannot be reached (nothing was written), `StoreUnknown` if
    the connection was lost after a write was sent.

    Args:
        clock: The application's clock; the default of `wait` sleeps by it.
    """

    facet_name: ClassVar[str] = "store"
    #: The same as `StoreSpec.name`, or the adapter's name; used in every error.
    name: ClassVar[str]

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @property
    @abstractmethod
    def capabilities(self) -> StoreCapabilities:
        """What this open store promises; constant while it is open."""

    # --- for callers -------------------------------------------------------------------------

    def get(self, space: str, key: str) -> Entry | None:
        """Return an entry, or None if there is none, or its time is over.

        Args:
            space: 1 to 60 of a-z 0-9 - . _, beginning with a letter; spaces know nothing of each other.
            key: 1 to 300 characters that can be written in UTF-8.
        """
        self._check(space, key)
        return self.get_entry(space, key)

    def put(
        self,
        space: str,
        key: str,
        value: bytes,
        *,
        expect: int | None = None,
        ttl: timedelta | None = None,
    ) -> int:
        """Write an entry; returning means stored, within the declared durability (S19).

        Args:
            space: As for `get`.
            key: As for `get`.
            value: Any bytes, up to the declared `max_value_bytes`.
            expect: The version that it replaces; 0: there is no entry; None: whatever is there.
            ttl: More than zero, rounded up to a whole millisecond at most; the entry is gone after it.
                None: it stays, also if the one that it replaces had an end.

        Returns:
            The version of the new entry.

        Raises:
            StoreConflict: The entry is not the expected one; nothing was changed, and the error says what
                is there.
            StoreRejected: The store does not take it; it says why.
            StoreUnknown: It may be written: the connection was lost after sending.
            AdapterUnavailable: It is not written: the backend cannot be reached.
        """
        self._check(space, key, expect)
        if not isinstance(value, bytes):
            raise StoreRejected(space, key, f"the value must be bytes, got {type(value).__name__}")
        limit = self.capabilities.max_value_bytes
        if limit is not None and len(value) > limit:
            raise StoreRejected(
                space, key, f"its value of {len(value)} bytes is larger than {limit}", reason="too-large"
            )
        if ttl is not None and (not isinstance(ttl, timedelta) or ttl <= NO_PAUSE):
            raise StoreRejected(space, key, f"the time to live must be a span of more than zero, got {ttl!r}")
        return self.put_entry(space, key, value, expect, None if ttl is None else plain_span(ttl))

    def delete(self, space: str, key: str, *, expect: int | None = None) -> bool:
        """Remove an entry.

        Args:
            space: As for `get`.
            key: As for `get`.
            expect: The version that it must have; 0: there is none; None: any.

        Returns:
            Whether there was an entry.

        Raises:
            StoreConflict: There is an entry of another version; it stays.
            StoreUnknown: It may be removed: the connection was lost after sending.
            AdapterUnavailable: It is not removed: the backend cannot be reached.
        """
        self._check(space, key, expect)
        return self.delete_entry(space, key, expect)

    def scan(self, space: str, *, prefix: str = "", after: str = "", limit: int = 100) -> list[Entry]:
        """Return entries in the order of their keys, by code points, a page at a time.

        Whoever asks again after the last key of each page, until one is empty, gets each entry that was
        there all the time exactly once; one that comes or goes meanwhile, at most once.

        Args:
            space: As for `get`.
            prefix: Only keys that begin so.
            after: Only keys that come after this one.
            limit: At most so many, 1 to 1,000.
        """
        self._check_space(space)
        for name, text in (("prefix", prefix), ("after", after)):
            if text != "" and (problem := key_problem(text)) is not None:
                raise StoreRejected(space, "", f"{name} {problem}")
        if type(limit) is not int or not 1 <= limit <= LARGEST_PAGE:
            raise StoreRejected(space, "", f"the limit must be 1 to {LARGEST_PAGE}, got {limit!r}")
        return self.scan_entries(space, prefix, after, limit)

    def wait(self, space: str, key: str, *, seen: int = 0, timeout: timedelta) -> Entry | None:
        """Wait until an entry has another version than the one that was seen.

        Args:
            space: As for `get`.
            key: As for `get`.
            seen: The version that is known; 0: there was no entry.
            timeout: Longest wait, by the application's clock; zero or less only looks.

        Returns:
            What is there then: the new entry; None if there is no entry. After the time is over, what has
            not changed: the entry with the version `seen`, or None.
        """
        self._check(space, key, seen)
        return self.wait_entry(space, key, seen, max(timeout, NO_PAUSE))

    # --- for authors of stores: arguments are checked ----------------------------------------------

    @abstractmethod
    def get_entry(self, space: str, key: str) -> Entry | None:
        """As `get`."""

    @abstractmethod
    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        """As `put`; the comparison and the write are one step for everybody who writes."""

    @abstractmethod
    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        """As `delete`; the comparison and the removal are one step for everybody who writes."""

    @abstractmethod
    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        """As `scan`; entries whose time is over are left out."""

    def wait_entry(self, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
        """As `wait`; the default looks every 50 ms of the application's clock."""
        end = self._clock.monotonic() + timeout.total_seconds()
        pause = threading.Condition()  # never notified
        while True:
            entry = self.get_entry(space, key)
            left = end - self._clock.monotonic()
            if (entry.version if entry is not None else 0) != seen or left <= 0:
                return entry
            with pause:
                self._clock.wait(pause, min(left, _POLL))

    def wait_woken(
        self, space: str, key: str, seen: int, end: float, waiter: Wakeable, *, least: float = 0.0
    ) -> Entry | None:
        """Wait as `wait_entry` does, for a store whose writes wake who is in line.

        Args:
            space: The name of the space.
            key: The key.
            seen: The version that is known.
            end: When to give up, on the monotonic clock.
            waiter: In line already, so that a write which comes after a look wakes it.
            least: Shortest wait in seconds for the end of an entry that is due: more than zero where another
                clock than the application's says when it has ended.
        """
        while True:
            with waiter.condition:
                waiter.woken = False
            entry = self.get_entry(space, key)
            left = end - self._clock.monotonic()
            if (entry.version if entry is not None else 0) != seen or left <= 0:
                return entry
            if entry is not None and entry.expires_at is not None:  # its end is a change, too
                left = min(left, max((entry.expires_at - self._clock.now()).total_seconds(), least))
            with waiter.condition:
                if not waiter.woken:
                    self._clock.wait(waiter.condition, left)

    def close(self) -> None:
        """Close all connections; idempotent. The store of an adapter is closed with the adapter."""

    def _check_space(self, space: str) -> None:
        problem = space_name_problem(space)
        if problem is not None:
            raise StoreRejected("", "", f"the name of the space {problem}")

    def _check(self, space: str, key: str, version: int | None = None) -> None:
        self._check_space(space)
        if (problem := key_problem(key)) is not None:
            raise StoreRejected(space, "", f"the key {problem}")
        if version is not None and (type(version) is not int or version < 0):
            raise StoreRejected(space, key, f"a version is a number from 0 up, got {quoted(version)}")


def no_store(adapter: str, why: str = "") -> CapabilityMissing:
    """Create the error that there is no store (S17); `why` says what cannot be done without it."""
    return CapabilityMissing(Store.facet_name, adapter, f"{why}; {SET_A_STORE}" if why else SET_A_STORE)


def key_problem(key: object) -> str | None:
    """Return what is wrong with the key of an entry, or None if every store takes it."""
    if not isinstance(key, str):
        return f"must be text, got {type(key).__name__}"
    if not 1 <= len(key) <= LONGEST_KEY:
        return f"must have 1 to {LONGEST_KEY} characters, got {len(key)}"
    try:
        key.encode()
    except UnicodeEncodeError:
        return f"must be text that can be written in UTF-8, got {key[:60]!r}"
    return "must not contain the character U+0000" if "\0" in key else None


@attrs.frozen(kw_only=True, eq=False)
class StoreSpec:
    """What a plugin's `kessel_stores` hook returns; cheap to create, it loads no client library.

    Example:
        >>> @attrs.frozen
        ... class Options:
        ...     host: str = "localhost"
        >>> def open_foo(options, context):
        ...     from kessel_store_foo.store import FooStore  # loads here, not at discovery
        ...
        ...     return FooStore(options, context)
        >>> spec = StoreSpec(name="foo", schemes=("foo",), options=Options, open=open_foo)
    """

    #: Its name in configurations and errors.
    name: str
    #: URL schemes that it opens, without `://`.
    schemes: tuple[str, ...]
    #: attrs class of the options; unknown names and wrong types are reported together.
    options: type
    #: Opens the store; may connect, and then raise `AdapterUnavailable` or `ProtocolError`.
    open: Callable[[Any, AdapterContext], Store]
    #: Turns a split URL into option values; strings are converted to the type of the option.
    from_url: Callable[[SplitResult], Mapping[str, Any]] = attrs.field(factory=lambda: url_options)
    #: Says without opening that the store does not exist yet and would be created; see `AdapterSpec.absent`.
    absent: Callable[[Any], str | None] = attrs.field(factory=lambda: unknown_place)
    #: Says without opening where the entries are, for people; see `AdapterSpec.place`.
    place: Callable[[Any], str | None] = attrs.field(factory=lambda: unknown_place)
    #: One line for `kessel adapters`.
    summary: str = ""

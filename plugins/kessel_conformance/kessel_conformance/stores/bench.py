"""What a case for stores works with: the calls that it makes, each on an open store and in the history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Self

from kessel_conformance.history import shown
from kessel_conformance.opencase import OpenCase
from kessel_conformance.settings import Settings
from kessel_conformance.stores.child import Opening
from kessel_conformance.stores.harness import StoreHarness
from kessel_conformance.stores.process import OtherProcess, ProcessFailed
from kessel_core import Clock, StoreConflict, SystemClock
from kessel_core.contract import Entry, Store, StoreCapabilities, later
from kessel_core.testing import VirtualClock

__all__ = ["LARGEST_PAGE", "STEP", "StoreBench", "version_of"]

#: A store may keep the end of an entry in whole steps of this, rounded up.
STEP: Final = timedelta(milliseconds=1)
LARGEST_PAGE: Final = 1000


class StoreBench(OpenCase):
    """One store under one case; a context manager that cleans up. As `OpenCase`.

    Attributes:
        space: The space that calls use when they name none.
    """

    harness: StoreHarness

    def __init__(
        self,
        harness: StoreHarness,
        clauses: Sequence[str] = ("S19",),
        settings: Settings | None = None,
        clock: Clock | None = None,
        namespace: str | None = None,
    ) -> None:
        super().__init__(harness, clauses, settings, clock)
        #: Whether it removes what is left; else another one does.
        self._is_own = namespace is None
        self.namespace = namespace or self.namespace
        self.space = self.space_named("main")
        self._spaces = {self.space}
        self._store: Store | None = None
        self._others = ExitStack()

    def _open(self) -> None:
        self._store = self.harness.open(self.clock, self.namespace)

    def _clean(self) -> None:
        store, self._store = self._store, None
        with ExitStack() as stack:  # whichever of it fails, the rest is done
            if store is not None:
                if self._is_own:
                    stack.callback(self.harness.purge, self.namespace)
                stack.callback(self.harness.close, store)
                stack.callback(self._empty, store)
            stack.push(self._others)

    def _empty(self, store: Store) -> None:
        for space in self._spaces if self._is_own else ():
            last = ""
            while page := store.scan(space, after=last, limit=LARGEST_PAGE):
                for entry in page:
                    store.delete(space, entry.key)
                if page[-1].key <= last:
                    break  # of a broken store
                last = page[-1].key

    # --- facts -------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The open store."""
        assert self._store is not None
        return self._store

    @property
    def capabilities(self) -> StoreCapabilities:
        """What it declares."""
        return self.harness.capabilities

    @property
    def slack(self) -> timedelta:
        """How much later than promised something may be seen."""
        return STEP if isinstance(self.clock, VirtualClock) else STEP + self.harness.tolerance

    def space_named(self, suffix: str) -> str:
        """Return the name of another space of this case."""
        return f"{self.namespace}.{suffix}"

    # --- calls -------------------------------------------------------------------------------

    def get(self, key: str = "k", *, space: str | None = None) -> Entry | None:
        """Read an entry."""
        space = self._space(space)
        return self.call(f"get {self._of(key, space)}", lambda: self.store.get(space, key), "nothing")

    def put(
        self,
        key: str = "k",
        value: bytes = b"v",
        *,
        expect: int | None = None,
        ttl: timedelta | None = None,
        space: str | None = None,
    ) -> int:
        """Write an entry; its version is a number from 1 up."""
        space = self._space(space)
        version = self.call(
            self._put_text(key, value, expect, ttl, space),
            lambda: self.store.put(space, key, value, expect=expect, ttl=ttl),
        )
        self.check(
            type(version) is int and version > 0, f"a version must be 1 or more, got {version!r}", "S19"
        )
        return version

    def delete(self, key: str = "k", *, expect: int | None = None, space: str | None = None) -> bool:
        """Remove an entry."""
        space = self._space(space)
        text = f"delete {self._of(key, space)}" + ("" if expect is None else f", expecting {expect}")
        return self.call(text, lambda: self.store.delete(space, key, expect=expect))

    def scan(
        self, prefix: str = "", after: str = "", limit: int = 100, *, space: str | None = None
    ) -> list[Entry]:
        """Read a page of entries."""
        space = self._space(space)
        text = f"scan{self._in(space)}, prefix {prefix!r}, after {after!r}, limit {limit}"
        return self.call(text, lambda: self.store.scan(space, prefix=prefix, after=after, limit=limit))

    def pages(self, prefix: str = "", limit: int = 100, *, space: str | None = None) -> list[Entry]:
        """Read all entries, a page at a time, until one is empty."""
        found: list[Entry] = []
        last = ""
        while page := self.scan(prefix, last, limit, space=space):
            self.check(len(page) <= limit, f"a page of at most {limit} has {len(page)} entries", "S19d")
            found += page
            if page[-1].key <= last:
                self.broken(f"the page after {last!r} ends with {page[-1].key!r}: a scan never ends", "S19d")
            last = page[-1].key
        return found

    def wait(
        self, key: str = "k", *, seen: int = 0, timeout: timedelta | None = None, space: str | None = None
    ) -> Entry | None:
        """Wait until an entry has another version; without `timeout` for so long that it must be woken."""
        space, longest = self._space(space), self.harness.long_wait if timeout is None else timeout
        text = f"wait for {self._of(key, space)}, seen {seen}, at most {shown(longest)}"
        return self.call(
            text, lambda: self.store.wait(space, key, seen=seen, timeout=longest), "nothing is there"
        )

    def woken(self, key: str = "k", *, seen: int = 0) -> Entry | None:
        """Wait for a change that comes, or has come, long before the time is over."""
        start = self.clock.monotonic()
        found = self.wait(key, seen=seen)
        waited = timedelta(seconds=self.clock.monotonic() - start)
        self.check(waited < self.harness.long_wait, "the wait was not woken, its time was over", "S19e")
        return found

    # --- what must hold ----------------------------------------------------------------------

    def not_put(
        self, expect: int, there: Entry | None, *, key: str = "k", ttl: timedelta | None = None
    ) -> None:
        """Check that a put is refused because of what is there, and that the error says it.

        Args:
            expect: What the put expects.
            there: What is there; None: nothing.
            key: Its key.
            ttl: What the put would give it.
        """
        what = self._put_text(key, b"refused", expect, ttl, self.space)
        put = partial(self.store.put, self.space, key, b"refused", expect=expect, ttl=ttl)
        self._conflict(what, put, there, key)

    def not_deleted(self, expect: int, there: Entry, *, key: str = "k") -> None:
        """Check that a delete is refused because of what is there, and that the error says it."""
        what = f"delete {key!r}, expecting {expect}"
        self._conflict(what, lambda: self.store.delete(self.space, key, expect=expect), there, key)

    def _conflict(self, what: str, call: Callable[[], object], there: Entry | None, key: str) -> None:
        error = self.refused(StoreConflict, what, call, "S19a")
        said = (error.version, error.value, error.expires_at)
        known = (0, None, None) if there is None else (there.version, there.value, there.expires_at)
        self.equal(said, known, f"{what}: version, value and end that the conflict says are there", "S19a")
        self.equal(self.get(key), there, f"what is there after {what} was refused", "S19a")

    def entry(self, key: str = "k", why: str = "", *, clause: str | None = None) -> Entry:
        """Read an entry that must be there."""
        found = self.get(key)
        if found is None:
            self.broken(f"{why or key!r}: it is not there", clause)
        return found

    def ends_right(self, entry: Entry, ttl: timedelta, before: datetime, after: datetime) -> datetime:
        """Check that an entry says the right end, and return it.

        Args:
            entry: As it was read.
            ttl: That it was put with.
            before: Time at the begin of the put.
            after: Time at its end.
        """
        earliest, latest = later(before, ttl), later(later(after, ttl), self.slack)
        if entry.expires_at is None:
            self.broken(f"{entry.key!r} was put for {shown(ttl)}, but says that it stays", "S19b")
        self.check(
            earliest <= entry.expires_at <= latest,
            f"{entry.key!r} was put for {shown(ttl)}; its end is {entry.expires_at}, not between {earliest} "
            f"and {latest}",
            "S19b",
        )
        return entry.expires_at

    # --- others that have it open --------------------------------------------------------------

    def reopen(self) -> None:
        """Close the store, and open the same namespace again."""
        self.call("close the store", lambda: self.harness.close(self.store))
        self._store = self.harness.open(self.clock, self.namespace)
        self.history.add("open the store")

    def close(self) -> None:
        """Close the store; only other processes have it open then, until `reopen`."""
        store, self._store = self.store, None
        self.call("close the store", lambda: self.harness.close(store))

    def open_again(self) -> None:
        """Open it after `close`."""
        self._store = self.harness.open(self.clock, self.namespace)
        self.history.add("open the store")

    def in_real_time(self) -> Self:
        """Return another one, whose store lives in real time, for calls that wake one another.

        On a virtual clock a waiting call moves the time to its own end at once.
        """
        other = type(self)(self.harness, (self.clause,), self.settings, SystemClock())
        self._others.enter_context(other)
        return other

    def beside(self) -> Self:
        """Return another one that has the same store open once more; the history is shared."""
        other = type(self)(self.harness, (self.clause,), self.settings, self.clock, self.namespace)
        other.history = self.history
        self._others.enter_context(other)
        return other

    def process(self) -> OtherProcess:
        """Start another process that has the same store open; it is ended with the case."""
        opening: Opening = self.harness.opening(self.namespace)
        try:
            other = self._others.enter_context(OtherProcess(opening)).ready()
        except ProcessFailed as exc:
            self.broken(f"another process could not open the store: {exc}")
        self.history.add("another process opens the store")
        return other

    # --- texts -------------------------------------------------------------------------------

    def text_of(self, answer: object) -> str:
        """Write what a call answered."""
        match answer:
            case Entry():
                ends = "" if answer.expires_at is None else f", until {answer.expires_at.isoformat()}"
                return f"version {answer.version}, {shown(answer.value)}{ends}"
            case list() if all(isinstance(one, Entry) for one in answer):
                return shown([one.key for one in answer])
            case _:
                return super().text_of(answer)

    def _put_text(self, key: str, value: bytes, expect: int | None, ttl: timedelta | None, space: str) -> str:
        text = f"put {self._of(key, space)} = {shown(value)}"
        text += "" if expect is None else f", expecting {expect}"
        return text + ("" if ttl is None else f", for {shown(ttl)}")

    def _of(self, key: Any, space: str) -> str:
        return shown(key) + self._in(space)

    def _in(self, space: str) -> str:
        return "" if space == self.space else f" of {space.removeprefix(self.namespace)}"

    def _space(self, space: str | None) -> str:
        space = space or self.space
        self._spaces.add(space)
        return space


def version_of(entry: Entry | None) -> int:
    """Return the version of what is there; 0 if there is nothing."""
    return 0 if entry is None else entry.version

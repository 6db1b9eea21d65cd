"""What the cases of refused steps and of a full disk catch beyond jobs: journals, and entries of a store."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from kessel_adapter_directory.adapter import DirectoryAdapter
from kessel_adapter_directory.entry import Entry
from kessel_conformance.outcome import Verdict

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from directories import ended

from kessel_core import IdHeld
from kessel_core.contract import (
    AdapterUnavailable,
    Capabilities,
    Commit,
    Durability,
    EnqueueRejected,
    Message,
    Reach,
    Reservation,
    Settlement,
    Store,
    StoreCapabilities,
)
from kessel_core.contract import Entry as StoreEntry

FULL, MIDWAY = "files.full", "files.refused_midway"


class Journals(DirectoryAdapter):
    """Writes down what a commit brings along, and then does it; whoever finds that does it again."""

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, follow=True)

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        self.redo()
        if not (isinstance(settlement, Commit) and settlement.follow):
            super().end(reservation, settlement)
            return
        with self._held(reservation) as (_, _, held):
            change = reservation.queue, held.entry, settlement.follow
            self._write(self._journal, pickle.dumps(change))
        with self._translated():
            self.carry_out(*change)

    @property
    def _journal(self) -> Path:
        return self._folder / "journal"

    def redo(self) -> None:
        with self._translated():
            if self._journal.exists():
                self.carry_out(*self.found())

    def found(self) -> tuple[str, Entry, Sequence[Message]]:
        change: tuple[str, Entry, Sequence[Message]] = pickle.loads(self._journal.read_bytes())
        return change

    def carry_out(self, queue: str, entry: Entry, follow: Sequence[Message]) -> None:
        (self._home(queue) / entry.name).unlink(missing_ok=True)
        self.store_again(follow)
        self._journal.unlink(missing_ok=True)

    def store_again(self, follow: Sequence[Message]) -> None:
        for message in follow:
            try:
                with suppress(IdHeld):
                    super().put(message)
            except EnqueueRejected as exc:
                raise AdapterUnavailable(str(exc)) from exc

    def put(self, message: Message) -> None:
        self.redo()
        super().put(message)

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        self.redo()
        return super().take(queues)


class ForgetsFirst(Journals):
    """Removes what it finds written down, and then does it."""

    def found(self) -> tuple[str, Entry, Sequence[Message]]:
        change = super().found()
        self._journal.unlink()
        return change


class WritesOverIt(Journals):
    """Who settles does not look what was written down, and writes over it."""

    def redo(self) -> None:
        if not self.is_settling:
            super().redo()

    is_settling = False

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        self.is_settling = True
        try:
            super().end(reservation, settlement)
        finally:
            self.is_settling = False
        self.redo()


class Files(Store):
    """A file for each entry."""

    name = "files"
    capabilities = StoreCapabilities(reach=Reach.HOST, durability=Durability.PROCESS_CRASH)  # type: ignore[assignment]

    def __init__(self, adapter: DirectoryAdapter) -> None:
        super().__init__(adapter.clock)
        self.adapter = adapter

    def _path(self, key: str) -> Path:
        return self.adapter._folder / f"{key}.entry"

    def get_entry(self, space: str, key: str) -> StoreEntry | None:
        with self.adapter._translated():
            if not self._path(key).exists():
                return None
            version, _, value = self._path(key).read_bytes().partition(b"\n")
        return StoreEntry(key=key, value=value, version=int(version))

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        there = self.get_entry(space, key)
        version = there.version + 1 if there is not None else 1
        with self.adapter._translated():
            self.adapter._write(self._path(key), b"%d\n" % version + value)
        return version

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        raise NotImplementedError

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[StoreEntry]:
        raise NotImplementedError


class FilesSwallowed(Files):
    """The system says that an entry was not written, and nobody is told."""

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        with suppress(AdapterUnavailable):
            return super().put_entry(space, key, value, expect, ttl)
        return 1


class FilesInPlace(Files):
    """An entry is removed, and written anew."""

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        with self.adapter._translated():
            self._path(key).unlink(missing_ok=True)
        return super().put_entry(space, key, value, expect, ttl)


class WithEntries(DirectoryAdapter):
    """Has a store, too."""

    kind: type[Files] = Files

    def facet(self, kind: Any) -> Any:
        return self.kind(self) if kind is Store else super().facet(kind)


class Swallows(WithEntries):
    kind = FilesSwallowed


class InPlace(WithEntries):
    kind = FilesInPlace


class RefusesJobs(WithEntries):
    """A job that is too large for the disk is refused; of an entry it says that its files are away."""

    def put(self, message: Message) -> None:
        try:
            super().put(message)
        except AdapterUnavailable as exc:
            raise EnqueueRejected(message.id, str(exc), "full") from exc


@pytest.mark.parametrize(("kind", "case"), [(Journals, MIDWAY), (WithEntries, MIDWAY), (WithEntries, FULL)])
def test_S20_a_journal_and_entries_without_a_fault_pass(kind: type[DirectoryAdapter], case: str) -> None:
    assert ended(kind, case) == (Verdict.PASS, "")


@pytest.mark.parametrize(
    ("kind", "case", "why"),
    [
        (ForgetsFirst, MIDWAY, "or what was to follow it"),
        (WritesOverIt, MIDWAY, "or what was to follow it"),
        (Swallows, MIDWAY, "is not what was said of it"),
        (InPlace, MIDWAY, "is not what was said of it"),
        (Swallows, FULL, "is not what was said of it"),
        (InPlace, FULL, "is not what was said of it"),
        (RefusesJobs, FULL, "and as unavailable of an entry"),
    ],
)
def test_S20_S19_what_was_half_done_and_lost_fails_its_case(
    kind: type[DirectoryAdapter], case: str, why: str
) -> None:
    verdict, reason = ended(kind, case)
    assert verdict is Verdict.FAIL
    assert why in reason

"""What the cases of files catch: faults of an adapter over files, which no reference in memory can have."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from kessel_adapter_directory.adapter import DirectoryAdapter
from kessel_adapter_directory.entry import Entry
from kessel_adapter_directory.plugin import DirectoryOptions
from kessel_conformance.outcome import Verdict

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from directories import ended

from kessel_core.contract import (
    NO_PAUSE,
    AdapterContext,
    AdapterError,
    AdapterUnavailable,
    Consumer,
    EnqueueRejected,
    Find,
    JobState,
    LeaseLost,
    Message,
    QueueStats,
    Reservation,
    StoredJob,
)

GONE, EXTEND, FULL, TORN = "files.gone", "files.gone_extend", "files.full", "files.torn"
MIDWAY, KILLED = "files.refused_midway", "durable.killed_process"
ABSENT, OTHER = "adapter.absent_only_looks", "files.of_another_kind"


class Swallows(DirectoryAdapter):
    """The system says that nothing was written, and nobody is told."""

    def put(self, message: Message) -> None:
        with suppress(AdapterUnavailable):
            super().put(message)


class StoresApart(DirectoryAdapter):
    """A batch is stored without `enqueue`, so that what is wrong there is wrong for a job alone."""

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        return [self._stored(message) for message in messages]

    def _stored(self, message: Message) -> AdapterError | None:
        try:
            super().enqueue(message)
        except AdapterError as exc:
            return exc
        return None


class SwallowsOne(StoresApart):
    """As `Swallows`, for a job that comes alone."""

    def enqueue(self, message: Message) -> None:
        with suppress(AdapterUnavailable):
            super().enqueue(message)


class SwallowsMany(DirectoryAdapter):
    """As `Swallows`, for jobs that come together."""

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        super().enqueue_many(messages)
        return [None for _ in messages]


class CountsNothing(DirectoryAdapter):
    """What cannot be read is empty, it says."""

    def stats(self, queue: str) -> QueueStats:
        try:
            return super().stats(queue)
        except AdapterUnavailable:
            return QueueStats(queue=queue)


class NamesNothing(DirectoryAdapter):
    """As `CountsNothing`, for the names of the queues."""

    def queues(self) -> list[str]:
        try:
            return super().queues()
        except AdapterUnavailable:
            return []


class FindsNothing(Find, DirectoryAdapter):
    """As `CountsNothing`, for a job that is asked for by its id."""

    def find(self, job_id: str) -> StoredJob | None:
        with suppress(AdapterUnavailable):
            for queue in self.queues():
                for state in JobState:
                    found = [job for job in self.peek(queue, state, 100) if job.id == job_id]
                    if found:
                        return found[0]
        return None


class ExtendsLoudly(DirectoryAdapter):
    """Raises for all leases what is to be told of each."""

    def extend_many(self, held: Sequence[tuple[Consumer, Reservation]]) -> list[Exception | None]:
        outcomes = super().extend_many(held)
        for outcome in outcomes:
            if isinstance(outcome, AdapterUnavailable):
                raise outcome
        return outcomes


class LooksFirst(DirectoryAdapter):
    """Whoever wants to consume hears at once that its files are away, and not when it reserves."""

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        if not self._folder.is_dir():
            raise AdapterUnavailable(f"there is no {self._folder}")
        return super().make_consumer(queues)


class ListensFirst(DirectoryAdapter):
    """Its first consumer makes a file for all of them."""

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        if not hasattr(self, "listens"):
            with self._translated():
                (self._folder / "listens").touch()
            self.listens = True
        return super().make_consumer(queues)


class NamesTheFirst(StoresApart):
    """Each job of a batch is told what went wrong with the first one."""

    def enqueue(self, message: Message) -> None:
        if (error := self._refused(message)) is not None:
            raise error

    def enqueue_many(self, messages: Sequence[Message]) -> list[AdapterError | None]:
        refused = [self._refused(message) for message in messages]
        first = next(filter(None, refused), None)
        return [None if one is None else first for one in refused]

    def _refused(self, message: Message) -> AdapterError | None:
        return None if self._stored(message) is None else EnqueueRejected(message.id, "it is full", "full")


class MakesAnew(DirectoryAdapter):
    """A folder that is gone is made again, and looks like one that never had a job."""

    @property
    def _folder(self) -> Path:
        self._place.mkdir(parents=True, exist_ok=True)
        (self._place / "lock").touch()
        return self._place

    @_folder.setter
    def _folder(self, path: Path) -> None:
        self._place = path


class ExtendsBlindly(DirectoryAdapter):
    """A lease is extended, it says, whatever the system says."""

    def renew(self, reservation: Reservation) -> None:
        with suppress(AdapterUnavailable):
            super().renew(reservation)


class TellsLost(DirectoryAdapter):
    """What could not be settled just now is told as a lease that is lost."""

    def commit(self, reservation: Reservation) -> None:
        try:
            super().commit(reservation)
        except AdapterUnavailable as exc:
            raise LeaseLost(reservation.id, "its files are gone") from exc


class WritesInPlace(DirectoryAdapter):
    """What could not be written whole stays there in part, and is a job."""

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)


class Believes(DirectoryAdapter):
    """What it could not write it has told, because it wrote it later."""

    def _write(self, path: Path, content: bytes) -> None:
        with suppress(OSError):
            super()._write(path, content)


class RejectsOne(StoresApart):
    """Knows that the disk is full where a job comes alone, and calls it a lost backend in a batch."""

    def enqueue(self, message: Message) -> None:
        try:
            super().enqueue(message)
        except AdapterUnavailable as exc:
            raise EnqueueRejected(message.id, str(exc), "full") from exc


class CountsInPlace(DirectoryAdapter):
    """Counts its jobs in a file of a single figure, which is empty where that could not be written."""

    def put(self, message: Message) -> None:
        path = self._folder / "count"
        count = int(path.read_text()) if path.exists() else 0
        try:
            path.write_text(str((count + 1) % 10))
        except OSError as exc:
            raise AdapterUnavailable(f"the count is not written: {exc}") from exc
        super().put(message)


class ListsJobs(DirectoryAdapter):
    """Lists its jobs in one more file, and takes them from there up to what it cannot read."""

    def _write(self, path: Path, content: bytes) -> None:
        super()._write(path, content)
        if path.suffix == ".job":
            record = path.name.encode().ljust(400)
            with self._list.open("ab") as file:
                file.write(len(record).to_bytes(4, "big") + record)

    @property
    def _list(self) -> Path:
        return self._folder / "list"

    def _entries(self, home: Path) -> list[Entry]:
        data = self._list.read_bytes() if self._list.exists() else b""
        listed, at = set[int](), 0
        while at + 4 <= len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            entry = (
                Entry.named(data[at + 4 : end].decode(errors="replace").strip()) if end <= len(data) else None
            )
            if entry is None:
                break
            listed.add(entry.number)
            at = end
        return [entry for entry in super()._entries(home) if entry.number in listed]


class ListsJobsWhole(ListsJobs):
    """As before, but what is not whole is cut off before anything is written behind it."""

    def _write(self, path: Path, content: bytes) -> None:
        if self._list.exists():
            size = self._list.stat().st_size
            os.truncate(self._list, size - size % 404)
        super()._write(path, content)


class StoresLater(DirectoryAdapter):
    """What could not be carried out in full is told as refused, and carried out by the next call."""

    def __init__(self, options: DirectoryOptions, context: AdapterContext) -> None:
        super().__init__(options, context)
        self._begun: Message | None = None

    def put(self, message: Message) -> None:
        begun, self._begun = self._begun, message
        if begun is not None:
            super().put(begun)
        super().put(message)
        self._begun = None


class CommitsLater(DirectoryAdapter):
    """A job that could not be removed is told as done, and comes again."""

    def commit(self, reservation: Reservation) -> None:
        with suppress(AdapterUnavailable):
            super().commit(reservation)
            return
        super().release(reservation, NO_PAUSE, counts=True)


class GivesBack(DirectoryAdapter):
    """A job that could not be removed is given back, and its lease is told as lost; that is right."""

    def commit(self, reservation: Reservation) -> None:
        try:
            super().commit(reservation)
        except AdapterUnavailable as exc:
            super().release(reservation, NO_PAUSE, counts=True)
            raise LeaseLost(reservation.id, "it could not be removed, and is given back") from exc


class TakesHalfForWhole(DirectoryAdapter):
    """The folder of a queue is there, so everything is in it."""

    def put(self, message: Message) -> None:
        parts = self._home(message.queue) / "parts"
        with self._translated():
            if not parts.parent.exists():
                parts.parent.mkdir()
                parts.mkdir()
            list(parts.iterdir())
        super().put(message)


class OpensRaw(DirectoryAdapter):
    """What the system says is not translated while it is opened."""

    def __init__(self, options: DirectoryOptions, context: AdapterContext) -> None:
        options.path.mkdir(parents=True, exist_ok=True)
        super().__init__(options, context)


class ListsRaw(DirectoryAdapter):
    """It opens whatever there is, and what the system says is not translated later."""

    def __init__(self, options: DirectoryOptions, context: AdapterContext) -> None:
        with suppress(AdapterUnavailable):
            super().__init__(options, context)

    def queues(self) -> list[str]:
        list(self._folder.iterdir())
        return super().queues()


class OpensRawAtALoop(DirectoryAdapter):
    """What the system says is translated where it was foreseen."""

    def __init__(self, options: DirectoryOptions, context: AdapterContext) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            options.path.stat()
        super().__init__(options, context)


class ReadsRaw(DirectoryAdapter):
    """It says in words of its own what it cannot read in the files of a queue."""

    def stats(self, queue: str) -> QueueStats:
        home = self._home(queue)
        for path in home.glob("*.job"):
            json.loads(path.read_bytes().partition(b"\n")[0])
        return super().stats(queue)


def _inverted(options: DirectoryOptions) -> str | None:
    return "there is none" if options.path.exists() else None


def _makes(options: DirectoryOptions) -> str | None:
    options.path.mkdir(parents=True, exist_ok=True)
    return None


def _while_it_has_jobs(options: DirectoryOptions) -> str | None:
    return None if [*options.path.rglob("*.job")] else "there is none"


def _says_nothing(options: DirectoryOptions) -> str | None:
    return None if options.path.exists() else ""


#: What a spec says of a place, without opening it.
SPECS: Final[dict[str, tuple[dict[str, Callable[[DirectoryOptions], str | None]], str]]] = {
    "absent_inverted": ({"absent": _inverted}, "absent while it is open: expected None, got 'there is none'"),
    "absent_makes": ({"absent": _makes}, "files that were made by looking"),
    "place_makes": ({"place": _makes}, "files that were made by looking"),
    "absent_while_empty": ({"absent": _while_it_has_jobs}, "absent while it is open"),
    "absent_says_nothing": ({"absent": _says_nothing}, "neither None nor a text"),
}


@pytest.mark.parametrize(
    ("kind", "case", "why"),
    [
        (Swallows, GONE, "was acknowledged and is lost"),
        (SwallowsOne, GONE, "was acknowledged and is lost"),
        (SwallowsMany, GONE, "was acknowledged and is lost"),
        (CountsNothing, GONE, "stats says that nothing is ready"),
        (NamesNothing, GONE, "queues() leaves out a queue that has jobs"),
        (FindsNothing, GONE, "find says that there is no such job"),
        (LooksFirst, GONE, "that is for its first reserve to say"),
        (ListensFirst, GONE, "that is for its first reserve to say"),
        (NamesTheFirst, GONE, "' names '"),
        (MakesAnew, GONE, "was made anew, without its jobs"),
        (ExtendsBlindly, EXTEND, "it was told that its lease was extended, but the job came"),
        (TellsLost, GONE, "jobs that are held, after its holder was told that its lease is lost"),
        (ExtendsLoudly, EXTEND, "extend_many raised"),
        (Swallows, FULL, "was acknowledged and is lost"),
        (SwallowsMany, FULL, "was acknowledged and is lost"),
        (WritesInPlace, FULL, "the outcome of a job is ProtocolError"),
        (Believes, FULL, "was acknowledged and is lost"),
        (RejectsOne, FULL, "is told as unavailable in a batch"),
        (CountsInPlace, FULL, "raised ValueError"),
        (WritesInPlace, TORN, "was told as not stored"),
        (ListsJobs, TORN, "was acknowledged and is lost"),
        (Swallows, MIDWAY, "was acknowledged and is lost"),
        (StoresLater, MIDWAY, "was told as not stored, or as done"),
        (CommitsLater, MIDWAY, "was told as not stored, or as done"),
        (TakesHalfForWhole, MIDWAY, "raised AdapterUnavailable"),
        (TakesHalfForWhole, KILLED, "after processes were killed, enqueue AdapterUnavailable"),
        (OpensRaw, OTHER, "raised NotADirectoryError"),
        (ListsRaw, OTHER, "raised "),
        (OpensRawAtALoop, OTHER, "with a link to itself where its folder was, raised OSError"),
        (ReadsRaw, OTHER, "stats, with something else in its files, raised UnicodeDecodeError"),
    ],
)
def test_S14_a_fault_of_files_fails_its_case(kind: type[DirectoryAdapter], case: str, why: str) -> None:
    verdict, reason = ended(kind, case)
    assert verdict is Verdict.FAIL
    assert why in reason


@pytest.mark.parametrize("name", SPECS)
def test_S9_what_a_spec_says_wrongly_of_a_place_fails_its_case(name: str) -> None:
    fields, why = SPECS[name]
    verdict, reason = ended(DirectoryAdapter, ABSENT, **fields)
    assert verdict is Verdict.FAIL
    assert why in reason


@pytest.mark.parametrize("case", [GONE, EXTEND, FULL, TORN, MIDWAY, KILLED, ABSENT, OTHER])
def test_S14_files_without_a_fault_pass_while_they_are_away_or_full_or_torn(case: str) -> None:
    assert ended(DirectoryAdapter, case) == (Verdict.PASS, "")


def test_S8_a_commit_that_was_refused_midway_and_is_told_as_a_lost_lease_may_leave_its_job() -> None:
    assert ended(GivesBack, MIDWAY) == (Verdict.PASS, "")


def test_S9_a_list_of_which_what_is_not_whole_is_cut_off_passes() -> None:
    assert ended(ListsJobsWhole, TORN) == (Verdict.PASS, "")

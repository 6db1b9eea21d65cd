"""Adapters that leave something behind, or nothing; other processes import them."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import kessel_adapter_directory.plugin
from kessel_adapter_directory.adapter import DirectoryAdapter
from kessel_adapter_directory.entry import Entry
from kessel_adapter_directory.plugin import DirectoryOptions
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions
from kessel_sqlite.plugin import SPEC

from kessel_core.contract import (
    AdapterContext,
    AdapterSpec,
    Bury,
    Capabilities,
    Commit,
    Consumer,
    LeaseReturn,
    Message,
    Reach,
    Reservation,
    Settlement,
    Store,
    need,
)

__all__ = [
    "ALONE",
    "AT_CLOSE",
    "COPIES",
    "HEARS",
    "PIPES",
    "POLLS",
    "SPECS",
    "STOPS",
    "HearsBesideTheDead",
    "SaysAtOnce",
]


class InTwoSteps(SqliteAdapter):
    """Stores what a settlement brings along, and then settles."""

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        super().end(reservation, self.before(settlement))

    def before(self, settlement: Settlement) -> Settlement:
        if not isinstance(settlement, (Commit, Bury)):
            return settlement
        for message in settlement.follow:
            self.put(message)
        return attrs.evolve(settlement, follow=())


class BuriesInTwoSteps(InTwoSteps):
    """As before, where a job is buried."""

    def before(self, settlement: Settlement) -> Settlement:
        return super().before(settlement) if isinstance(settlement, Bury) else settlement


class BusyInTwoSteps(InTwoSteps):
    """As before, where the next job is reserved in the same call."""

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        SqliteAdapter.end(self, reservation, settlement)

    def settle_and_take(
        self, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
    ) -> Reservation | None:
        return super().settle_and_take(reservation, self.before(settlement), queues)


class SecondQueueLater(InTwoSteps):
    """Settles with the first job that is brought along, and then stores the others."""

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        later: tuple[Message, ...] = ()
        if isinstance(settlement, (Commit, Bury)):
            settlement, later = attrs.evolve(settlement, follow=settlement.follow[:1]), settlement.follow[1:]
        SqliteAdapter.end(self, reservation, settlement)
        for message in later:
            self.put(message)


class EntriesBefore(SqliteAdapter):
    """Stores the entries of a settlement, and then settles."""

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        if isinstance(settlement, (Commit, Bury)):
            for put in settlement.puts:
                need(self, Store).put(put.space, put.key, put.value, ttl=put.ttl)
            settlement = attrs.evolve(settlement, puts=())
        super().end(reservation, settlement)


class LeavesThread(SqliteAdapter):
    """Begins a thread with each consumer, which goes on when everything is closed."""

    def consumer(self, queues: list[str]) -> Consumer:  # type: ignore[override]  # any sequence
        threading.Thread(target=threading.Event().wait, name="left", daemon=True).start()
        return super().consumer(queues)


class SaysAtOnce(SqliteAdapter):
    """Declares what its consumers do when they are closed, as if a worker always closed them."""

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, lease_return=LeaseReturn.AT_ONCE)


class LeavesFile(SqliteAdapter):
    """Opens a file for itself, which nobody closes."""

    def __init__(self, options: SqliteOptions, context: AdapterContext) -> None:
        super().__init__(options, context)
        os.open(options.path, os.O_RDONLY)


class LeavesPipe(SqliteAdapter):
    """As `LeavesFile`, with what wakes those who wait."""

    def consumer(self, queues: list[str]) -> Consumer:  # type: ignore[override]  # any sequence
        os.pipe()
        return super().consumer(queues)


class HearsOfReadyJobs(SqliteAdapter):
    """Its watcher, which hears of other processes, tells of the jobs that are ready, and of no delay."""

    def __init__(self, options: SqliteOptions, context: AdapterContext) -> None:
        super().__init__(options, context)
        tells = self.engine.line.announce

        def announce(queue: str, count: int = 1, due: datetime | None = None) -> None:
            if threading.current_thread().name != "kessel-sqlite-watcher" or self.is_told(count):
                tells(queue, count, due)

        self.engine.line.announce = announce  # type: ignore[method-assign]  # of this file's line only

    def is_told(self, ready: int) -> bool:
        return ready > 0


class HearsOfDelays(HearsOfReadyJobs):
    """As before, but of delays, and of no job that is ready."""

    def is_told(self, ready: int) -> bool:
        return ready == 0


class HearsBesideTheDead(DirectoryAdapter):
    """Looks a hundred times a second, as if it were told of each job."""

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, blocking_reserve=True)

    def looks_again(self, queues: tuple[str, ...]) -> datetime | None:
        return self.clock.now() + timedelta(milliseconds=10)


class LooksNowAndThen(HearsBesideTheDead):
    """As before, ten times a second."""

    def looks_again(self, queues: tuple[str, ...]) -> datetime | None:
        return self.clock.now() + timedelta(milliseconds=100)


class StopsAtTheDead(HearsBesideTheDead):
    """Is told of nothing as soon as a process that waited is dead."""

    def make_consumer(self, queues: tuple[str, ...]) -> Consumer:
        (self._folder / f"{os.getpid()}.waits").touch()
        return super().make_consumer(queues)

    def looks_again(self, queues: tuple[str, ...]) -> datetime | None:
        waiting = [path.stem for path in self._folder.glob("*.waits")]
        is_any_dead = not all(Path("/proc", process).exists() for process in waiting)
        return self.next_change(queues) if is_any_dead else super().looks_again(queues)


class CopiesAndRemoves(DirectoryAdapter):
    """Changes the state of a job by a copy of its file, and removes the old one."""

    def _change(self, home: Path, entry: Entry, **changes: Any) -> Entry:
        changed = attrs.evolve(entry, **changes)
        shutil.copyfile(home / entry.name, home / changed.name)
        (home / entry.name).unlink()
        return changed


class Alone(DirectoryAdapter):
    """A directory that one process may use at a time."""

    @property
    def capabilities(self) -> Capabilities:
        return attrs.evolve(super().capabilities, reach=Reach.PROCESS)


class WritesAtClose(Alone):
    """Works on a copy, which is what others find as soon as it is closed."""

    def __init__(self, options: DirectoryOptions, context: AdapterContext) -> None:
        self._home_folder = options.path
        copy = Path(tempfile.mkdtemp(dir=options.path.parent))
        if self._home_folder.exists():
            shutil.copytree(self._home_folder, copy, dirs_exist_ok=True)
        super().__init__(attrs.evolve(options, path=copy), context)

    def shut(self) -> None:
        shutil.rmtree(self._home_folder, ignore_errors=True)
        shutil.move(self._folder, self._home_folder)


ALONE: AdapterSpec = attrs.evolve(kessel_adapter_directory.plugin.SPEC, open=Alone)
COPIES: AdapterSpec = attrs.evolve(kessel_adapter_directory.plugin.SPEC, open=CopiesAndRemoves)
HEARS: AdapterSpec = attrs.evolve(kessel_adapter_directory.plugin.SPEC, open=HearsBesideTheDead)
POLLS: AdapterSpec = attrs.evolve(kessel_adapter_directory.plugin.SPEC, open=LooksNowAndThen)
STOPS: AdapterSpec = attrs.evolve(kessel_adapter_directory.plugin.SPEC, open=StopsAtTheDead)
AT_CLOSE: AdapterSpec = attrs.evolve(kessel_adapter_directory.plugin.SPEC, open=WritesAtClose)
#: The case that shows each.
SPECS: dict[type[SqliteAdapter], tuple[str, AdapterSpec]] = {
    kind: (case, attrs.evolve(SPEC, open=kind))
    for case, kinds in {
        "following.killed_process": (
            *(InTwoSteps, BuriesInTwoSteps, BusyInTwoSteps, SecondQueueLater, EntriesBefore),
        ),
        "adapter.close_ends_threads": (LeavesThread,),
        "adapter.close_ends_files": (LeavesFile,),
        "consumer.killed_returns_job": (SaysAtOnce,),
        "reserve.wakes_from_another_process": (HearsOfReadyJobs, HearsOfDelays),
    }.items()
    for kind in kinds
}
#: Leaves descriptors, too.
PIPES: AdapterSpec = attrs.evolve(SPEC, open=LeavesPipe)

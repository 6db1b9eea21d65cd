"""Adapters that leave something behind, or nothing; other processes import them."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path

import attrs
import kessel_adapter_directory.plugin
from kessel_adapter_directory.adapter import DirectoryAdapter
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
    Reach,
    Reservation,
    Settlement,
)

__all__ = ["ALONE", "AT_CLOSE", "PIPES", "SPECS"]


class InTwoSteps(SqliteAdapter):
    """Stores what a settlement brings along, and then settles."""

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        if isinstance(settlement, (Commit, Bury)):
            for message in settlement.follow:
                self.put(message)
            settlement = attrs.evolve(settlement, follow=())
        super().end(reservation, settlement)


class LeavesThread(SqliteAdapter):
    """Begins a thread with each consumer, which goes on when everything is closed."""

    def consumer(self, queues: list[str]) -> Consumer:  # type: ignore[override]  # any sequence
        threading.Thread(target=threading.Event().wait, name="left", daemon=True).start()
        return super().consumer(queues)


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
AT_CLOSE: AdapterSpec = attrs.evolve(kessel_adapter_directory.plugin.SPEC, open=WritesAtClose)
#: By the name of the case.
SPECS: dict[str, AdapterSpec] = {
    "following.killed_process": attrs.evolve(SPEC, open=InTwoSteps),
    "adapter.close_ends_threads": attrs.evolve(SPEC, open=LeavesThread),
    "adapter.close_ends_files": attrs.evolve(SPEC, open=LeavesFile),
}
#: Leaves descriptors, too.
PIPES: AdapterSpec = attrs.evolve(SPEC, open=LeavesPipe)

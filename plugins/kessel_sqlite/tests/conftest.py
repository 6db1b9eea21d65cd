"""Adapters on a file of each test's own, closed after it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.entries import SqliteStore
from kessel_sqlite.options import SqliteOptions, SqliteStoreOptions
from kessel_sqlite.plugin import STORE

from kessel_core import Clock, SystemClock
from kessel_core.contract import AdapterContext
from kessel_core.testing.clock import VirtualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file will be."""
    return tmp_path / "jobs.db"


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that moves when something waits."""
    return VirtualClock()


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[..., SqliteAdapter]]:
    """Open the file, as often as a test likes."""
    with ExitStack() as stack:

        def open_file(clock: Clock | None = None, **options: Any) -> SqliteAdapter:
            context = AdapterContext(clock=clock or SystemClock())
            adapter = SqliteAdapter(SqliteOptions(**{"path": path, **options}), context)
            stack.callback(adapter.close)
            return adapter

        yield open_file


@pytest.fixture
def adapter(opened: Callable[..., SqliteAdapter], clock: VirtualClock) -> SqliteAdapter:
    """An adapter under virtual time, with a lease of 60 s."""
    return opened(clock)


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in a process of its own, bounded."""

    def run(code: str, *arguments: object, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*before, sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def opened_store(path: Path) -> Iterator[Callable[..., SqliteStore]]:
    """Open the file as a store, as often as a test likes."""
    with ExitStack() as stack:

        def open_file(clock: Clock | None = None, **options: Any) -> SqliteStore:
            context = AdapterContext(clock=clock or SystemClock())
            store = STORE.open(SqliteStoreOptions(**{"path": path, **options}), context)
            assert isinstance(store, SqliteStore)
            stack.callback(store.close)
            return store

        yield open_file

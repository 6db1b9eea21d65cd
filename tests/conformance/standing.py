"""Servers that stand while many mutants are tried: each is lent to one run at a time, with nothing in it.

To start a server for each mutant would take longer than many a mutant lives. A run may kill its server and
start it again, as the case of a restart does; so a server is known by the file with its process id.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["Standing", "given", "kill_by_file", "lent"]

#: Tells a run of its server.
_VARIABLE: Final = "KESSEL_STANDING"

_lock = threading.Lock()
_idle: defaultdict[str, list[Standing]] = defaultdict(list)


class Standing(Protocol):
    """A server of one kind."""

    def lent(self, file: str) -> AbstractContextManager[dict[str, Any]]:
        """Empty it, and say where it is; it is started again if a run has left it dead.

        Args:
            file: What is changed in the adapter's package.
        """

    def close(self) -> None:
        """Stop it, and remove its data."""


@contextlib.contextmanager
def lent(kind: str, file: str) -> Iterator[dict[str, str]]:
    """Lend a server of a kind, such as `postgres`; yields what belongs into the environment of the run.

    All that were started are stopped when this process ends.
    """
    with _lock:
        server = _idle[kind].pop() if _idle[kind] else None
    if server is None:
        module = importlib.import_module(f"standing_{kind}")
        server = module.start()
        atexit.register(server.close)
    assert server is not None
    try:
        with server.lent(file) as where:
            yield {_VARIABLE: json.dumps(where)}
    finally:
        with _lock:
            _idle[kind].append(server)


def given() -> Mapping[str, Any]:
    """Return what a run was told of its server."""
    told: Mapping[str, Any] = json.loads(os.environ[_VARIABLE])
    return told


def kill_by_file(file: Path, number: int = signal.SIGKILL) -> None:
    """End the process whose id is the first line of a file, and wait until it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
        pid = int(file.read_text().split()[0])
        os.kill(pid, number)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.01)

"""Ports for the servers of tests, which no other process of tests on this machine gets meanwhile."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

__all__ = ["free_port"]

#: Below the range from which systems take ports for outgoing connections (from 32768 up on Linux, from 49152
#: up elsewhere, RFC 6335), so that none of those takes the port of a server that is being restarted.
_FIRST: Final = 20_000
_BLOCKS: Final = 120
_BLOCK: Final = 100

_lock = threading.Lock()
#: The process that claimed a block, and the ports of it, in turn.
_claimed: tuple[int, Iterator[int]] | None = None


def free_port() -> int:
    """Return a loopback port that nobody listens on.

    A port that was free a moment ago may be taken by another process of the tests, or while its server is
    restarted; then two tests talk to one server. So each process claims a block of ports, for as long as it
    lives, by the lock of a file in the temporary folder; of a block the ports come in turn. Thread-safe.

    Raises:
        OSError: No block is left, or no port of it is free.
    """
    global _claimed
    with _lock:
        if _claimed is None or _claimed[0] != os.getpid():  # a forked child needs its own
            _claimed = (os.getpid(), cycle(_claim()))
        ports = _claimed[1]
        for _ in range(_BLOCK):
            port = next(ports)
            if _is_free(port):
                return port
    raise OSError(f"none of the {_BLOCK} ports of this process is free")


def _claim() -> range:
    from fcntl import LOCK_EX, LOCK_NB, flock

    folder = Path(tempfile.gettempdir(), f"kessel-ports-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(_BLOCKS):
        # Never closed: the lock ends with the process.
        descriptor = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except OSError:
            os.close(descriptor)
        else:
            return range(_FIRST + number * _BLOCK, _FIRST + (number + 1) * _BLOCK)
    raise OSError(f"{folder}: {_BLOCKS} processes of tests have a block of ports each")


def _is_free(port: int) -> bool:
    try:
        # Listens with the option that servers use, so that a port whose last connections still end is free.
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True

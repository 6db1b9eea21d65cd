"""Descriptors of this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["is_open", "numbers", "on_standard_numbers"]

#: Works with a queue after a job closed the standard streams. Whenever they have been opened onto nothing,
#: the first one turns out to have been a file of another thread, which closes it just then.
PROGRAM = """
import os, sys, threading
report = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
from kessel_core.values import streams
keep, calls = streams.keep_standard_numbers, []
def brief():
    keep()
    if threading.current_thread() is threading.main_thread():
        calls.append(None)
        if len(calls) % 2 and os.readlink("/proc/self/fd/0") == "/dev/null":
            os.close(0)
streams.keep_standard_numbers = brief
from kessel_core import JobManager
os.closerange(0, 3)
try:
    with JobManager(sys.argv[1], handlers={"b": len}) as manager:
        worker = manager.start(slots=1)
        manager.request("a", queue="elsewhere")
        exec(sys.argv[3])
        low = [os.readlink(f"/proc/self/fd/{n}") for n in range(3) if os.path.exists(f"/proc/self/fd/{n}")]
        os.write(report, " ".join(low).encode())
except BaseException as exc:
    os.write(report, repr(exc).encode())
    os._exit(1)
os._exit(0)
"""


def is_open(number: int) -> bool:
    """Whether a descriptor has that number."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def numbers() -> set[int]:
    """The numbers of all that are open."""
    return {int(name) for name in os.listdir("/dev/fd") if is_open(int(name))}  # noqa: PTH208


def on_standard_numbers(url: str, folder: Path, also: str = "") -> set[str]:
    """Return what has the numbers of the standard streams where a worker and a producer share a process.

    Args:
        url: Of the queue.
        folder: An empty one.
        also: A statement that opens something else in the main thread.
    """
    if not Path("/proc/self/fd").exists():
        pytest.skip("there is no /proc here")
    report = folder / "report"
    done = subprocess.run([sys.executable, "-c", PROGRAM, url, str(report), also], timeout=60, check=False)
    assert done.returncode == 0, report.read_text()
    return set(report.read_text().split())

"""Where the threads are: seen without a thread that stands still for it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from kessel_core.testing.frames import innermost_frames

#: Each look finds garbage that needs a lock of the interpreter when it is collected.
_LOOKS_AMONG_GARBAGE = """
import gc, threading
from kessel_core.testing.frames import innermost_frames

over = threading.Event()
for _ in range(4):
    threading.Thread(target=over.wait, daemon=True).start()
gc.set_threshold(1)
for _ in range(200):
    garbage = [threading.local()]
    garbage.append(garbage)
    del garbage
    innermost_frames()
print("done")
"""


def test_threads_are_looked_at_while_garbage_is_there_that_needs_the_same_lock() -> None:
    """CPython 3.11.2 stands still at the first of these looks, with all its threads (gh-106883)."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOKS_AMONG_GARBAGE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_each_thread_is_shown_where_it_is() -> None:
    begun, over = threading.Event(), threading.Event()

    def waits() -> None:
        begun.set()
        over.wait(60)

    thread = threading.Thread(target=waits)
    thread.start()
    begun.wait(60)
    frame = innermost_frames()[thread.ident or 0]
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    over.set()
    thread.join()
    assert "waits" in names


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_afterwards_as_it_was_before(
    collects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = gc.isenabled()
    seen = []
    monkeypatch.setattr(sys, "_current_frames", lambda: seen.append(gc.isenabled()) or {})
    (gc.enable if collects else gc.disable)()
    try:
        innermost_frames()
        assert gc.isenabled() is collects
    finally:
        (gc.enable if was else gc.disable)()
    assert seen == [False]

"""A system that has no thread left, for those of one name."""

from __future__ import annotations

import threading

import pytest

__all__ = ["no_thread"]


def no_thread(patch: pytest.MonkeyPatch, name: str, *, times: int = 1) -> list[str]:
    """Let the next threads of a name fail to start, as the system does it; return those that did."""
    real, failed = threading.Thread.start, list[str]()

    def start(thread: threading.Thread) -> None:
        if thread.name == name and len(failed) < times:
            failed.append(name)
            raise RuntimeError("can't start new thread")
        real(thread)

    patch.setattr(threading.Thread, "start", start)
    return failed

"""A manager can be closed and used again, also with plugins that were built before."""

from __future__ import annotations

import kessel_memory.plugin

from kessel_core import JobManager
from kessel_core.plugins.registry import build_plugins


def test_manager_connects_again_after_close_with_the_same_plugins() -> None:
    plugins = build_plugins(extra={"memory": kessel_memory.plugin}, distributions=[])
    manager = JobManager("memory://", handlers={"echo": lambda payload: payload}, plugins=plugins)
    for text in ("once", "twice"):
        with manager:
            assert manager.process_single_job("echo", text).value == text

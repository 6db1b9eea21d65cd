"""A manager can be closed and used again, also with plugins that were built before."""

from __future__ import annotations

import kessel_memory.plugin

from kessel_core import JobManager, build_plugins


def test_manager_connects_again_after_close_with_the_same_plugins() -> None:
    plugins = build_plugins(extra={"memory": kessel_memory.plugin}, distributions=[])
    manager = JobManager("memory://", handlers={"echo": lambda payload: payload}, plugins=plugins)
    for text in ("once", "twice"):
        with manager:
            assert manager.process_single_job("echo", text).value == text


def test_two_managers_on_one_set_of_plugins_run_at_the_same_time() -> None:
    """What is installed is found once; each application puts its own middleware around its jobs."""
    plugins = build_plugins(extra={"memory": kessel_memory.plugin}, distributions=[])
    with (
        JobManager("memory://", handlers={"t": lambda _: 1}, middleware=["logging"], plugins=plugins) as one,
        JobManager("memory://", handlers={"t": lambda _: 2}, middleware=[], plugins=plugins) as two,
    ):
        assert [manager.process_single_job("t").value for manager in (one, two, one)] == [1, 2, 1]

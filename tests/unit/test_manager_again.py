"""A manager can be closed and used again, also with plugins that were built before."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import kessel_memory.plugin
import pytest

import kessel_core.client.manager as manager_module
from kessel_core import InvalidConfig, JobManager, KesselError, build_plugins, handler
from kessel_core.testing import VirtualClock, run_until_idle
from tests.until import until


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


def test_a_close_that_another_thread_has_overtaken_closes_nothing_that_was_opened_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = JobManager("memory://", handlers={"echo": lambda payload: payload}).connect()
    _worker = manager.worker()
    end_all, overtaken = manager_module._end, iter([True])

    def ending(*arguments: Any) -> None:
        if next(overtaken, False):
            manager.close()
            manager.connect()
        end_all(*arguments)

    monkeypatch.setattr(manager_module, "_end", ending)
    manager.close()
    assert manager.process_single_job("echo", 1).value == 1
    manager.close()


def test_check_names_the_mistakes_that_connect_names_and_opens_nothing(tmp_path: Path) -> None:
    """Adapter, store, handlers and middleware in one error."""
    wrong = {"handlers": {"t": "nothing to call"}, "middleware": ["nobody"], "store": "nobody://x"}
    manager = JobManager(f"sqlite:///{tmp_path}/jobs.db?unknown=1", **wrong)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InvalidConfig) as checked:
        manager.check()
    with pytest.raises(InvalidConfig) as connected:
        manager.connect()
    assert str(checked.value) == str(connected.value)
    places = {problem.where[0] for problem in checked.value.problems}
    assert places == {"adapter", "store", "handlers", "middleware"}
    JobManager(f"sqlite:///{tmp_path}/jobs.db", handlers={"t": len}).check()
    assert list(tmp_path.iterdir()) == []


def test_check_says_where_a_mistake_of_the_configuration_stands(tmp_path: Path) -> None:
    file = tmp_path / "kessel.toml"
    file.write_text("[kessel]\nadapter = 'memory://'\nmiddleware = ['nobody']\n")
    with pytest.raises(InvalidConfig, match=r"kessel\.toml") as caught:
        JobManager.from_config(str(file), environ={}).check()
    assert "nobody" in str(caught.value)


def test_handlers_of_an_iterator_are_there_after_every_connect() -> None:
    @handler("echo")
    def echo(payload: str) -> str:
        return payload

    manager = JobManager("memory://", clock=VirtualClock(), handlers=(one for one in [echo]))
    for text in ("once", "twice"):
        with manager:
            manager.request("echo", text)
            assert [result.value for result in run_until_idle(manager)] == [text]


def test_no_worker_is_made_while_the_manager_closes() -> None:
    """It would run on for ever, over a queue that is closed."""
    go_on = threading.Event()
    manager = JobManager("memory://", handlers={"wait": lambda _: go_on.wait(20)}).connect()
    running = manager.start()
    manager.request("wait")
    until(lambda: running.running)
    closing = threading.Thread(target=manager.close)
    closing.start()
    try:
        until(lambda: running.is_stopping)
        for make in (manager.worker, manager.start):
            with pytest.raises(KesselError, match="is being closed"):
                make()
    finally:
        go_on.set()
        closing.join()
    with manager:
        manager.start(slots=1).stop()

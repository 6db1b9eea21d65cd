"""What an application does not use is not loaded (D5)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

import pytest

from kessel_core.values.late import importing

LATE = ("kessel_core", "kessel_core.contract", "kessel_core.hooks")


def loaded(code: str, names: set[str]) -> set[str]:
    """Return which of some modules an interpreter of its own has loaded after `code`."""
    shown = f"{code}\nimport sys; print(*sorted(set(sys.modules) & {names!r}))"
    run = subprocess.run([sys.executable, "-c", shown], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_d5_a_module_of_handlers_or_of_a_plugin_loads_no_queue_and_no_options() -> None:
    heavy = {"kessel_core.contract", "kessel_core.config.options", "kessel_core.client.manager"}
    heavy |= {"cattrs", "hashlib", "uuid", "decimal", "asyncio", "http.server"}
    assert loaded("from kessel_core import JobContext, Transient, handler, hookimpl", heavy) == set()


def test_d5_a_producer_loads_no_runtime_until_it_opens_its_queue() -> None:
    heavy = {"kessel_core.contract", "kessel_core.runtime", "cattrs", "hashlib", "uuid", "decimal", "asyncio"}
    assert loaded("from kessel_core import JobManager", heavy) == set()


def test_d5_a_worker_without_a_server_and_follow_ups_loads_no_openssl_and_no_parts_of_servers() -> None:
    code = """
from kessel_core import JobManager
with JobManager("memory://", handlers={"noop": lambda payload: None}) as manager:
    manager.request("noop")
    manager.worker().drain()
"""
    heavy = {"ssl", "hashlib", "_hashlib", "asyncio", "http.server", "kessel_core.contract.pool"}
    assert loaded(code, {*heavy, "kessel_core.contract.serverline"}) == set()


@pytest.mark.parametrize("package", LATE)
def test_each_public_name_is_there_and_an_unknown_one_is_an_attribute_error(package: str) -> None:
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing  # noqa: B018  # the attribute is asked for


@pytest.mark.parametrize("package", LATE)
def test_a_late_name_is_looked_up_once(package: str) -> None:
    module = import_module(package)
    name = next(iter(module._LATE))
    vars(module).pop(name, None)
    found = getattr(module, name)
    assert vars(module)[name] is found


#: A module whose import takes a while, and what says that its import has begun.
SLOW = """
import pathlib, time
first = 1
pathlib.Path("begun").touch()
time.sleep(0.3)
last = 2
"""
FORKS = """
import os, pathlib, sys, threading, time
sys.path.insert(0, "")
from kessel_core.values.late import importing

def work():
    with importing():
        import slow
        assert slow.last

thread = threading.Thread(target=work)
thread.start()
while not pathlib.Path("begun").exists():
    time.sleep(0.001)
if (child := os.fork()) == 0:
    again = threading.Thread(target=work)  # as a rule it has the number of the thread that was importing
    again.start()
    again.join(5)
    os._exit(0 if hasattr(sys.modules["slow"], "last") and not again.is_alive() else 1)
thread.join()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_child_that_is_forked_while_another_thread_imports_has_the_whole_module(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], cwd=tmp_path, check=True, timeout=30)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_an_import_that_does_not_end_holds_up_no_fork_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kessel_core.values.late._PATIENCE", 0.05)
    is_over, begun = threading.Event(), threading.Event()

    def imports() -> None:
        with importing():
            begun.set()
            is_over.wait(10)

    thread = threading.Thread(target=imports)
    thread.start()
    begun.wait(10)
    try:
        if (child := os.fork()) == 0:
            with importing():  # a lock of its own
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        is_over.set()
        thread.join()
    taken = []

    def takes() -> None:
        with importing():
            taken.append(True)

    other = threading.Thread(target=takes)
    other.start()
    other.join(5)
    assert taken, "the fork keeps what it did not get"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_inside_of_an_import_goes_on() -> None:
    with importing():
        if (child := os.fork()) == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

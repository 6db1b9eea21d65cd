"""What an application does not use is not loaded (D5)."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

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

"""What several files of unit tests need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import kessel_memory.plugin
import pytest

from kessel_core import JobManager, build_plugins


@pytest.fixture
def opened() -> Iterator[Callable[..., JobManager]]:
    """Connects managers without any installed plugin but the memory adapter."""
    managers: list[JobManager] = []

    def open_(adapter: Any = "memory://", plugin: object = None, **options: Any) -> JobManager:
        extra = {"memory": kessel_memory.plugin} | ({"own": plugin} if plugin is not None else {})
        managers.append(JobManager(adapter, plugins=build_plugins(extra=extra, distributions=[]), **options))
        return managers[-1].connect()

    yield open_
    for manager in managers:
        manager.close()

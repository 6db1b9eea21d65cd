"""Settings of all tests: how fast a machine is says nothing about what is tested; long files begin first.

No test sees how another one set up logging, or that whoever started the tests has SIGINT ignored.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent
#: Where a file of tests may take a minute, because they wait for processes and servers.
LONG: Final = (ROOT / "tests" / "process", ROOT / "tests" / "conformance")
#: Where it takes a few seconds at most.
SHORT: Final = ROOT / "tests" / "unit"

try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the tests of built wheels run without it
    pass
else:
    settings.register_profile("kessel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("kessel")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first and short ones last, so that no process is left alone with a long one."""

    def place(item: pytest.Item) -> int:
        is_long = any(item.path.is_relative_to(folder) for folder in LONG)
        return 0 if is_long else 2 if item.path.is_relative_to(SHORT) else 1

    items.sort(key=place)  # stable: otherwise the order is the random one


def pytest_configure() -> None:
    """Receive Ctrl-C as Python does; a shell lets what it starts in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def logging_is_left_as_found() -> Iterator[None]:
    """Take away what the command sets up when it runs inside of a test."""
    root, own = logging.getLogger(), logging.getLogger("kessel")
    before = (root.level, own.level)
    yield
    root.handlers[:] = [handler for handler in root.handlers if handler.get_name() != "kessel"]
    root.setLevel(before[0])
    own.setLevel(before[1])

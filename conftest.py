"""Settings of all tests: how fast a machine is says nothing about what is tested; long files begin first.

No test sees how another one set up logging, or that whoever started the tests has SIGINT ignored.
"""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent
#: What takes longest by far: begun late, it would keep one process busy while the others are done.
LONGEST: Final = (ROOT / "tests" / "conformance" / "test_networked.py",)
#: Where a file of tests may take a minute, because they wait for processes and servers.
LONG: Final = (ROOT / "tests" / "process", ROOT / "tests" / "conformance")
#: Where it takes a few seconds at most.
SHORT: Final = ROOT / "tests" / "unit"
#: What is not measured, because that more than doubles its time: here the suite, the simulator or the docs
#: are tested, by running much of the core again and again; the core's own tests run nearly all of it too.
UNMEASURED: Final = (
    ROOT / "examples",
    ROOT / "plugins" / "kessel_conformance",
    ROOT / "plugins" / "kessel_memory" / "tests" / "test_memory_variants.py",
    ROOT / "tests" / "cli" / "test_cli_conformance.py",
    ROOT / "tests" / "conformance",
    ROOT / "tests" / "docs" / "test_docs_examples.py",
    ROOT / "tests" / "simulation" / "test_histories.py",
    ROOT / "tests" / "simulation" / "test_planted.py",
    ROOT / "tests" / "simulation" / "test_seeds.py",
    ROOT / "tests" / "unit" / "test_testing_strategies.py",
)

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
        if is_below(item, LONGEST):
            return 0
        return 1 if is_below(item, LONG) else 3 if is_below(item, (SHORT,)) else 2

    items.sort(key=place)  # stable: otherwise the order is the random one
    for item in items:
        if is_below(item, UNMEASURED):
            item.add_marker(pytest.mark.no_cover)


def pytest_collection_finish() -> None:
    """Let collections of garbage leave out what lasts to the end: each would look at ten thousand tests."""
    gc.collect()
    gc.freeze()


def is_below(item: pytest.Item, places: tuple[Path, ...]) -> bool:
    """Tell whether a test stands in one of these files or folders."""
    return any(item.path.is_relative_to(place) for place in places)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let `no_cover` take effect: pytest-cov 7.1 begins twice in a process of xdist, and pauses only one."""
    measuring = session.config.pluginmanager.getplugin("_cov")
    if hasattr(session.config, "workerinput") and measuring is not None and measuring.cov_controller:
        measuring.cov_controller.cov.stop()


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

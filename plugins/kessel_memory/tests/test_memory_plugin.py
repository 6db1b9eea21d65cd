"""What kessel finds: the spec, its options from a URL, and that nothing heavy is loaded for it (D5)."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions
from kessel_memory.plugin import SPEC, kessel_adapters

from kessel_core import InvalidConfig
from kessel_core.contract import AdapterContext, Message, TieBreak
from kessel_core.testing.clock import VirtualClock
from kessel_core.values.options import structure_options


def options_of(url: str) -> Any:
    return structure_options(SPEC.options, SPEC.from_url(urlsplit(url)), url)


def test_the_plugin_offers_one_adapter() -> None:
    assert list(kessel_adapters()) == [SPEC]
    assert (SPEC.name, SPEC.schemes) == ("memory", ("memory",))


def test_the_spec_opens_an_adapter_that_works() -> None:
    adapter = SPEC.open(options_of("memory://"), AdapterContext(clock=VirtualClock()))
    assert isinstance(adapter, MemoryAdapter)
    adapter.enqueue(Message("a", "default", b"", 0))
    assert adapter.stats("default").ready == 1
    adapter.close()


def test_texts_of_a_url_become_options() -> None:
    assert options_of("memory://Shop?lease=5m&tie_break=enqueued&capacity=10") == MemoryOptions(
        name="Shop", lease=timedelta(minutes=5), tie_break=TieBreak.ENQUEUED, capacity=10
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://shop?leese=5m", "leese"),
        ("memory://shop:7", "port"),
        ("memory://shop/path", "path"),
        ("memory://me@shop", "username"),
        ("memory://?lease=soon", "lease"),
        ("memory://?tie_break=random", "tie_break"),
        ("memory://?capacity=0", "capacity"),
    ],
)
def test_a_mistake_in_a_url_is_named(url: str, said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        options_of(url)


def test_finding_the_plugin_does_not_load_the_adapter() -> None:
    """D5."""
    code = "import sys, kessel_memory.plugin; print('kessel_memory.store' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"

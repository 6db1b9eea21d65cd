"""Options, URLs, and who shares a named store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions, memory_url_options

from kessel_core import InvalidConfig
from kessel_core.contract import (
    NO_PAUSE,
    AdapterContext,
    Attempts,
    Browse,
    Buried,
    Delete,
    Durability,
    Find,
    LeaseReturn,
    Message,
    Pause,
    Reach,
    Store,
    VirtualTime,
    facets_of,
)
from kessel_core.testing.clock import VirtualClock

Make = Callable[..., Message]
Open = Callable[..., MemoryAdapter]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("memory://", {}),
        ("memory://Orders", {"name": "Orders"}),
        ("memory://a?lease=5s&capacity=10", {"name": "a", "lease": "5s", "capacity": "10"}),
        ("memory://?tie_break=enqueued", {"tie_break": "enqueued"}),
        ("memory://?name=a", {"name": "a"}),
        (
            "memory://me:secret@a:7/x",
            {"name": "a", "username": "me", "password": "secret", "port": 7, "path": "/x"},
        ),
        ("memory://a?name=b", {"host": "a", "name": "b"}),
    ],
)
def test_a_url_says_the_options(url: str, found: dict[str, Any]) -> None:
    """What a memory queue cannot have stays, so that it is refused by name."""
    assert memory_url_options(urlsplit(url)) == found


def test_all_values_out_of_range_are_refused_together() -> None:
    with pytest.raises(InvalidConfig) as caught:
        MemoryOptions(lease=timedelta(0), capacity=0, max_body_bytes=-1)
    assert [problem.path for problem in caught.value.problems] == [
        "lease",
        "max_body_bytes",
        "capacity",
    ]


def test_it_declares_every_capability(opened: Open) -> None:
    """S17: the values are those of the options."""
    adapter = opened(lease=timedelta(seconds=5), max_body_bytes=100)
    capabilities = adapter.capabilities
    assert len(capabilities.declared()) == 14, "all but durability and longest_delay"
    assert set(facets_of(adapter)) == {Browse, Buried, Delete, Find, Pause, Store, VirtualTime}
    assert "durability" not in capabilities.declared()
    assert capabilities.reach is Reach.PROCESS
    assert capabilities.durability is Durability.NONE
    assert capabilities.delay_granularity == timedelta(microseconds=1)
    assert capabilities.lease == timedelta(seconds=5)
    assert capabilities.lease_return is LeaseReturn.LEASE_END
    assert capabilities.attempts is Attempts.SERVER
    assert capabilities.max_body_bytes == 100


def test_without_a_name_an_adapter_is_private(opened: Open, message: Make) -> None:
    one, other = opened(), opened()
    one.enqueue(message())
    assert other.stats("default").total == 0


def test_a_name_is_shared_until_the_last_has_closed_it(opened: Open, message: Make) -> None:
    one, other = opened(name="shared by two"), opened(name="shared by two")
    one.enqueue(message("a"))
    one.close()
    assert other.consumer(["default"]).reserve(NO_PAUSE) is not None
    other.close()
    assert opened(name="shared by two").stats("default").total == 0


@pytest.mark.parametrize(
    ("options", "other_clock", "why"),
    [({"capacity": 1}, False, "other options"), ({}, True, "another clock")],
)
def test_those_who_share_a_name_must_agree(
    opened: Open, clock: VirtualClock, options: dict[str, Any], other_clock: bool, why: str
) -> None:
    opened(name="agreed")
    with pytest.raises(InvalidConfig, match=f"memory://agreed is already open in this process with {why}"):
        MemoryAdapter(
            MemoryOptions(name="agreed", **options),
            AdapterContext(clock=VirtualClock() if other_clock else clock),
        )

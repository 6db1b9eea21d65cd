"""Spans of other libraries, given to an adapter itself: theirs divide and compare in ways of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions
from kessel_sqlite.adapter import SqliteAdapter
from kessel_sqlite.options import SqliteOptions

from kessel_core import SystemClock
from kessel_core.contract import (
    NO_PAUSE,
    AdapterContext,
    Message,
    Pause,
    Put,
    QueueAdapter,
    Rollback,
    Settlement,
    Snooze,
    Store,
    rounded_up,
)

SPAN = pendulum.duration(years=1, microseconds=7)
PLAIN = timedelta(days=365, microseconds=7)


def test_a_settlement_and_what_is_rounded_have_plain_spans() -> None:
    spans = [Rollback(SPAN).pause, Snooze(SPAN).pause, Put("s", "k", b"v", SPAN).ttl]
    spans += [rounded_up(SPAN, None), rounded_up(SPAN, timedelta(microseconds=7))]
    assert [type(span) for span in spans] == [timedelta] * 5
    assert spans[:4] == [PLAIN] * 4
    assert spans[4] == PLAIN + (-PLAIN % timedelta(microseconds=7))
    assert Put("s", "k", b"v").ttl is None


@contextmanager
def here(kind: str, folder: Path) -> Iterator[QueueAdapter]:
    context = AdapterContext(clock=SystemClock())
    made: QueueAdapter
    if kind == "memory":
        made = MemoryAdapter(MemoryOptions(), context)
    else:
        made = SqliteAdapter(SqliteOptions(path=folder / "jobs.db"), context)
    with closing(made):
        yield made


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_engines_of_this_machine_take_spans_of_other_libraries(kind: str, tmp_path: Path) -> None:
    with here(kind, tmp_path) as adapter:
        takes(adapter)


def test_engines_of_a_network_take_spans_of_other_libraries(opened: Callable[..., Any]) -> None:
    takes(opened())


def takes(adapter: QueueAdapter) -> None:
    waiting = adapter.consumer(["q"])
    pauses: list[Settlement] = [Rollback(SPAN), Snooze(SPAN)]
    for number, settlement in enumerate(pauses):
        adapter.enqueue(Message(f"job-{number}", "q", b'{"v":1,"id":"job-%d"}' % number, 9))
        held = waiting.reserve(NO_PAUSE)
        assert held is not None
        waiting.settle(held, settlement)
    assert adapter.stats("q").delayed == len(pauses)
    assert waiting.reserve(pendulum.duration(milliseconds=1)) is None
    adapter.facet(Pause).pause("q", SPAN)
    paused = adapter.stats("q").paused
    assert paused is not None
    assert PLAIN - timedelta(hours=1) < paused <= PLAIN + timedelta(milliseconds=1)
    adapter.facet(Store).put("s", "k", b"v", ttl=SPAN)
    entry = adapter.facet(Store).get("s", "k")
    assert entry is not None
    assert entry.value == b"v"

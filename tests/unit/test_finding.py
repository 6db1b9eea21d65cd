"""Jobs that are looked for in any adapter: in which order, each once, and by which ids."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import attrs
import pytest
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions

from kessel_core.contract import NO_PAUSE, AdapterContext, Bury, JobState, Message, StoredJob
from kessel_core.features.finding import buried_jobs, is_start, jobs_named, stored_jobs
from kessel_core.testing import VirtualClock


@pytest.fixture
def adapter() -> Iterator[Any]:
    made = MemoryAdapter(MemoryOptions(), AdapterContext(clock=VirtualClock()))
    yield made
    made.close()


def bury(adapter: Any, job_id: str, queue: str) -> None:
    adapter.enqueue(Message(job_id, queue, b"x", 1))
    consumer = adapter.consumer([queue])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    consumer.settle(held, Bury("error", "m"))
    consumer.close()
    adapter._store.clock.advance(timedelta(seconds=1))


def test_burials_of_several_queues_come_oldest_first(adapter: Any) -> None:
    """As `kessel buried list` promises; so a limit leaves out the latest, whatever queue they are of."""
    for job_id, queue in (("a", "r"), ("b", "q"), ("c", "r"), ("d", "q")):
        bury(adapter, job_id, queue)
    assert [job.id for job in buried_jobs(adapter, ["q", "r"])] == ["a", "b", "c", "d"]


def test_job_that_is_buried_again_meanwhile_is_not_met_a_second_time(
    adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else who kicks them all kicks for ever what fails at once."""
    for job_id in ("a", "b"):
        bury(adapter, job_id, "q")

    def endless(queue: str) -> Iterator[StoredJob]:
        while True:
            (job,) = adapter.buried(queue, 1)
            yield job
            adapter.delete(queue, job.id)
            bury(adapter, job.id, queue)

    monkeypatch.setattr(adapter, "each_buried", endless)
    assert [job.id for job in buried_jobs(adapter, ["q"])] == ["a", "b"]


def test_job_that_moves_on_meanwhile_is_met_once(adapter: Any) -> None:
    for job_id in ("a", "b"):
        adapter.enqueue(Message(job_id, "q", b"x", 1))
    bury(adapter, "old", "r")
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    adapter.enqueue(Message("c", "q", b"x", 1))
    met = []
    for job in stored_jobs(adapter, ["q"], (JobState.READY, JobState.RESERVED)):
        met.append(job.id)
        if job.id == "b":
            held = consumer.settle_and_reserve(held, Bury("r", "m"))  # takes b
    assert met == ["b", "c"]


def test_where_several_jobs_may_have_an_id_all_of_them_are_looked_for(
    adapter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S14: only where an id is held once does the first one that is found stand for all."""
    adapter.enqueue(Message("abcdefgh", "q", b"x", 1))
    many = attrs.evolve(adapter.capabilities, dedupe=False)
    monkeypatch.setattr(type(adapter), "capabilities", property(lambda self: many))
    monkeypatch.setattr(adapter, "find", lambda job_id: pytest.fail("one only"))
    whole, begun = jobs_named(adapter, ["q"], "abcdefgh")
    assert ([job.id for job in whole], begun) == (["abcdefgh"], [])


@pytest.mark.parametrize(
    ("text", "job_id", "may_be"),
    [
        ("abcdefgh", "abcdefghi", True),
        ("abcdefg", "abcdefghi", False),
        ("abcdefgh", "xabcdefgh", False),
        ("@1234567", "@12345678", False),
    ],
)
def test_start_of_an_id_has_eight_characters_and_is_no_number_of_a_server(
    text: str, job_id: str, may_be: bool
) -> None:
    assert is_start(text, job_id) is may_be

"""The store of the memory adapter (S19); what every store does is in the suite of stores."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from kessel_memory.entries import Entries, MemoryStore, open_store
from kessel_memory.options import MemoryStoreOptions

from kessel_core.contract import (
    AdapterContext,
    AdapterUnavailable,
    InvalidConfig,
    StoreConflict,
    StoreRejected,
)
from kessel_core.testing import VirtualClock

SECOND = timedelta(seconds=1)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(auto_advance=False)


@pytest.fixture
def store(clock: VirtualClock) -> MemoryStore:
    return MemoryStore(Entries(clock, threading.RLock()))


def test_s19a_a_put_replaces_exactly_the_expected_version(store: MemoryStore) -> None:
    first = store.put("s", "k", b"1", expect=0)
    with pytest.raises(StoreConflict) as caught:
        store.put("s", "k", b"2", expect=0)
    assert (caught.value.version, caught.value.value) == (first, b"1")
    second = store.put("s", "k", b"2", expect=first)
    assert second > first
    with pytest.raises(StoreConflict):
        store.put("s", "k", b"3", expect=first)
    with pytest.raises(StoreConflict) as caught:
        store.put("s", "other", b"3", expect=first)
    assert caught.value.version == 0
    entry = store.get("s", "k")
    assert entry is not None
    assert (entry.key, entry.version, entry.value, entry.expires_at) == ("k", second, b"2", None)


def test_s19a_a_version_is_never_used_again(store: MemoryStore, clock: VirtualClock) -> None:
    versions = [store.put("s", "k", b"", ttl=SECOND)]
    clock.advance(SECOND)
    versions.append(store.put("s", "k", b"", expect=0))
    store.delete("s", "k")
    versions.append(store.put("s", "k", b"", expect=0))
    assert versions == sorted(set(versions))


def test_s19b_an_entry_is_there_until_its_end_and_not_at_it(store: MemoryStore, clock: VirtualClock) -> None:
    store.put("s", "k", b"v", ttl=SECOND)
    clock.advance(SECOND - timedelta(microseconds=1))
    assert store.get("s", "k") is not None
    assert len(store.scan("s")) == 1
    clock.advance(timedelta(microseconds=1))
    assert store.get("s", "k") is None
    assert store.scan("s") == []
    assert store.delete("s", "k") is False


def test_s19b_a_put_without_an_end_takes_the_end_away(store: MemoryStore, clock: VirtualClock) -> None:
    store.put("s", "k", b"v", ttl=SECOND)
    store.put("s", "k", b"v")
    clock.advance(10 * SECOND)
    assert store.get("s", "k") is not None


def test_s19d_a_scan_goes_by_key_in_pages(store: MemoryStore) -> None:
    keys = ["a", "b", "ba", "bb", "B", "é", "\U0001f600", "￿"]
    for key in keys:
        store.put("s", key, key.encode())
    store.put("t", "z", b"")
    assert [entry.key for entry in store.scan("s")] == sorted(keys)
    assert [entry.key for entry in store.scan("s", prefix="b")] == ["b", "ba", "bb"]
    assert [entry.key for entry in store.scan("s", prefix="b", after="ba")] == ["bb"]
    assert [entry.key for entry in store.scan("s", after="a", limit=2)] == ["b", "ba"]


def test_s19e_a_wait_is_woken_by_put_delete_and_end(store: MemoryStore, clock: VirtualClock) -> None:
    def waited(seen: int) -> bytes | None:
        entry = store.wait("s", "k", seen=seen, timeout=timedelta(hours=1))
        return entry.value if entry is not None else None

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(waited, 0)
        first = store.put("s", "k", b"1")
        assert waiting.result(20) == b"1"
        waiting = pool.submit(waited, first)
        store.delete("s", "k")
        assert waiting.result(20) is None
        version = store.put("s", "k", b"2", ttl=SECOND)
        waiting = pool.submit(waited, version)
        while not waiting.done():
            clock.advance(SECOND / 4)
        assert waiting.result(20) is None


def test_s19e_a_wait_ends_with_its_time(store: MemoryStore) -> None:
    version = store.put("s", "k", b"1")
    entry = store.wait("s", "k", seen=version, timeout=timedelta(0))
    assert entry is not None
    assert store.wait("s", "other", timeout=-SECOND) is None


def test_a_wait_ends_when_the_store_is_closed(store: MemoryStore) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(store.wait, "s", "k", timeout=timedelta(hours=1))
        store.close()
        with pytest.raises(AdapterUnavailable, match="closed"):
            waiting.result(20)


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get("", "k"),
        lambda store: store.get("Upper", "k"),
        lambda store: store.get("s" * 61, "k"),
        lambda store: store.get("s", ""),
        lambda store: store.get("s", "k" * 301),
        lambda store: store.get("s", "\ud800"),
        lambda store: store.get("s", "a\0b"),
        lambda store: store.get("s", 7),
        lambda store: store.put("s", "k", "text"),
        lambda store: store.put("s", "k", b"", expect=-1),
        lambda store: store.put("s", "k", b"", expect=True),
        lambda store: store.put("s", "k", b"", ttl=timedelta(0)),
        lambda store: store.put("s", "k", b"", ttl=5),
        lambda store: store.scan("s", prefix=None),
        lambda store: store.scan("s", limit="9"),
        lambda store: store.scan("s", limit=0),
        lambda store: store.scan("s", limit=1001),
        lambda store: store.scan("s", prefix="\ud800"),
        lambda store: store.wait("s", "k", seen=-1, timeout=SECOND),
    ],
)
def test_what_no_store_takes_is_refused_and_changes_nothing(store: MemoryStore, call: object) -> None:
    with pytest.raises(StoreRejected):
        call(store)  # type: ignore[operator]  # a lambda
    assert store.scan("s") == []


def test_a_name_is_shared_until_the_last_has_closed_it(clock: VirtualClock) -> None:
    context = AdapterContext(clock=clock)
    first = open_store(MemoryStoreOptions(name="shared"), context)
    second = open_store(MemoryStoreOptions(name="shared"), context)
    first.put("s", "k", b"v")
    first.close()
    first.close()
    assert second.get("s", "k") is not None
    with pytest.raises(InvalidConfig, match="another clock"):
        open_store(MemoryStoreOptions(name="shared"), AdapterContext(clock=VirtualClock()))
    second.close()
    third = open_store(MemoryStoreOptions(name="shared"), context)
    assert third.get("s", "k") is None
    third.close()


def test_an_entry_that_is_replaced_again_and_again_leaves_nothing_behind(store: MemoryStore) -> None:
    for number in range(2000):
        store.put("s", f"k{number % 3}", b"", ttl=timedelta(days=7))
    assert len(store._entries._ends) <= 200
    assert len(store.scan("s")) == 3


def test_s19b_entries_end_in_time_when_many_others_were_replaced(
    store: MemoryStore, clock: VirtualClock
) -> None:
    """The ends of those that were replaced are cleared away meanwhile."""
    left = {f"{number:02}": number * 37 % 50 + 1 for number in range(50)}
    for key, seconds in left.items():
        store.put("s", key, b"", ttl=seconds * SECOND)
    for key in list(left)[::3] * 3:
        left[key] += 50
        store.put("s", key, b"", ttl=left[key] * SECOND)
    for passed in range(1, max(left.values()) + 1):
        clock.advance(SECOND)
        there = [entry.key for entry in store.scan("s")]
        assert there == [key for key, seconds in left.items() if seconds > passed]

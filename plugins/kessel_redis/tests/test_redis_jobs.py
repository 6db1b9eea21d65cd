"""What the suite cannot see: scores that are exact, portions, keys that are left, texts of any kind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kessel_redis import codec
from kessel_redis.adapter import RedisAdapter
from kessel_redis.consumer import RedisReservation
from kessel_redis.scripts import PUT, Keys, Layout
from kessel_redis.telling import told_of

from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Bury,
    Commit,
    Consumer,
    EnqueueRejected,
    IdHeld,
    JobState,
    LeaseLost,
    Message,
    Put,
    Rollback,
    Snooze,
    StoreConflict,
)
from tests.outlooks import one_look_tells_of_each_queue

Opened = Callable[..., RedisAdapter]
Ask = Callable[..., Any]


@pytest.fixture
def adapter(opened: Opened) -> RedisAdapter:
    return opened(max_body_bytes=1000)


def message(job_id: str = "a", queue: str = "q", priority: int = 1, **more: Any) -> Message:
    return Message(job_id, queue, b"x", priority, **more)


def drained(consumer: Consumer) -> list[str]:
    """Take and commit all that is ready; return the ids."""
    ran = []
    held = consumer.reserve(NO_PAUSE)
    while held is not None:
        ran.append(held.id or "")
        held = consumer.settle_and_reserve(held, COMMIT)
    return ran


@given(st.text(), st.text())
def test_notes_come_back_as_they_were(reason: str, text: str) -> None:
    """Apart from what cannot be written in UTF-8, which is escaped."""
    found = codec.to_note(codec.note(reason, text))
    assert found == tuple(one.encode("utf-8", "backslashreplace").decode() for one in (reason, text))


@given(st.timedeltas())
def test_spans_are_kept_or_cut_to_ten_thousand_years(span: timedelta) -> None:
    cut = min(max(span, timedelta(0)), timedelta(days=3_660_000))
    assert codec.to_span(codec.micros(span)) == cut


def test_calls_of_the_same_form_begin_alike() -> None:
    """A call is packed from its parts, whatever they hold, and the beginning of the next one is the same."""
    keys = Keys("n")
    layout = Layout(("a", "b"), ("s",))
    first, second = (keys.call(PUT, layout, [one, b"\r\n$5"]) for one in (b"xy", b"\0"))
    assert first.endswith(b"$2\r\nxy\r\n$4\r\n\r\n$5\r\n")
    assert first[: -len(b"$2\r\nxy\r\n$4\r\n\r\n$5\r\n")] == second[: -len(b"$1\r\n\0\r\n$4\r\n\r\n$5\r\n")]
    assert first.startswith(b"*28\r\n$7\r\nEVALSHA\r\n")
    assert (layout.queue("b"), layout.space("s")) == (b"12", b"20")


def test_batch_is_told_by_a_message_of_each_queue_and_kind() -> None:
    stored = [("a", b"0"), ("b", b"30"), ("a", b"0"), ("b", b"20"), ("b", b"40"), ("b", b"0")]
    assert told_of(stored) == ["r:2:a", "r:1:b", "d:20:b"]
    assert told_of([]) == []


@pytest.mark.parametrize("queues", [["q"], ["other", "q", "more"]])
def test_priorities_are_exact_from_end_to_end(adapter: RedisAdapter, queues: list[str]) -> None:
    """S3, S6: no number is packed with another one into a double."""
    numbers = [2**32 - 1, 2**31, 2**32 - 2, 0, 2**31 + 1, 2**31 - 1, 1, 65536]
    given_ids = []
    for turn in range(2):
        for number in numbers:
            queue = queues[(turn + number) % len(queues)]
            adapter.enqueue(message(f"{number}.{turn}", queue, number))
            given_ids.append((number, turn))
    consumer = adapter.consumer(queues)
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    held = consumer.settle_and_reserve(held, Rollback())  # and back in its old place
    assert held is not None
    consumer.settle(held, Snooze())
    assert drained(consumer) == [f"{number}.{turn}" for number, turn in sorted(given_ids)]


def test_two_thousand_equals_come_in_their_order_beyond_any_counter_of_a_double(
    adapter: RedisAdapter, ask: Ask, namespace: str
) -> None:
    """S6, also at the largest priority, and after 10^15 other jobs."""
    ask(adapter, "SET", f"{{{namespace}}}:seq", str(10**15))
    ids = [str(number) for number in range(2000)]
    assert adapter.enqueue_many([message(one, priority=2**32 - 1) for one in ids]) == [None] * 2000
    assert drained(adapter.consumer(["q"])) == ids


def test_more_jobs_that_are_due_than_one_call_takes_go_in_their_order(
    adapter: RedisAdapter, ask: Ask, namespace: str
) -> None:
    """S6: the most urgent of all may be in the last portion."""
    due = datetime.now(UTC) + timedelta(hours=1)
    adapter.enqueue_many([message(str(number), priority=1000 - number, delay=due) for number in range(900)])
    delayed = f"{{{namespace}}}:d:q"
    members = ask(adapter, "ZRANGE", delayed, "0", "-1")
    ask(adapter, "ZADD", delayed, *(part for n, one in enumerate(members) for part in (str(n + 1), one)))
    consumer = adapter.consumer(["q"])
    first = consumer.reserve(NO_PAUSE)
    assert first is not None
    second = consumer.settle_and_reserve(first, COMMIT)
    assert second is not None
    assert (first.id, second.id) == ("899", "898")
    consumer.settle(second, COMMIT)


def test_more_jobs_that_became_due_while_one_ran_go_in_their_order(
    adapter: RedisAdapter, ask: Ask, namespace: str
) -> None:
    """S6: also where the next one is taken with a settlement."""
    adapter.enqueue(message("first"))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    due = datetime.now(UTC) + timedelta(hours=1)
    adapter.enqueue_many([message(str(number), priority=1000 - number, delay=due) for number in range(450)])
    delayed = f"{{{namespace}}}:d:q"
    members = ask(adapter, "ZRANGE", delayed, "0", "-1")
    ask(adapter, "ZADD", delayed, *(part for n, one in enumerate(members) for part in (str(n + 1), one)))
    held = consumer.settle_and_reserve(held, COMMIT)
    assert held is not None and held.id == "449"
    assert adapter.find("first") is None
    consumer.settle(held, COMMIT)


@pytest.mark.parametrize("count", [199, 200, 450])
@pytest.mark.parametrize("look", ["stats", "peek", "delete", "purge", "find"])
def test_each_look_sees_leases_that_have_ended_however_many(
    adapter: RedisAdapter, ask: Ask, namespace: str, look: str, count: int
) -> None:
    """S7"""
    adapter.enqueue_many([message(str(number)) for number in range(count)])
    consumers = [adapter.consumer(["q"]) for _ in range(count)]
    for consumer in consumers:
        assert consumer.reserve(NO_PAUSE) is not None
    held = f"{{{namespace}}}:h:q"
    members = ask(adapter, "ZRANGE", held, "0", "-1")
    ask(adapter, "ZADD", held, *(part for one in members for part in ("1", one)))
    match look:
        case "stats":
            assert (adapter.stats("q").ready, adapter.stats("q").reserved) == (count, 0)
        case "peek":
            jobs = adapter.peek("q", JobState.READY, count + 1)
            assert [(job.id, job.attempt) for job in jobs] == [(str(number), 1) for number in range(count)]
        case "delete":
            adapter.delete("q", str(count - 1))
            assert adapter.stats("q").total == count - 1
        case "purge":
            assert adapter.purge("q") == count
        case "find":
            found = adapter.find(str(count - 1))
            assert found is not None and (found.state, found.attempt) == (JobState.READY, 1)


@pytest.mark.parametrize("queues", [["q"], ["q", "other"]])
@pytest.mark.parametrize("others", [0, 450])
def test_lease_that_has_ended_by_the_clock_of_the_server_is_lost(
    adapter: RedisAdapter, ask: Ask, namespace: str, queues: list[str], others: int
) -> None:
    """S7: whatever the holder's clock says, and however many ended with it; nothing is reserved for him."""
    adapter.enqueue_many([message(str(number)) for number in range(others)] + [message("a"), message("b")])
    stray = [adapter.consumer(queues).reserve(NO_PAUSE) for _ in range(others)]
    consumer = adapter.consumer(queues)
    mine = consumer.reserve(NO_PAUSE)
    assert isinstance(mine, RedisReservation)
    held = f"{{{namespace}}}:h:q"
    members = ask(adapter, "ZRANGE", held, "0", "-1")
    ends = ("2" if one == mine.member else "1" for one in members)
    ask(adapter, "ZADD", held, *(part for pair in zip(ends, members, strict=True) for part in pair))
    with pytest.raises(LeaseLost):
        adapter.settle(mine, COMMIT)
    (outcome,) = adapter.renew_many([mine])
    assert isinstance(outcome, LeaseLost)
    with pytest.raises(LeaseLost):
        consumer.settle_and_reserve(mine, COMMIT)
    stats = adapter.stats("q")
    assert (stats.ready, stats.reserved, len(stray)) == (others + 2, 0, others)


def test_nothing_is_left_of_a_job_that_is_gone(adapter: RedisAdapter, ask: Ask, namespace: str) -> None:
    """Whatever way it went; else the memory of a server fills up in a year."""
    consumer = adapter.consumer(["q"])
    soon = datetime.now(UTC) + timedelta(hours=1)
    for turn, settlement in enumerate((COMMIT, Rollback(), Snooze(), Bury("r", "m"))):
        adapter.enqueue(message(f"{turn}"))
        held = consumer.reserve(NO_PAUSE)
        assert held is not None
        consumer.settle(held, settlement)
        if turn == 3:
            adapter.kick("q", held.id or "")
            assert ask(adapter, "HLEN", f"{{{namespace}}}:w:q") == 0  # a message may be long
        drained(consumer)
    adapter.enqueue_many([message("d", delay=soon), message("p"), message("b")])
    adapter.delete("q", "d")
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    consumer.settle(held, Bury("r", "m"))
    assert adapter.purge("q") == 2
    adapter.pause("q", timedelta(hours=1))
    adapter.pause("q", NO_PAUSE)
    adapter.store.put("s", "k", b"v", ttl=timedelta(hours=1))
    adapter.store.delete("s", "k")
    assert adapter.queues() == []
    left = {key.decode().partition(":")[2] for key in ask(adapter, "KEYS", f"{{{namespace}}}:*")}
    assert left == {"seq", "ver", "v"}


def test_entries_whose_time_is_over_are_removed(adapter: RedisAdapter, ask: Ask, namespace: str) -> None:
    """S19b: not only hidden."""
    store = adapter.store
    for number in range(30):
        store.put("s", f"k{number}", b"v", ttl=timedelta(milliseconds=1))
    store.put("s", "stays", b"v", ttl=timedelta(hours=1))
    store.put("s", "stays", b"v")  # without an end now
    time.sleep(0.01)  # it is the server's clock that counts
    for _ in range(2):
        store.put("s", "other", b"v")
    keys = ask(adapter, "HKEYS", f"{{{namespace}}}:ev:s")
    assert sorted(keys) == [b"other", b"stays"]
    assert [entry.key for entry in store.scan("s")] == ["other", "stays"]
    assert ask(adapter, "KEYS", f"{{{namespace}}}:ex:s") == []


def test_scan_goes_on_where_one_step_ends(adapter: RedisAdapter) -> None:
    """S19d: in the order of the keys, from anywhere in it."""
    store = adapter.store
    keys = [f"a{number:03}" for number in range(450)]
    for key in [*keys, "z", "\U0001f600"]:
        store.put("s", key, b"v")
    assert [entry.key for entry in store.scan("s", limit=1000)] == [*keys, "z", "\U0001f600"]
    assert [entry.key for entry in store.scan("s", after="a449")] == ["z", "\U0001f600"]
    pages = store.scan("s", prefix="a1", after="a115", limit=3)
    assert [entry.key for entry in pages] == ["a116", "a117", "a118"]
    assert [entry.key for entry in store.scan("s", prefix="z", after="a")] == ["z"]
    assert store.scan("s", prefix="a", after="b") == []


def test_conflict_says_what_is_there(adapter: RedisAdapter) -> None:
    """S19a"""
    version = adapter.store.put("s", "k", b"mine", ttl=timedelta(hours=1))
    with pytest.raises(StoreConflict) as caught:
        adapter.store.put("s", "k", b"other", expect=version + 1)
    assert (caught.value.version, caught.value.value) == (version, b"mine")
    assert caught.value.expires_at is not None


def test_odd_reasons_and_messages_never_prevent_a_burial(adapter: RedisAdapter) -> None:
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    consumer.settle(held, Bury("a\0:", "\ud800 and \0" + "x" * 200_000))
    [job] = adapter.buried("q")
    assert job.reason == "a\0:"
    assert job.message is not None and job.message.startswith("\\ud800 and \0x")
    assert len(job.message) <= 100_100


def test_refused_follow_up_changes_nothing_and_the_lease_holds(adapter: RedisAdapter) -> None:
    """S20"""
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    large = Message("f", "q", b"x" * 1001, 1)
    with pytest.raises(EnqueueRejected):
        consumer.settle(held, Commit(follow=(message("g"), large)))
    with pytest.raises(EnqueueRejected):
        consumer.settle_and_reserve(held, Bury("r", follow=(large,)))
    assert adapter.find("g") is None
    consumer.settle(held, COMMIT)


def test_late_settlement_stores_nothing_of_what_it_brings(opened: Opened) -> None:
    """S7, S20: all of it happens, or nothing."""
    adapter = opened()
    adapter.enqueue(message())
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    adapter.give_back(held)
    brought = Commit(follow=(message("f"),), puts=(Put("s", "k", b"v"),))
    for settle in (adapter.settle, lambda *one: adapter.settle_and_take(*one, ("q",))):
        for settlement in (brought, COMMIT):
            with pytest.raises(LeaseLost):
                settle(held, settlement)
    assert adapter.find("f") is None
    assert adapter.store.get("s", "k") is None
    stats = adapter.stats("q")
    assert (stats.ready, stats.reserved) == (1, 0)


def test_settlement_brings_jobs_and_entries_of_several_queues_and_spaces(adapter: RedisAdapter) -> None:
    """S20a, S25a"""
    adapter.enqueue(message(queue="b"))
    held = adapter.consumer(["a", "b"]).reserve(NO_PAUSE)
    assert held is not None
    later = datetime.now(UTC) + timedelta(hours=1)
    follow = (message("f1", "c", 7), message("f2", "b", delay=later), message("f3", "a"))
    puts = (Put("s", "k", b"1", timedelta(hours=1)), Put("t", "k", b"2"))
    taken = adapter.settle_and_take(held, Commit(follow, puts), ("a", "b"))
    assert taken is not None and (taken.id, taken.queue) == ("f3", "a")
    jobs = [adapter.find(f"f{number}") for number in (1, 2, 3)]
    assert [(job.queue, job.state, job.priority) for job in jobs if job is not None] == [
        ("c", JobState.READY, 7),
        ("b", JobState.DELAYED, 1),
        ("a", JobState.RESERVED, 1),
    ]
    first, second = adapter.store.get("s", "k"), adapter.store.get("t", "k")
    assert first is not None and second is not None
    assert (first.value, second.value, second.expires_at) == (b"1", b"2", None)
    assert first.expires_at is not None


def test_job_is_settled_by_an_adapter_that_does_not_serve_its_queue(adapter: RedisAdapter) -> None:
    adapter.enqueue_many([message("a", "one"), message("b", "two")])
    held = adapter.take(("one",))
    assert held is not None
    taken = adapter.settle_and_take(held, Rollback(), ("two",))
    assert taken is not None and taken.id == "b"
    assert adapter.stats("one").ready == 1


def test_same_id_twice_in_a_batch_is_held_by_the_first(adapter: RedisAdapter) -> None:
    """S14"""
    outcomes = adapter.enqueue_many(
        [message("a"), message("b"), message("a"), Message("c", "q", b"x" * 1001, 1)]
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), type(None), IdHeld, EnqueueRejected]
    assert adapter.stats("q").ready == 2


def test_two_who_put_the_same_ids_both_get_an_answer(opened: Opened) -> None:
    adapters = [opened(), opened()]
    messages = [message(str(number)) for number in range(400)]
    outcomes: dict[int, list[Any]] = {}

    def put(number: int) -> None:
        outcomes[number] = adapters[number].enqueue_many(messages if number == 0 else messages[::-1])

    threads = [threading.Thread(target=put, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = [type(one) for number in range(2) for one in outcomes[number]]
    assert (kinds.count(type(None)), kinds.count(IdHeld)) == (400, 400)


def test_job_is_stored_although_the_one_that_held_its_id_has_just_ended(
    adapter: RedisAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S14: between the answer and the look for its state."""
    store, answers = adapter._store, [[b"held"]]
    monkeypatch.setattr(adapter, "_store", lambda *given: answers.pop() if answers else store(*given))
    adapter.enqueue(message("a"))
    assert adapter.find("a") is not None


def test_age_of_the_next_job_is_that_of_one_that_is_ready(adapter: RedisAdapter) -> None:
    adapter.enqueue(message("later", delay=datetime.now(UTC) + timedelta(hours=1)))
    assert adapter.stats("q").oldest_ready is None
    adapter.enqueue(message("now", "r"))
    age = adapter.stats("r").oldest_ready
    assert age is not None and age >= NO_PAUSE


def test_beginnings_of_calls_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a queue for each customer would fill the memory of a worker."""
    monkeypatch.setattr("kessel_redis.scripts._KEPT", 3)
    keys = Keys("n")
    calls = [keys.call(PUT, Layout((f"q{number}",)), []) for number in range(10)]
    assert len(keys._begun) <= 3
    assert calls[0] == keys.call(PUT, Layout(("q0",)), [])


def test_delay_of_thousands_of_years_is_kept(adapter: RedisAdapter) -> None:
    """S4"""
    last = datetime.max.replace(tzinfo=UTC)
    adapter.enqueue(message(delay=last))
    found = adapter.find("a")
    assert found is not None and found.due is not None
    assert found.due > last - timedelta(days=1)


def test_more_queues_and_jobs_than_one_call_shows_are_shown(
    adapter: RedisAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_QUEUES_AT_ONCE", "_SHOWN_AT_ONCE", "_PURGED_AT_ONCE"):
        monkeypatch.setattr(f"kessel_redis.operations.{name}", 3)
    names = [f"q{number}" for number in range(7)]
    adapter.enqueue_many([message(name, name) for name in names])
    assert adapter.queues() == names
    adapter.enqueue_many([message(f"x{number}", "q0") for number in range(7)])
    assert len(adapter.peek("q0", JobState.READY, 100)) == 8
    assert len(adapter.peek("q0", JobState.READY, 7)) == 7
    assert adapter.peek("q0", JobState.READY, 0) == []
    assert adapter.purge("q0") == 8


def test_buried_job_that_another_kicks_during_a_walk_is_left_out(
    adapter: RedisAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S9: two operators may mend at once; it raised `ValueError`, for a job that has no reason any more."""
    monkeypatch.setattr("kessel_redis.operations._SHOWN_AT_ONCE", 2)
    adapter.enqueue_many([message(one) for one in "abcdef"])
    consumer = adapter.consumer(["q"])
    while (held := consumer.reserve(NO_PAUSE)) is not None:
        consumer.settle(held, Bury("error", "a bad night"))
    met = []
    for job in adapter.each_buried("q"):
        if not met:
            for other in "bde":  # of the portion that is here, and of those to come
                adapter.kick("q", other)
        met.append((job.id, job.reason, job.message))
    assert met == [(one, "error", "a bad night") for one in "abcf"]


def test_job_that_waits_costs_less_than_450_bytes_beside_its_body(adapter: RedisAdapter, ask: Ask) -> None:
    """So a million of them fit into half a gigabyte."""

    def used() -> int:
        return int(adapter.database.ask().info["used_memory_dataset"])

    before = used()
    adapter.enqueue_many([message(f"0190163d-8694-739b-aea5-{number:012}") for number in range(20_000)])
    assert (used() - before) / 20_000 < 450
    adapter.purge("q")


def test_E8_one_look_tells_of_each_queue_what_its_waiters_need(opened: Callable[..., RedisAdapter]) -> None:
    """A look that fails would connect anew each time, and wake all who wait for nothing."""
    one_look_tells_of_each_queue(opened())

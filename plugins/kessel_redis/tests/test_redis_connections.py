"""Few connections, many slots (E8): borrowed for one round trip, heard on one, nothing sent twice."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_redis.adapter import RedisAdapter
from kessel_redis.connecting import connected
from kessel_redis.consumer import RedisReservation
from kessel_redis.link import Refused
from kessel_redis.testing import Redis
from kessel_redis.waiting import RedisLine, RedisListener

from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    AdapterUnavailable,
    Bury,
    Commit,
    EnqueueUnknown,
    IdHeld,
    LeaseLost,
    Message,
    ProtocolError,
    Put,
    Rollback,
    StoreUnknown,
)
from tests.descriptors import on_standard_numbers
from tests.gone_peers import kernel_is_told, only_where_it_can_be_told
from tests.lost_answers import LostAnswer
from tests.until import until
from tests.waiting_slots import Waiting, waiting_slots

LONG = timedelta(seconds=30)
Opened = Callable[..., RedisAdapter]
Ask = Callable[..., Any]


def message(job_id: str, queue: str = "q") -> Message:
    return Message(job_id, queue, b"x", 1)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    """Let slots wait in threads; returns what they got so far."""
    with waiting_slots() as wait:
        yield wait


def listens(adapter: RedisAdapter, ask: Ask) -> bool:
    return bool(ask(adapter, "PUBSUB", "NUMSUB", adapter.database.keys.channel)[1])


def test_hundred_waiting_slots_hold_at_most_the_connections_that_they_may(
    opened: Opened, waiting: Waiting
) -> None:
    adapter = opened(connections=3)
    got = waiting(adapter, 100)
    assert adapter.database.pool.count <= 3
    others = opened()
    assert others.enqueue_many([message(str(number)) for number in range(100)]) == [None] * 100
    until(lambda: len(got) == 100)
    assert {one.id for one in got} == {str(number) for number in range(100)}
    assert adapter.database.pool.count <= 3


def test_waiting_slots_ask_nothing(
    opened: Opened, waiting: Waiting, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = opened()
    waiting(adapter, 20)
    until(lambda: listens(adapter, ask))
    time.sleep(0.2)  # what the listener woke when it began
    runs: list[object] = []
    run = adapter.database.run
    monkeypatch.setattr(adapter.database, "run", lambda *a, **k: (runs.append(a), run(*a, **k))[1])
    time.sleep(1.0)
    assert len(runs) <= 1


def test_connection_that_died_is_replaced_before_anything_is_sent(opened: Opened, ask: Ask) -> None:
    adapter, other = opened(connections=1), opened()
    adapter.enqueue(message("a"))
    ask(other, "CLIENT", "KILL", "ID", str(ask(adapter, "CLIENT", "ID")))
    adapter.enqueue(message("b"))
    assert adapter.stats("q").ready == 2


def test_listener_that_died_is_replaced_and_nobody_sleeps_on(
    opened: Opened, waiting: Waiting, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kessel_core.contract.serverline.LOOK", 1000.0)
    adapter, other = opened(), opened()
    got = waiting(adapter, 2)
    until(lambda: listens(adapter, ask))
    ask(other, "CLIENT", "KILL", "TYPE", "pubsub")
    other.enqueue(message("a"))  # nobody listens at this moment, so nobody is told
    until(lambda: got)


@pytest.mark.parametrize(("rights", "calls"), [("resetchannels", "listen"), ("-exists", "call")])
def test_connection_that_is_refused_what_it_needs_is_closed(
    opened: Opened, namespace: str, ask: Ask, rights: str, calls: str
) -> None:
    """It is tried again and again, and each try would leave one behind."""
    ask(opened(), "ACL", "SETUSER", namespace, "on", ">secret", "~*", "&*", "+@all")
    adapter = opened(username=namespace, password="secret", connections=2)
    ask(adapter, "PING")

    def clients() -> int:
        return ask(opened(), "CLIENT", "LIST").count(f" user={namespace} ".encode())

    assert clients() == 1
    ask(opened(), "ACL", "SETUSER", namespace, rights)
    before = clients()
    connect = RedisListener(adapter.database.line, adapter.database, -1).connect
    with pytest.raises((Refused, ProtocolError), match=r"NOPERM|no permissions") as refused:
        connect() if calls == "listen" else connected(adapter.database.options)
    until(lambda: clients() == before)
    assert refused.tb is not None  # it was closed although the error was at hand, which keeps all it passed


def test_listener_that_hears_nothing_is_replaced(
    opened: Opened, waiting: Waiting, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is cut in silence says nothing; so the listener asks for an answer."""
    for name, seconds in (("LOOK", 1000.0), ("BEAT", 0.2), ("BEAT_TAKES", 0.2)):
        monkeypatch.setattr(f"kessel_core.contract.serverline.{name}", seconds)
    hear, deaf = RedisListener.hear, set[int]()

    def swallowed(listener: RedisListener, *, is_readable: bool) -> bool:
        link = listener._link
        assert link is not None
        deaf.add(id(link)) if not deaf else None
        if id(link) not in deaf:
            return hear(listener, is_readable=is_readable)
        if is_readable:
            link.read()
        return False

    monkeypatch.setattr(RedisListener, "hear", swallowed)
    adapter = opened()
    got = waiting(adapter, 1)
    until(lambda: deaf)
    opened().enqueue(message("a"))
    until(lambda: got)


def test_listener_that_is_answered_lives_on(
    opened: Opened, waiting: Waiting, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOOK", 1000.0), ("BEAT", 0.05), ("BEAT_TAKES", 5.0)):
        monkeypatch.setattr(f"kessel_core.contract.serverline.{name}", seconds)
    adapter, other = opened(), opened()
    waiting(adapter, 1)
    until(lambda: listens(adapter, ask))
    before = ask(other, "CLIENT", "LIST", "TYPE", "pubsub").split()[0]
    until(lambda: b"cmd=ping" in ask(other, "CLIENT", "LIST", "TYPE", "pubsub"))
    time.sleep(0.3)
    assert ask(other, "CLIENT", "LIST", "TYPE", "pubsub").split()[0] == before


def test_nobody_listens_for_long_once_nobody_waits(
    opened: Opened, waiting: Waiting, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy worker would hear of every job of the others, for nothing."""
    monkeypatch.setattr(RedisLine, "linger", 0.1)
    monkeypatch.setattr("kessel_core.contract.serverline.LOOK", 0.1)
    adapter = opened()
    got = waiting(adapter, 1)
    adapter.enqueue(message("a"))
    until(lambda: got)
    until(lambda: not listens(adapter, ask))
    again = waiting(adapter, 1)
    opened().enqueue(message("b"))
    until(lambda: again)


def test_connection_whose_answer_is_late_is_not_used_again(opened: Opened, ask: Ask) -> None:
    """Else the next call would read it as its own."""
    adapter, other = opened(connections=1, timeout=timedelta(seconds=0.3)), opened()
    adapter.enqueue(message("a"))
    before = ask(adapter, "CLIENT", "ID")
    ask(other, "CLIENT", "PAUSE", "600", "ALL")
    with pytest.raises(AdapterUnavailable, match="no answer in time"):
        adapter.find("a")
    until(lambda: not unavailable(adapter))
    assert adapter.queues() == ["q"]
    assert ask(adapter, "CLIENT", "ID") != before


@only_where_it_can_be_told
def test_f23_a_server_that_is_gone_is_noticed_within_half_a_minute(opened: Opened) -> None:
    """By what the kernel was told: in milliseconds and in seconds."""
    pool = opened().database.pool
    link = pool.borrow()
    kernel_is_told(link._connection._sock, milliseconds=20_000)
    pool.give(link)


def unavailable(adapter: RedisAdapter) -> bool:
    try:
        adapter.queues()
    except AdapterUnavailable:
        return True
    return False


def test_all_connections_busy_is_an_error_in_time(opened: Opened) -> None:
    adapter = opened(connections=1, timeout=timedelta(seconds=0.2))
    link = adapter.database.pool.borrow()
    with pytest.raises(AdapterUnavailable, match="all 1 connections were busy"):
        adapter.queues()
    adapter.database.pool.give(link)
    assert adapter.queues() == []


class _Counter:
    """Passes bytes on to a server, and counts how often something goes there."""

    def __init__(self, port: int) -> None:
        self.trips = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._server = port
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server))
            threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, to: socket.socket, is_request: bool) -> None:
        try:
            while data := source.recv(1 << 20):
                self.trips += is_request
                to.sendall(data)
        except OSError:
            pass
        finally:
            for one in (source, to):
                one.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_one_round_trip_a_job(opened: Opened, server: Redis) -> None:
    """E8: the settlement of a job, with all that it brings along, and the reserve of the next go together."""
    with closing(_Counter(server.port)) as counter:
        adapter = opened(port=counter.port)
        adapter.enqueue_many([message(str(number)) for number in range(20)])
        consumer = adapter.consumer(["q", "other"])
        reservation = consumer.reserve(NO_PAUSE)
        counter.trips, jobs = 0, 0
        while reservation is not None:
            jobs += 1
            brought = Commit(follow=(message("next"),), puts=(Put("s", "k", b"v"),)) if jobs == 5 else COMMIT
            reservation = consumer.settle_and_reserve(reservation, brought)
        assert (jobs, counter.trips) == (21, 21)
        counter.trips = 0
        adapter.enqueue(message("one"))
        assert counter.trips == 1


def test_leases_of_many_jobs_are_renewed_in_one_round_trip(opened: Opened, server: Redis) -> None:
    """E8"""
    with closing(_Counter(server.port)) as counter:
        adapter = opened(port=counter.port, lease=timedelta(seconds=60))
        for queue in ("a", "b"):
            adapter.enqueue_many([message(f"{queue}{number}", queue) for number in range(5)])
        consumers = [adapter.consumer(["a", "b"]) for _ in range(10)]
        held = [consumer.reserve(NO_PAUSE) for consumer in consumers]
        assert all(held)
        ends = [adapter.find(one.id).due for one in held]
        adapter.settle(held[3], COMMIT)
        counter.trips = 0
        renewed = adapter.renew_many(held)
        assert counter.trips == 1
        assert [one is None for one in renewed] == [number != 3 for number in range(10)]
        assert isinstance(renewed[3], LeaseLost)
        later = [adapter.find(one.id) for one in held]
        assert later[3] is None
        assert all(found.due > end for found, end in zip(later, ends, strict=True) if found is not None)


def test_lease_that_was_renewed_is_not_told_as_failed_by_a_later_call(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kessel_redis.consumer._RENEWED_AT_ONCE", 2)
    adapter = opened()
    adapter.enqueue_many([message(str(number)) for number in range(6)])
    consumers = [adapter.consumer(["q"]) for _ in range(6)]
    held = [consumer.reserve(NO_PAUSE) for consumer in consumers]
    assert all(held)
    call, answers = adapter.database.call, iter((True, False, True))

    def second_fails(*arguments: Any, **more: Any) -> Any:
        if not next(answers):
            raise AdapterUnavailable("it went away for a moment")
        return call(*arguments, **more)

    monkeypatch.setattr(adapter.database, "call", second_fails)
    outcomes = adapter.renew_many(held)
    monkeypatch.undo()
    assert [type(outcome) for outcome in outcomes] == [
        *[type(None)] * 2,
        *[AdapterUnavailable] * 2,
        *[type(None)] * 2,
    ]
    for consumer in consumers:
        consumer.close()


@pytest.fixture
def cut(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> tuple[RedisAdapter, LostAnswer]:
    adapter = opened()
    return adapter, LostAnswer(adapter, monkeypatch)


def test_enqueue_without_an_answer_is_unknown_and_not_repeated(cut: tuple[Any, Any]) -> None:
    """S14"""
    adapter, fault = cut
    fault.armed = True
    with pytest.raises(EnqueueUnknown):
        adapter.enqueue(message("a"))
    assert adapter.stats("q").ready == 1
    with pytest.raises(IdHeld):
        adapter.enqueue(message("a"))
    fault.armed = True
    outcomes = adapter.enqueue_many([message("b"), message("c")])
    assert [type(outcome) for outcome in outcomes] == [EnqueueUnknown, EnqueueUnknown]
    assert [outcome.job_id for outcome in outcomes] == ["b", "c"]


class _Sending:
    """A socket that sends all but so many bytes, and fails then."""

    def __init__(self, sock: Any, kept: int, failure: Exception) -> None:
        self._sock, self._kept, self._failure = sock, kept, failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(bytes(data)[: len(data) - self._kept])
        raise self._failure


@pytest.mark.parametrize(
    ("replicas", "kept", "failure", "raised", "is_stored"),
    [
        # A signal handler may raise after the last byte has left; redis-py takes it for its own time-out.
        (0, 0, TimeoutError("a limit of the application"), TimeoutError, True),
        (0, 0, OSError("a handler"), OSError, True),
        (0, 0, TimeoutError("timed out"), EnqueueUnknown, True),
        (0, 10, ConnectionResetError(errno.ECONNRESET, "reset by peer"), AdapterUnavailable, False),
        # The job has arrived whole, and only what asks for the replicas has not.
        (1, 10, ConnectionResetError(errno.ECONNRESET, "reset by peer"), EnqueueUnknown, True),
    ],
)
def test_s14_enqueue_whose_sending_fails_is_told_as_not_stored_only_if_it_cannot_be(
    opened: Opened, replicas: int, kept: int, failure: Exception, raised: type[Exception], is_stored: bool
) -> None:
    adapter, other = opened(replicas=replicas, timeout=timedelta(seconds=1)), opened()
    link = adapter.database.pool.borrow()
    link._connection._sock = _Sending(link._connection._sock, kept, failure)
    adapter.database.pool.give(link)
    with pytest.raises(Exception) as caught:
        adapter.enqueue(message("a"))
    assert type(caught.value) is raised
    assert str(failure.args[-1]) in str(caught.value) or "no answer in time" in str(caught.value)
    if is_stored:
        until(lambda: other.find("a") is not None)
    else:
        assert other.find("a") is None
    assert adapter.stats("q").total == is_stored, "the connection is replaced"


def test_batch_goes_no_further_than_a_call_without_an_answer(
    cut: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """S14: what was not tried is surely not stored; a thousand jobs do not wait for a thousand time-outs."""
    monkeypatch.setattr("kessel_redis.adapter._CHUNK", 2)
    adapter, fault = cut
    fault.armed = True
    outcomes = adapter.enqueue_many([message(name) for name in "abcde"])
    assert [type(outcome) for outcome in outcomes] == [EnqueueUnknown] * 2 + [AdapterUnavailable] * 3
    assert adapter.stats("q").ready == 2


def test_put_without_an_answer_is_unknown(cut: tuple[Any, Any]) -> None:
    """S19"""
    adapter, fault = cut
    fault.armed = True
    with pytest.raises(StoreUnknown):
        adapter.store.put("s", "k", b"v")
    assert adapter.store.get("s", "k").value == b"v"


def test_settlement_without_an_answer_is_found_done_at_the_next_try(cut: tuple[Any, Any]) -> None:
    """S7: while its lease holds, nobody but its holder ends a delivery; so the first try has done it."""
    adapter, fault = cut
    adapter.enqueue(message("a"))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    fault.armed = True
    with pytest.raises(AdapterUnavailable):
        consumer.settle(held, COMMIT)
    with pytest.raises(LeaseLost):  # another settlement was not done
        adapter.settle(held, Rollback())
    consumer.settle(held, COMMIT)
    with pytest.raises(LeaseLost):
        consumer.settle(held, COMMIT)
    assert adapter.find("a") is None
    consumer.close()


def test_settlement_without_an_answer_is_not_believed_done_once_the_lease_is_over(
    cut: tuple[Any, Any],
) -> None:
    """S7: then anybody may have ended the delivery."""
    adapter, fault = cut
    adapter.enqueue(message("a"))
    held = adapter.consumer(["q"]).reserve(NO_PAUSE)
    fault.armed = True
    with pytest.raises(AdapterUnavailable):
        adapter.settle(held, COMMIT)
    held.deadline = adapter.clock.monotonic()
    with pytest.raises(LeaseLost):
        adapter.settle(held, COMMIT)


def test_settlement_that_was_not_sent_is_not_believed_done(opened: Opened) -> None:
    adapter = opened(connections=1, timeout=timedelta(seconds=0.2))
    adapter.enqueue(message("a"))
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert isinstance(held, RedisReservation)
    link = adapter.database.pool.borrow()
    with pytest.raises(AdapterUnavailable):
        consumer.settle(held, COMMIT)
    adapter.database.pool.give(link)
    assert held.unsure is None
    consumer.settle(held, COMMIT)
    consumer.close()


def test_command_whose_answer_comes_too_late_is_done_once(
    opened: Opened, servers: Callable[..., Redis], ask: Ask
) -> None:
    """S14: redis-py's client would send it ten times more."""
    server = servers()
    adapter = opened(at=server, timeout=timedelta(seconds=0.2))
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    with pytest.raises(EnqueueUnknown, match="no answer in time"):
        adapter.enqueue(message("a"))
    server.process.send_signal(signal.SIGCONT)
    until(lambda: not unavailable(adapter) and adapter.stats("q").ready == 1)
    numbers = ask(adapter, "INFO", "commandstats").decode()
    assert "cmdstat_incr:calls=1," in numbers


def test_scripts_that_the_server_has_lost_are_loaded_again(opened: Opened, ask: Ask) -> None:
    """After a restart, a failover or SCRIPT FLUSH; nothing was done by the call that found them missing."""
    adapter = opened()
    consumer = adapter.consumer(["q"])
    ask(adapter, "SCRIPT", "FLUSH")
    adapter.enqueue(message("a"))
    ask(adapter, "SCRIPT", "FLUSH")
    held = consumer.reserve(NO_PAUSE)
    assert held is not None
    ask(adapter, "SCRIPT", "FLUSH")
    assert consumer.settle_and_reserve(held, COMMIT) is None
    ask(adapter, "SCRIPT", "FLUSH")
    assert adapter.enqueue_many([message("b"), message("c")]) == [None, None]
    ask(adapter, "SCRIPT", "FLUSH")
    assert adapter.stats("q").ready == 2
    consumer.close()


def test_slots_that_wait_live_through_a_restart_of_the_server(
    opened: Opened, servers: Callable[..., Redis], waiting: Waiting
) -> None:
    """Kill -9; the slots report it and wait on, as a worker does."""
    server = servers()
    adapter = opened(at=server)
    adapter.enqueue(message("before"))
    server.kill()
    with pytest.raises(AdapterUnavailable):
        adapter.consumer(["q"]).reserve(NO_PAUSE)
    server.start()
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    assert held is not None and held.id == "before"
    consumer.settle(held, COMMIT)
    got = waiting(adapter, 3)
    opened(at=server).enqueue_many([message(name) for name in "abc"])
    until(lambda: len(got) == 3)


def test_child_of_a_fork_has_connections_of_its_own(opened: Opened, ask: Ask) -> None:
    adapter = opened()
    adapter.enqueue(message("parent"))
    before = ask(adapter, "CLIENT", "ID")
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:  # pragma: no cover - another process
        try:
            adapter.enqueue(message("child"))
            os.write(writer, b"%d" % ask(adapter, "CLIENT", "ID"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        assert int(answer.read()) != before
    assert adapter.stats("q").ready == 2
    assert ask(adapter, "CLIENT", "ID") == before


def test_parent_hears_what_its_child_stores(opened: Opened, waiting: Waiting, ask: Ask) -> None:
    """Else the child's messages would be taken for the parent's own, which it has announced itself."""
    adapter = opened()
    got = waiting(adapter, 1)
    until(lambda: listens(adapter, ask))
    begun = time.monotonic()
    if (child := os.fork()) == 0:  # pragma: no cover - another process
        try:
            adapter.enqueue(message("child"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    until(lambda: got)
    assert time.monotonic() - begun < 4.5  # sooner than the look in case of a loss


def test_messages_of_this_process_wake_nobody_again(
    opened: Opened, waiting: Waiting, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published comes back to who published it, who has woken a slot already."""
    adapter = opened()
    waiting(adapter, 1, "other")
    until(lambda: listens(adapter, ask))
    heard: list[str] = []
    monkeypatch.setattr(adapter.line, "hear", heard.append)
    adapter.enqueue(message("a"))
    opened().enqueue_many([message("b"), message("c")])
    until(lambda: heard)
    assert heard == ["r:2:q"]


def test_slot_that_waits_sees_what_a_call_without_an_answer_has_stored(
    opened: Opened, waiting: Waiting, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S9: nobody announces it, and what is published looks like the process's own."""
    adapter = opened()
    got = waiting(adapter, 1)
    until(lambda: listens(adapter, ask))
    for name in (
        "look",
        "hear",
    ):  # the line's own looks would find the job, and a late message would tell of it
        monkeypatch.setattr(adapter.line, name, lambda *told: None)
    fault = LostAnswer(adapter, monkeypatch)
    fault.armed = True
    with pytest.raises(EnqueueUnknown):
        adapter.enqueue(message("a"))
    until(lambda: len(got) == 1)


def test_messages_of_a_call_that_is_done_after_it_was_given_up_are_heard(
    opened: Opened, waiting: Waiting, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = opened()
    waiting(adapter, 1, "other")
    until(lambda: listens(adapter, ask))
    heard: list[str] = []
    monkeypatch.setattr(adapter.line, "hear", heard.append)
    late = adapter.database.message("r:1:q")
    fault = LostAnswer(adapter, monkeypatch)
    fault.armed = True
    with pytest.raises(EnqueueUnknown):
        adapter.enqueue(message("a"))
    ask(adapter, "PUBLISH", adapter.database.keys.channel, late)
    until(lambda: "r:1:q" in heard)


@pytest.mark.parametrize("why", ["pause", "delay", "both"])
def test_look_for_all_plans_the_next_one(opened: Opened, waiting: Waiting, ask: Ask, why: str) -> None:
    """Else what time alone makes ready is found late, by the look in case of a loss."""
    adapter = opened()
    hour = timedelta(hours=1)
    due = adapter.clock.now() + hour
    adapter.enqueue(Message("a", "q", b"x", 1, None if why == "pause" else due))
    if why != "delay":
        adapter.pause("q", hour)
    waiting(adapter, 1)
    until(lambda: listens(adapter, ask))
    time.sleep(0.1)  # what the listener woke when it began
    adapter.line.look()
    planned = adapter.line.planned
    assert planned is not None and 3590 < planned - time.monotonic() <= 3600


def test_close_wakes_all_who_wait(opened: Opened, waiting: Waiting) -> None:
    adapter = opened()
    got = waiting(adapter, 3)
    adapter.close()
    adapter.close()
    with pytest.raises(AdapterUnavailable, match="closed"):
        adapter.enqueue(message("a"))
    assert got == []


@pytest.mark.parametrize("make", ["enqueue", "many", "delay", "rollback", "kick", "resume", "follow"])
def test_waiting_slot_hears_of_each_way_in_which_others_make_a_job_ready(
    opened: Opened, waiting: Waiting, ask: Ask, make: str
) -> None:
    """Each from another adapter, which shares nothing with it but the server."""
    adapter, other = opened(), opened()
    operator = other.consumer(["q"])
    held: Any = None
    if make == "resume":
        other.pause("q", LONG)
        other.enqueue(message("a"))
    elif make in ("rollback", "kick", "follow"):
        other.enqueue(message("a"))
        held = operator.reserve(NO_PAUSE)
        if make == "kick":
            operator.settle(held, Bury("r", "m"))
    got = waiting(adapter, 1)
    until(lambda: listens(adapter, ask))
    time.sleep(0.05)  # what the listener woke when it began
    begun = time.monotonic()
    match make:
        case "enqueue":
            other.enqueue(message("a"))
        case "many":
            other.enqueue_many([message("a", "elsewhere"), message("b")])
        case "delay":
            other.enqueue(Message("a", "q", b"x", 1, other.clock.now() + timedelta(milliseconds=50)))
        case "rollback":
            operator.settle(held, Rollback(timedelta(milliseconds=20)))
        case "kick":
            other.kick("q", "a")
        case "resume":
            other.pause("q", NO_PAUSE)
        case "follow":
            operator.settle(held, Commit(follow=(message("followed"),)))
    until(lambda: got)
    assert time.monotonic() - begun < 4.5  # sooner than the look in case of a loss
    operator.close()


@pytest.mark.parametrize("make", ["put", "delete", "settle"])
def test_who_waits_for_an_entry_hears_of_it_from_others(opened: Opened, ask: Ask, make: str) -> None:
    """S19e"""
    adapter, other = opened(), opened()
    seen = 0 if make != "delete" else other.store.put("s", "k", b"v")
    other.enqueue(message("a"))
    held = other.consumer(["q"]).reserve(NO_PAUSE)
    assert held is not None
    ends: list[float] = []

    def wait() -> None:
        adapter.store.wait("s", "k", seen=seen, timeout=LONG)
        ends.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: listens(adapter, ask))
    time.sleep(0.1)  # what the listener woke when it began
    begun = time.monotonic()
    match make:
        case "put":
            other.store.put("s", "k", b"v")
        case "delete":
            other.store.delete("s", "k")
        case "settle":
            other.settle(held, Commit(puts=(Put("s", "k", b"v"),)))
    thread.join(20)
    assert ends and ends[0] - begun < 4.5  # sooner than the look in case of a loss


def test_f45_no_connection_has_the_number_of_a_standard_stream(server: Redis, tmp_path: Path) -> None:
    """A `print` of anybody would be a command to the server."""
    assert on_standard_numbers(f"redis://127.0.0.1:{server.port}?namespace=f45", tmp_path) <= {"/dev/null"}

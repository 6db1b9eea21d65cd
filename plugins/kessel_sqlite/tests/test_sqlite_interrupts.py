"""Whatever a signal handler raises, and wherever: no lock stays behind (finding D7)."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core.contract import COMMIT, NO_PAUSE, AdapterUnavailable, Message, StoreConflict
from tests.interrupts import interrupted_at
from tests.until import until

Opener = Callable[..., SqliteAdapter]


def message(name: str) -> Message:
    return Message(name, "q", b"x", 5)


def in_another_thread(call: Callable[[], None]) -> list[BaseException]:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return failed


@pytest.mark.parametrize(
    "what", ["enqueue", "enqueue_many", "reserve and commit", "stats", "open anew", "put", "conflict", "wait"]
)
def test_finding_d7_an_exception_of_a_signal_handler_leaves_no_lock_wherever_it_comes(
    path: Path, opened: Opener, what: str
) -> None:
    adapter = opened(timeout=timedelta(milliseconds=300))
    other = opened(timeout=timedelta(milliseconds=300))
    consumer = adapter.consumer(["q"])
    names = map(str, itertools.count())  # not a generator, which an exception would end

    def work() -> None:
        match what:
            case "enqueue":
                adapter.enqueue(message(next(names)))
            case "enqueue_many":
                adapter.enqueue_many([message(next(names)) for _ in range(3)])
            case "stats":
                adapter.stats("q")
            case "put":
                adapter.store.put("s", "k", b"", expect=None, ttl=timedelta(microseconds=1))
            case "conflict":
                with suppress(StoreConflict):
                    adapter.store.put("s", "k", b"", expect=999)
            case "wait":
                adapter.store.wait("s", "none", timeout=timedelta(milliseconds=1))
            case "open anew":
                adapter.engine.link().discard()
                adapter.enqueue(message(next(names)))
            case _:
                adapter.enqueue(message(next(names)))
                if (taken := consumer.reserve(NO_PAUSE)) is not None:
                    consumer.settle(taken, COMMIT)

    number = 1
    while interrupted_at(number, work):
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        assert in_another_thread(lambda: other.enqueue(message(next(names)))) == [], number
        adapter.enqueue(message(next(names)))
        number += 1
    assert number > 10


def test_finding_d7_a_call_inside_of_another_call_of_the_same_thread_is_refused_at_once(
    opened: Opener,
) -> None:
    """As of a signal handler that enqueues; it would wait for itself."""
    adapter = opened(timeout=timedelta(seconds=30))

    def within(connection: sqlite3.Connection) -> None:
        with pytest.raises(AdapterUnavailable, match="inside of another call"):
            adapter.enqueue(message("a"))
        with pytest.raises(AdapterUnavailable, match="inside of another call"):
            adapter.stats("q")

    adapter.engine.write(within)
    adapter.engine.read(within)
    adapter.enqueue(message("a"))
    assert adapter.stats("q").ready == 1


def test_finding_d7_a_call_inside_of_another_one_does_not_stand_in_the_line_behind_those_who_wait_for_it(
    opened: Opener,
) -> None:
    """In a thread whose writes are shared, as of an object that enqueues when it is collected."""
    adapter = opened(timeout=timedelta(seconds=30))
    turns = adapter.engine.line.turns
    alone = threading.Thread(target=adapter.engine.write, args=(lambda _: None,))

    def within(connection: sqlite3.Connection) -> None:
        alone.start()
        until(lambda: turns.waiting == 1)
        with pytest.raises(AdapterUnavailable, match="inside of another call"):
            adapter.enqueue(message("a"))
        assert turns.waiting == 1

    assert in_another_thread(lambda: adapter.engine.share(within)) == []
    alone.join(30)


def test_finding_d18_a_signal_handler_may_cancel_while_its_thread_holds_the_line(opened: Opener) -> None:
    """Otherwise a stop that a signal asks for waits for a lock that the interrupted thread holds."""
    adapter = opened()
    consumer = adapter.consumer(["q"])
    waiter = adapter.line.join(frozenset({"q"}))

    def stop(*_: object) -> None:
        consumer.cancel()
        adapter.line.wake()

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with adapter.line.lock:
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert waiter.woken


# What the thread runs has globals of its own: the end clears none of a function that never returns.
_STOPPED_AT_THE_GATE = """
import sqlite3, sys, threading, time
from kessel_sqlite import link

got = threading.Event()
held = {"gate": link._gate, "got": got, "sleep": time.sleep}
exec("def hold():\\n with gate:\\n  got.set()\\n  sleep(3600)", held)
kept = link.Link()
kept.connection = sqlite3.connect(sys.argv[1])
threading.Thread(target=held["hold"], daemon=True).start()
got.wait()
print("ends")
"""


@pytest.mark.timeout(60)
def test_a_process_ends_though_a_daemon_thread_was_stopped_in_the_middle_of_closing(
    run_python: Callable[..., Any], tmp_path: Path
) -> None:
    """The interpreter stops daemon threads wherever they are when it ends, and one may hold the gate."""
    done = run_python(_STOPPED_AT_THE_GATE, tmp_path / "jobs.db")
    assert (done.returncode, done.stdout) == (0, "ends\n"), done.stderr

"""One file used by many threads, and by processes that fork in the middle (F7, F8)."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core.contract import COMMIT, NO_PAUSE, Message, new_token

Opener = Callable[..., SqliteAdapter]


def message(name: str, body: bytes = b"x") -> Message:
    return Message(name, "q", body, 5)


# The warning is right in general; that this adapter stands it is what is tested.
may_fork = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@may_fork
def test_fork_gives_the_child_connections_of_its_own(opened: Opener) -> None:
    """F8."""
    adapter = opened()
    adapter.enqueue(message("a"))
    consumer = adapter.consumer(["q"])
    taken = consumer.reserve(NO_PAUSE)
    assert taken is not None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            adapter.enqueue_many([message(f"child{n}") for n in range(50)])
            other = adapter.consumer(["q"])
            first = other.reserve(timedelta(seconds=5))
            assert first is not None
            other.settle(first, COMMIT)
            other.close()
            code = 0
        finally:
            os._exit(code)
    for n in range(50):
        adapter.enqueue(message(f"parent{n}"))
    assert os.waitpid(child, 0)[1] == 0
    consumer.settle(taken, COMMIT)
    consumer.close()
    stats = adapter.stats("q")
    assert (stats.ready, stats.reserved) == (99, 0)
    with closing(sqlite3.connect(adapter.options.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@may_fork
def test_a_forked_child_may_fork_again_and_its_threads_go_on(opened: Opener) -> None:
    """F8: what is held for a fork is given back after each of them, in the child as well."""
    adapter = opened()
    adapter.enqueue(message("parent"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            grandchild = os.fork()
            if grandchild == 0:
                adapter.enqueue(message("grandchild"))
                os._exit(0)
            failed = os.waitpid(grandchild, 0)[1]
            thread = threading.Thread(target=adapter.enqueue, args=(message("child"),), daemon=True)
            thread.start()
            thread.join(10)
            code = 1 if failed or thread.is_alive() else 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert adapter.stats("q").ready == 3


@may_fork
def test_a_forked_child_draws_tokens_of_its_own() -> None:
    """S7: with the tokens of its parent it could settle what the parent holds."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(new_token()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as drawn:
        theirs = int(drawn.read())
    assert os.waitpid(child, 0)[1] == 0
    assert theirs != new_token()


def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def at_once(work: Callable[[], None]) -> None:
    work()


@may_fork
@pytest.mark.parametrize("each", [at_once, in_a_thread], ids=["open", "of new threads"])
def test_forks_while_threads_are_in_the_middle_of_transactions(
    opened: Opener, each: Callable[[Callable[[], None]], None]
) -> None:
    """F8: neither a lock nor a transaction of another thread gets into the child.

    What opens or closes a connection holds locks of SQLite itself.
    """
    adapter = opened(durability="process-crash")
    is_over = threading.Event()
    made = [0, 0]

    def produce(number: int) -> None:
        while not is_over.is_set():
            each(lambda: adapter.enqueue(message(f"{number}-{made[number]}")))
            made[number] += 1

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    try:
        for n in range(20):
            child = os.fork()
            if child == 0:
                code = 1
                signal.alarm(30)  # a child that hangs is ended
                try:
                    adapter.enqueue(Message(f"child{n}", "children", b"", 5))
                    adapter.close()
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        is_over.set()
        for thread in threads:
            thread.join(30)
    assert adapter.stats("q").ready == sum(made)
    assert adapter.stats("children").ready == 20
    with closing(sqlite3.connect(adapter.options.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_threads_share_an_adapter(opened: Opener) -> None:
    """F7."""
    adapter = opened(durability="process-crash")
    delivered: list[str] = []

    def produce(number: int) -> None:
        for n in range(100):
            adapter.enqueue(message(f"{number}-{n}", f"{number}-{n}".encode()))

    def consume() -> None:
        with closing(adapter.consumer(["q"])) as consumer:
            while (taken := consumer.reserve(timedelta(seconds=1))) is not None:
                while taken is not None:
                    assert taken.body == (taken.id or "").encode()
                    delivered.append(taken.id or "")
                    taken = consumer.settle_and_reserve(taken, COMMIT)

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(6)]
    threads += [threading.Thread(target=consume) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(delivered) == sorted(f"{number}-{n}" for number in range(6) for n in range(100))
    assert adapter.stats("q").total == 0

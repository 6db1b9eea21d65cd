"""The connections of an adapter over a network are few, and go round in order (E8)."""

from __future__ import annotations

import itertools
import linecache
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from kessel_core.contract import AdapterUnavailable, Pool
from kessel_core.contract import pool as module
from tests.until import until


class Link:
    """A connection to nothing."""

    def __init__(self) -> None:
        self.sound = True
        self.closed = False

    def is_sound(self) -> bool:
        return self.sound

    def close(self) -> None:
        self.closed = True


class Asking:
    """A thread that asks for a connection, and keeps it."""

    def __init__(self, pool: Pool[Link], then: Callable[[], object] = bool) -> None:
        self.link: Link | None = None
        self.error: BaseException | None = None

        def ask() -> None:
            try:
                self.link = pool.borrow()
            except BaseException as exc:
                self.error = exc
            then()

        before = len(pool._turns)
        self.thread = threading.Thread(target=ask, daemon=True)
        self.thread.start()
        until(lambda: len(pool._turns) > before or not self.thread.is_alive())

    def end(self) -> None:
        self.thread.join(20)
        assert not self.thread.is_alive()


def test_e8_who_waits_gets_a_connection_in_the_order_of_asking() -> None:
    """Also before one who gives one back and asks for the next at once: else some wait for seconds."""
    pool, order = Pool(Link, 1, 20), []
    link = pool.borrow()
    waiting = [Asking(pool, lambda number=number: order.append(number)) for number in range(3)]  # type: ignore[misc]
    for number, one in enumerate(waiting):
        pool.give(link)
        one.end()
        assert one.link is link
        assert order == list(range(number + 1))
    pool.give(link)
    assert pool.borrow() is link
    assert pool.count == 1


def test_one_who_gives_back_and_asks_again_stands_behind_those_who_wait() -> None:
    pool = Pool(Link, 1, 0.05)
    link = pool.borrow()
    waiting = Asking(pool)
    pool.give(link)
    with pytest.raises(AdapterUnavailable):
        pool.borrow()
    waiting.end()
    assert waiting.link is link


def test_idle_connection_that_was_used_last_is_taken_first() -> None:
    """So that others may rest."""
    pool = Pool(Link, 3, 20)
    first, second = pool.borrow(), pool.borrow()
    pool.give(first)
    pool.give(second)
    assert pool.borrow() is second
    assert pool.borrow() is first
    assert pool.count == 2


def test_wait_that_is_too_long_says_how_many_are_busy_and_leaves_the_line() -> None:
    pool = Pool(Link, 2, 0.01)
    link, _ = pool.borrow(), pool.borrow()
    with pytest.raises(AdapterUnavailable, match=r"all 2 connections were busy for 0\.01 s"):
        pool.borrow()
    pool.give(link)  # to nobody: who waited has gone
    assert pool.borrow() is link


def test_place_of_a_connection_that_failed_goes_to_who_waits_longest() -> None:
    pool = Pool(Link, 1, 20)
    link = pool.borrow()
    waiting = Asking(pool)
    pool.drop(link)
    waiting.end()
    assert link.closed
    assert waiting.link is not None
    assert waiting.link is not link
    assert pool.links == (waiting.link,)
    assert pool.count == 1


def test_place_of_one_who_cannot_connect_goes_to_the_next() -> None:
    """The server may be back by then."""
    fails = [False, True, False]

    def connect() -> Link:
        if fails.pop(0):
            raise AdapterUnavailable("away")
        return Link()

    pool = Pool(connect, 1, 20)
    link = pool.borrow()
    first, second = Asking(pool), Asking(pool)
    pool.drop(link)
    first.end()
    second.end()
    assert isinstance(first.error, AdapterUnavailable)
    assert second.link is not None
    assert pool.count == 1


def test_connection_that_is_not_sound_is_closed_and_replaced() -> None:
    pool = Pool(Link, 1, 20)
    link = pool.borrow()
    link.sound = False
    pool.give(link)
    other = pool.borrow()
    assert link.closed
    assert other is not link
    assert pool.count == 1


def test_close_ends_every_wait_and_closes_what_comes_back() -> None:
    pool = Pool(Link, 2, 20)
    used, idle = pool.borrow(), pool.borrow()
    waiting = [Asking(pool), Asking(pool)]
    pool.close()
    for one in waiting:
        one.end()
        assert isinstance(one.error, AdapterUnavailable)
        assert "closed by this application" in str(one.error)
    pool.give(used)
    pool.give(idle)
    assert used.closed
    assert idle.closed
    assert pool.count == 0
    with pytest.raises(AdapterUnavailable):
        pool.borrow()


def test_connections_of_before_are_not_used_after_forget() -> None:
    pool = Pool(Link, 2, 20)
    used, idle = pool.borrow(), pool.borrow()
    pool.give(idle)
    pool.forget()
    assert idle.closed
    assert not used.closed
    waiting = [Asking(pool), Asking(pool)]
    pool.give(used)
    assert used.closed
    for one in waiting:
        one.end()
        assert one.link not in (used, idle, None)
    assert pool.count == 2


@pytest.mark.parametrize("what", ["nothing", "link", "place", "closed"])
def test_wait_that_a_signal_ends_loses_no_connection(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """An exception of a signal's handler may come before or after the connection."""
    pool = Pool(Link, 1, 20)
    link = pool.borrow()

    def interrupted(self: object, seconds: float) -> bool:
        if what == "link":
            pool.give(link)
        elif what == "place":
            pool.drop(link)
        elif what == "closed":
            pool.close()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module._Turn, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pool.borrow()
    if what in ("nothing", "closed"):
        pool.give(link)
    if what == "closed":
        assert link.closed
        assert pool.count == 0
        return
    again = pool.borrow()
    assert (again is link) == (what != "place")
    assert pool.count == 1


@pytest.mark.parametrize("use", ["give", "drop", "unsound"])
@pytest.mark.parametrize("has_one", [False, True])
def test_an_interrupt_anywhere_loses_no_place_for_a_connection(use: str, has_one: bool) -> None:
    """The handler of a signal may raise between any two steps; after ten of these nothing worked any more."""

    def at_line(number: int) -> bool:
        """Use a connection, and raise at the line of that number; return whether there is such a line."""
        pool, lines = Pool(Link, 2, 0.01), itertools.count()
        if has_one:
            pool.give(pool.borrow())

        def traced(frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code.co_filename != module.__file__:
                return None
            # Python handles no signal between a block and the end of its `with`.
            is_with = linecache.getline(module.__file__, frame.f_lineno).lstrip().startswith("with ")
            if event == "line" and not is_with and next(lines) == number:
                raise KeyboardInterrupt
            return traced

        def once() -> None:
            link = pool.borrow()
            if use == "unsound":
                link.sound = False
                pool.give(link)
                link = pool.borrow()
            (pool.drop if use == "drop" else pool.give)(link)

        sys.settrace(traced)
        try:
            once()
        except KeyboardInterrupt:
            has_line = True
        else:
            has_line = False
        finally:
            sys.settrace(None)
        assert not pool._lock._is_owned(), "the lock is free"
        kept = [pool.borrow(), pool.borrow()]
        assert pool.count == len({*kept}) == 2
        return has_line

    before = sys.gettrace()
    try:
        assert sum(1 for _ in itertools.takewhile(at_line, itertools.count())) > 10
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("use", ["give", "drop", "unsound", "close"])
@pytest.mark.parametrize("most", [1, 2])
def test_a_signal_handler_anywhere_may_use_a_connection_too(use: str, most: int) -> None:
    """As one that requests a job; it waited for the lock of the call that it had come into, for ever."""

    def at_line(number: int) -> bool:
        """Use a connection, and one more at the line of that number; return whether there is such a line."""
        pool, lines, used = Pool(Link, most, 0.01), itertools.count(), list[Link]()
        has_line = False

        def handle() -> None:
            if use == "close":
                pool.close()
                return
            try:
                link = pool.borrow()
            except AdapterUnavailable:
                assert most == 1, "there is one, and the call has it"
                return
            assert link not in used
            (pool.drop if use == "drop" else pool.give)(link)

        def traced(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal has_line
            if frame.f_code.co_filename != module.__file__:
                return None
            if event == "line" and next(lines) == number:
                has_line = True
                handle()
            return traced

        def once() -> None:
            for _ in range(2):
                used.append(pool.borrow())
                used[-1].sound = use != "unsound"
                pool.give(used.pop())

        sys.settrace(traced)
        try:
            once()
        except AdapterUnavailable:
            assert use == "close"
        finally:
            sys.settrace(None)
        assert not pool._turns
        if use != "close":
            kept = [pool.borrow() for _ in range(most)]
            assert pool.count == len({*kept}) == most
        return has_line

    def all_lines() -> None:
        seen.append(sum(1 for _ in itertools.takewhile(at_line, itertools.count())))

    seen = list[int]()
    thread = threading.Thread(target=all_lines, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it waits for itself"
    assert seen[0] > 10


def test_a_connection_that_nobody_has_any_more_leaves_its_place() -> None:
    """As where an interrupt comes between the return of `borrow` and whoever called it."""
    pool = Pool(Link, 1, 0.01)
    pool.borrow()
    link = pool.borrow()
    assert pool.links == (link,)
    assert pool.count == 1
    with pytest.raises(AdapterUnavailable):
        pool.borrow()


def test_all_places_that_are_free_again_go_to_those_who_wait() -> None:
    """Nobody tells of a connection that is lost; the next that is dropped makes up for it."""
    pool = Pool(Link, 2, 20)
    lost, dropped = [pool.borrow()], pool.borrow()
    waiting = [Asking(pool) for _ in range(3)]
    lost.clear()
    pool.drop(dropped)
    for one in waiting[:2]:
        one.end()
    assert {*pool.links} == {one.link for one in waiting[:2]}
    assert len(pool._turns) == 1
    pool.close()
    waiting[2].end()


def test_a_connection_that_is_dropped_twice_leaves_one_place() -> None:
    pool = Pool(Link, 1, 20)
    link = pool.borrow()
    first, second = Asking(pool), Asking(pool)
    pool.drop(link)
    first.end()
    pool.drop(link)
    assert pool.count == 1
    assert len(pool._turns) == 1
    pool.close()
    second.end()
    assert second.link is None


def test_connection_that_comes_at_the_same_moment_as_the_close_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(Link, 1, 20)
    link = pool.borrow()

    def late(self: object, seconds: float) -> bool:
        pool.give(link)
        pool.close()
        return True

    monkeypatch.setattr(module._Turn, "wait", late)
    with pytest.raises(AdapterUnavailable):
        pool.borrow()
    assert link.closed
    assert pool.count == 0


def test_connection_that_comes_at_the_last_moment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(Link, 1, 20)
    link = pool.borrow()

    def late(self: object, seconds: float) -> bool:
        pool.give(link)
        return False

    monkeypatch.setattr(module._Turn, "wait", late)
    assert pool.borrow() is link


def test_many_who_ask_share_few_connections_and_all_are_served() -> None:
    pool, most, lock = Pool(Link, 3, 20), [0, 0], threading.Lock()

    def work() -> None:
        for _ in range(20):
            link = pool.borrow()
            with lock:
                most[0] += 1
                most[1] = max(most)
            threading.Event().wait(0.0001)
            with lock:
                most[0] -= 1
            pool.give(link)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[1] <= 3
    assert pool.count <= 3


def test_e8_a_forked_child_neither_uses_nor_closes_the_connections_of_its_parent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To close one may shut it down for both, and what nobody refers to any more closes itself."""
    ended: list[int] = []

    class Own(Link):
        def __del__(self) -> None:
            ended.append(id(self))

    pool: Pool[Own] = Pool(Own, 1, 0.0)
    link = pool.borrow()
    parents = id(link)
    pool.give(link)
    del link
    monkeypatch.setattr(module, "_pools", {pool})
    monkeypatch.setattr(module, "_abandoned", [])
    module._after_fork_in_child()
    assert ended == []
    assert id(pool.borrow()) != parents

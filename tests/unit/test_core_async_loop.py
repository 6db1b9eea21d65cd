"""The event loop of async handlers, after a handler and after its own end (D8, D9)."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from kessel_core.runtime import async_loop
from kessel_core.runtime.async_loop import AsyncLoop, Stopped
from tests.until import until


class Value:
    """What a handler returned; nobody needs it after its job."""


async def make() -> Value:
    return Value()


@pytest.fixture
def loop() -> Iterator[AsyncLoop]:
    loop = AsyncLoop()
    yield loop
    loop.close()


def test_d8_what_an_async_handler_returned_is_forgotten_with_its_job(loop: AsyncLoop) -> None:
    """A worker runs for months: whatever is kept of each job fills the memory."""
    kept = weakref.ref(loop.run(make(), None))

    def is_gone() -> bool:
        gc.collect()
        return kept() is None

    until(is_gone, seconds=5.0)  # the loop's thread may be about to let go of it


def test_d9_only_the_handlers_that_do_not_end_are_named_at_the_end(
    loop: AsyncLoop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those that have ended long ago, whatever came of them."""
    monkeypatch.setattr(async_loop, "_PATIENCE", 0.01)
    running, go_on = threading.Event(), threading.Event()

    async def fail() -> None:
        raise LookupError("no such card")

    async def deaf() -> None:
        running.set()
        while not go_on.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue

    def wait() -> None:
        with pytest.raises(Stopped):
            loop.run(deaf(), None, "deaf")

    loop.run(make(), None, "good")
    with pytest.raises(LookupError):
        loop.run(fail(), None, "bad")
    slot = threading.Thread(target=wait)
    slot.start()
    assert running.wait(20)
    inner, thread = loop._loop, loop._thread
    assert inner is not None and thread is not None
    loop.close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == "async handlers did not end when they were cancelled, they are left behind: deaf"
    slot.join(20)
    go_on.set()
    until(lambda: not asyncio.all_tasks(inner))
    inner.call_soon_threadsafe(inner.stop)
    thread.join(20)
    inner.close()


@pytest.mark.parametrize("is_started", [True, False])
def test_d9_after_its_end_nothing_runs_and_no_coroutine_is_left_unawaited(
    loop: AsyncLoop, is_started: bool
) -> None:
    """A slot may come back from its middleware after the grace; a second thread would outlive the manager."""
    if is_started:
        loop.run(make(), None)
    loop.close()
    late = make()
    with pytest.raises(Stopped, match="its manager is closed"):
        loop.run(late, None)
    assert inspect.getcoroutinestate(late) == inspect.CORO_CLOSED
    assert loop._loop is None


def test_d8_a_handler_that_waits_for_another_in_its_own_loop_leaves_that_one_closed(loop: AsyncLoop) -> None:
    inner = make()

    async def outer() -> str:
        try:
            loop.run(inner, None)
        except Exception as exc:
            return str(exc)
        return ""

    assert "cannot wait for an async handler in this way" in loop.run(outer(), None)
    assert inspect.getcoroutinestate(inner) == inspect.CORO_CLOSED


def test_d9_who_is_interrupted_while_he_waits_leaves_no_handler_running(loop: AsyncLoop) -> None:
    """Ctrl-C in a program that runs a job itself; what the handler holds is given back at once."""
    running, is_cancelled = threading.Event(), threading.Event()
    submit = asyncio.run_coroutine_threadsafe

    async def endless() -> None:
        try:
            running.set()
            await asyncio.sleep(3600)  # the loop knows of it, so that it is not collected instead
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    def interrupt(*_: object) -> None:
        assert running.wait(20)
        raise KeyboardInterrupt

    def interrupted(work: Any, inner: asyncio.AbstractEventLoop) -> Future[Any]:
        future = submit(work, inner)
        future.result = interrupt  # type: ignore[method-assign]
        return future

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run(endless(), None)
    assert is_cancelled.wait(5)


def test_d10_handlers_that_wait_in_threads_do_not_starve_the_jobs_that_they_wait_for(loop: AsyncLoop) -> None:
    """Those need a thread to be requested, and asyncio by itself has 32 at most: nobody would ever go on."""
    met = threading.Barrier(33)

    async def family() -> None:
        await asyncio.gather(*(asyncio.to_thread(met.wait, 20) for _ in range(met.parties)))

    before = set(threading.enumerate())
    loop.run(family(), None)
    loop.close()
    # They end with their loop.
    until(lambda: not any(thread.is_alive() for thread in set(threading.enumerate()) - before))


def test_d9_what_begins_just_when_it_is_cut_off_is_cancelled_as_well(loop: AsyncLoop) -> None:
    """Its slot has started it, and does not wait for it yet."""
    ends: list[BaseException] = []
    may_call = threading.Event()

    async def work() -> None:
        await asyncio.sleep(3600)

    def call() -> None:
        may_call.wait(20)
        try:
            loop.run(work(), None)
        except BaseException as exc:
            ends.append(exc)

    slot = threading.Thread(target=call)
    slot.start()
    loop.cut_off([slot])
    may_call.set()
    slot.join(20)
    assert [type(end) for end in ends] == [Stopped]
    assert loop.run(asyncio.sleep(0, "others go on"), None) == "others go on"


def test_d9_what_is_cut_off_is_cancelled_and_what_others_wait_for_goes_on(loop: AsyncLoop) -> None:
    """A worker that has given its jobs back ends alone; other workers of the application go on."""
    begun, is_cancelled, go_on = threading.Barrier(3), threading.Event(), threading.Event()
    ends: list[BaseException | str] = []

    async def cut() -> None:
        try:
            await asyncio.to_thread(begun.wait, 20)
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            is_cancelled.set()
            raise

    async def other() -> str:
        await asyncio.to_thread(begun.wait, 20)
        await asyncio.to_thread(go_on.wait, 20)
        return "ended by itself"

    def call(work: Any) -> None:
        try:
            ends.append(loop.run(work, None))
        except BaseException as exc:
            ends.append(exc)

    slots = [threading.Thread(target=call, args=(work(),)) for work in (cut, other)]
    for slot in slots:
        slot.start()
    begun.wait(20)
    loop.cut_off(slots[:1])
    assert is_cancelled.wait(20)
    slots[0].join(20)
    go_on.set()
    slots[1].join(20)
    stopped, ended = ends
    assert isinstance(stopped, Stopped)
    assert str(stopped) == "cancelled, because its worker stopped"
    assert ended == "ended by itself"

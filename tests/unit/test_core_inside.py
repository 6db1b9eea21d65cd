"""What runs inside of a job, and what falls into the middle of a wait: findings A5, A6, A7, D1, D2, D20."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kessel_core import JobManager, KesselError, Status, SystemClock, hookimpl
from kessel_core.contract import Buried, need
from kessel_core.runtime.stopping import uninterrupted
from tests.threadless import no_thread

Open = Callable[..., JobManager]
VAR: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


class Loses:
    """A middleware that forgets to return."""

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job: Any) -> Any:
        yield


@pytest.mark.parametrize("level", ["INFO", "ERROR"])
def test_finding_d1_a_middleware_that_returns_nothing_buries_no_job(
    opened: Open, caplog: pytest.LogCaptureFixture, level: str
) -> None:
    """Whether kessel's own middleware logs the attempt or not."""
    caplog.set_level(level, "kessel")
    manager = opened(plugin=Loses(), handlers={"a": lambda payload: 42})
    assert manager.process_single_job("a").value == 42
    manager.request("a")
    assert manager.worker().drain() == {"success": 1}
    assert "a middleware returned nothing" in caplog.text


def test_finding_d1_a_chain_without_a_runner_gives_its_jobs_back(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = opened(handlers={"a": lambda payload: 42})
    chain = type("Chain", (), {"execute": lambda self, job: None, "retry_pause": lambda self, **_: None})()
    monkeypatch.setattr(manager.pipeline, "_chain", chain)
    assert manager.process_single_job("a").status is Status.SNOOZED


def test_finding_d1_a_manager_that_is_closed_stops_every_worker_that_it_made(opened: Open) -> None:
    before = set(threading.enumerate())  # other tests leave slots behind whose handlers never end
    manager = opened(handlers={"a": len})
    workers = [manager.worker(slots=2) for _ in range(2)]
    for worker in workers:
        worker.start()
    never_started = manager.worker()
    manager.close()
    assert all(worker.is_stopping and not worker.health().running for worker in workers)
    assert never_started.is_stopping
    begun = set(threading.enumerate()) - before
    assert not [thread for thread in begun if thread.name.startswith("kessel-slot")]


def test_finding_d1_jobs_beside_a_closing_manager_are_never_buried(opened: Open) -> None:
    adapter = opened().adapter
    for _ in range(20):
        manager = opened(adapter, handlers={"a": lambda payload: None})
        manager.request_many(["a"] * 50)
        manager.worker(slots=4).start()
        manager.close()
    assert need(adapter, Buried).buried("default") == []
    assert adapter.stats("default").reserved == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_finding_a5_an_inline_job_sees_the_context_of_its_caller_and_cannot_change_it(
    opened: Open, is_async: bool
) -> None:
    def plain(payload: object) -> str:
        seen = VAR.get()
        VAR.set("by the job")
        return seen

    async def awaited(payload: object) -> str:
        return plain(payload)

    manager = opened(handlers={"a": awaited if is_async else plain})
    token = VAR.set("by the caller")
    try:
        assert manager.process_single_job("a").value == "by the caller"
        assert VAR.get() == "by the caller"
    finally:
        VAR.reset(token)


def test_finding_a5_watchers_and_middleware_share_the_context_of_their_attempt(opened: Open) -> None:
    seen: list[str] = []

    class Traces:
        @hookimpl
        def kessel_job_started(self) -> None:
            VAR.set("trace")

        @hookimpl
        def kessel_job_settled(self) -> None:
            seen.append(VAR.get())

    manager = opened(plugin=Traces(), handlers={"a": lambda payload: VAR.get()})
    assert manager.process_single_job("a").value == "trace"
    assert (seen, VAR.get()) == (["trace"], "unset")


def test_finding_a6_an_async_handler_that_waits_for_another_in_its_loop_is_told_so(opened: Open) -> None:
    async def inner(payload: object) -> int:
        return 42

    async def outer(payload: object) -> object:
        if payload == "thread":
            return (await asyncio.to_thread(manager.process_single_job, "inner")).value
        with pytest.raises(KesselError, match="to_thread"):
            manager.process_single_job("inner")
        with pytest.raises(KesselError, match="to_thread"):
            worker.join()
        # Returns a coroutine although it does not look like it: seen only when it runs.
        return manager.process_single_job("hidden").message

    manager = opened(handlers={"inner": inner, "outer": outer, "hidden": lambda payload: inner(payload)})
    worker = manager.worker()
    worker.start()
    result = manager.process_single_job("outer")
    assert result.status is Status.SUCCESS, result.message
    assert "same event loop" in str(result.value)
    assert manager.process_single_job("outer", "thread").value == 42


def test_finding_a7_a_job_cannot_wait_for_its_own_worker(opened: Open) -> None:
    def join(payload: object) -> None:
        worker.join()

    manager = opened(handlers={"a": join})
    manager.request("a")
    worker = manager.worker()
    worker.drain()
    (buried,) = need(manager.adapter, Buried).buried("default")
    assert "own worker" in buried.message


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_finding_d2_what_ends_programs_ends_only_an_async_job(opened: Open, error: BaseException) -> None:
    async def leave(payload: object) -> None:
        await asyncio.sleep(0)
        raise error

    async def good(payload: object) -> int:
        return 1

    manager = opened(handlers={"leave": leave, "good": good})
    manager.request_many(["leave", "good"])
    assert manager.worker(slots=1).drain() == {"failed": 1, "success": 1}
    assert manager.adapter.stats("default").buried == 1
    assert need(manager.adapter, Buried).buried("default")[0].reason == "error"


class Gap(threading.Condition):
    """Ctrl-C where a wait has let go of its lock, and does not hold it again."""

    def wait(self, timeout: float | None = None) -> bool:
        self.release()
        raise KeyboardInterrupt


@pytest.mark.parametrize("lock", [threading.Lock, threading.RLock])
def test_finding_d20_ctrl_c_in_a_wait_leaves_the_lock_as_it_was(lock: Callable[[], Any]) -> None:
    condition = Gap(lock())
    with pytest.raises(KeyboardInterrupt), condition:
        SystemClock().wait(condition, 1)
    assert condition.acquire(blocking=False)


def test_without_a_thread_for_it_what_must_not_be_interrupted_is_an_error_and_no_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_thread(monkeypatch, "elsewhere")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        uninterrupted(lambda: None, "elsewhere")


def test_finding_d20_what_must_not_be_interrupted_runs_elsewhere_and_raises_here() -> None:
    names: list[str] = []

    def work() -> None:
        names.append(threading.current_thread().name)
        raise ValueError("seen here")

    with pytest.raises(ValueError, match="seen here"):
        uninterrupted(work, "elsewhere")
    assert names == ["elsewhere"]


HANDLED_ELSEWHERE = """
import signal, threading
from kessel_core.runtime.stopping import uninterrupted

seen = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: seen.set())

def work():
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    assert seen.wait(30)

uninterrupted(work, "elsewhere")
"""


def test_finding_d20_a_signal_to_another_thread_is_handled_during_the_wait() -> None:
    """Only the main thread runs handlers, and the wait in it is not ended by a signal that went elsewhere."""
    assert subprocess.run([sys.executable, "-c", HANDLED_ELSEWHERE], timeout=60).returncode == 0


def test_finding_a5_each_attempt_has_a_decimal_context_of_its_own(opened: Open) -> None:
    def handle(payload: object) -> int:
        precision = decimal.getcontext().prec
        decimal.getcontext().prec = 5
        return precision

    values: list[object] = []

    class Watch:
        @hookimpl
        def kessel_job_finished(self, result: Any) -> None:
            values.append(result.value)

    manager = opened(plugin=Watch(), handlers={"a": handle})
    manager.request_many(["a", "a", "a"])
    manager.worker(slots=1).drain()
    assert values == [28, 28, 28]

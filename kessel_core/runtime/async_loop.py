"""One event loop in one thread for the async handlers of all slots."""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


__all__ = ["AsyncLoop", "Stopped", "TimedOut"]


class TimedOut(TimeoutError):
    """An async handler ran longer than its `timeout`."""


class Stopped(Exception):
    """An async handler was still running at the end of the worker's grace period."""


class AsyncLoop:
    """One event loop in one thread, for the async handlers of all slots. Thread-safe.

    It starts, and imports asyncio, when it is first needed: that import takes a fifth of the core's time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, Any], timeout: timedelta | None) -> Any:
        """Run a coroutine to its end, and block the calling slot meanwhile.

        Raises:
            TimedOut: It ran longer than `timeout`, and was cancelled.
            Stopped: The loop was closed.
            BaseException: Whatever the coroutine raises.
        """
        import asyncio
        from concurrent.futures import CancelledError

        loop = self._running()
        try:
            return asyncio.run_coroutine_threadsafe(_limited(work, timeout), loop).result()
        except CancelledError as exc:
            if self._loop is loop:
                raise  # cancelled by the handler itself
            raise Stopped("cancelled, because its worker stopped") from exc

    def _running(self) -> asyncio.AbstractEventLoop:
        import asyncio

        with self._lock:
            # A forked child inherits the loop of its parent, but not the thread that runs it.
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="kessel-async", daemon=True
                )
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Cancel all running handlers, stop the loop and end its thread. Idempotent."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None or not thread.is_alive():
            return
        import asyncio

        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(timeout=5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        loop.close()


async def _limited(work: Coroutine[Any, Any, Any], timeout: timedelta | None) -> Any:
    import asyncio

    if timeout is None:
        return await work
    limit = asyncio.timeout(timeout.total_seconds())
    try:
        async with limit:
            return await work
    except TimeoutError as exc:
        if limit.expired():
            raise TimedOut(f"ran longer than {timeout.total_seconds():g} s") from exc
        raise


async def _cancel_others() -> None:
    import asyncio

    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

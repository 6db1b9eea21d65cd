"""One event loop in one thread for the async handlers of all slots.

Whatever a handler does to the loop, the slot that waits for it gets an answer, and `close` comes back in
bounded time: a handler that holds up the loop, or does not let itself be cancelled, is left behind.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Collection, Coroutine, Generator
from datetime import timedelta
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

import attrs

from kessel_core.errors import KesselError
from kessel_core.runtime import forks, recursion
from kessel_core.values.late import importing
from kessel_core.values.logs import get_logger
from kessel_core.values.streams import opened_above

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

__all__ = ["AsyncLoop", "Stopped", "TimedOut"]

log = get_logger("kessel.worker")

#: What handlers get to end after they were cancelled, in real seconds.
_PATIENCE: Final = 0.3

#: Most threads of `asyncio.to_thread` in handlers. Threads are made when they are needed, so this is what all
#: slots may need: asyncio's own limit, a few more than processors, lets handlers that wait in a thread for
#: other jobs hold every thread, and those jobs wait for a thread for ever.
_THREADS: Final = 10_000


class TimedOut(TimeoutError):
    """An async handler ran longer than its `timeout`."""


class Stopped(Exception):
    """An async handler was cut off, and not by its own doing: its worker stopped, or the loop broke."""


@attrs.frozen
class _Raised:
    """What must not be raised inside the loop, because it would end the loop."""

    error: BaseException


class AsyncLoop:
    """One event loop in one thread, for the async handlers of all slots. Thread-safe.

    It starts, and imports asyncio, when it is first needed: that import takes a fifth of the core's time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closed = False
        #: What slots wait for, each with its thread; what was cut off is taken out first.
        self._calls: dict[Future[Any], threading.Thread] = {}
        #: Threads whose calls are cut off; those of workers that have ended.
        self._cut: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        #: What runs in the loop, by its name; and whose step is being taken. Written by the loop's thread.
        self._running: dict[object, str] = {}
        self._stepping: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether this is the loop's own thread, which must not wait for the loop."""
        return self._thread is threading.current_thread()

    def run(self, work: Coroutine[Any, Any, Any], timeout: timedelta | None, name: str = "") -> Any:
        """Run a coroutine to its end, and block the calling slot meanwhile.

        Args:
            work: The coroutine.
            timeout: After which it is cancelled; None: never.
            name: Its name in the log.

        Raises:
            KesselError: It was called in the loop's own thread, which would wait for itself.
            TimedOut: It ran longer than `timeout`, and was cancelled.
            Stopped: The loop was closed, or this call cut off.
            BaseException: Whatever the coroutine raises.
        """
        with importing():
            import asyncio
            from concurrent.futures import CancelledError

        try:
            loop = self._started()
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(self._guarded(work, timeout, name), loop)
        self._calls[future] = threading.current_thread()
        if self._loop is not loop:
            future.cancel()  # closed, or broken, just now
        if threading.current_thread() in self._cut and self._calls.pop(future, None) is not None:
            future.cancel()  # cut off just now, when it was not known yet what this thread waits for
        try:
            value = future.result()
        except CancelledError as exc:
            is_broken = self._loop is not loop and not self._is_closed
            if self._loop is loop and future in self._calls:
                raise  # the handler's own doing
            why = "the event loop broke" if is_broken else "its worker stopped"
            raise Stopped(f"cancelled, because {why}") from exc
        finally:
            self._calls.pop(future, None)
            future.cancel()  # the caller's own Ctrl-C
        if type(value) is _Raised:
            raise value.error
        return value

    def cut_off(self, threads: Collection[threading.Thread]) -> None:
        """Cancel what these threads wait for in `run`, now and later, and let them go on at once.

        The loop goes on for the others.
        """
        self._cut.update(threads)
        for future, thread in list(self._calls.items()):
            if thread in threads and self._calls.pop(future, None) is not None:
                future.cancel()

    def close(self) -> None:
        """Cancel what runs and end the loop; what does not end soon is left behind, with one warning."""
        with self._lock:
            loop, thread, self._loop = self._loop, self._thread, None
            self._is_closed = True
        if loop is None or thread is None or not thread.is_alive() or self.is_here:
            return
        import asyncio

        for future in list(self._calls):
            future.cancel()
        ended = asyncio.run_coroutine_threadsafe(_cancel_others(), loop)
        try:
            ended.result(timeout=_PATIENCE)
        except TimeoutError:
            self._report_left()
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=_PATIENCE)
        if not thread.is_alive():
            loop.close()

    def _report_left(self) -> None:
        if (name := self._stepping) is not None:
            log.warning("the async handler of %s holds up the event loop; it is left behind", name)
            return
        names = ", ".join(sorted({*self._running.values()}))
        log.warning(
            "async handlers did not end when they were cancelled, they are left behind: %s", names or "?"
        )

    # --- the loop's thread -------------------------------------------------------------------

    def _started(self) -> asyncio.AbstractEventLoop:
        if self.is_here:
            raise KesselError(
                "an async handler cannot wait for an async handler in this way, because both run in the same "
                "event loop: await it, or call process_single_job in a thread (asyncio.to_thread)"
            )
        with self._lock:
            if self._is_closed:
                raise Stopped("its manager is closed")
            # A forked child has its parent's loop, but no thread that runs it.
            if self._loop is None or self._thread is None or not self._thread.is_alive():
                self._loop = loop = opened_above(_new_loop, lambda made: made.close())
                self._calls, self._running, self._stepping = {}, {}, None
                self._thread = threading.Thread(
                    target=self._serve, args=(loop,), name="kessel-async", daemon=True
                )
                self._thread.start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                try:
                    loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as exc:
                    log.warning("%r left a task of an async handler; the event loop goes on", exc)
                else:
                    if self._loop is not loop:
                        return
                    log.warning("an async handler stopped the event loop; it goes on")
        except BaseException:
            log.exception("the event loop of async handlers broke; the next job gets another one")
        finally:
            with self._lock:
                if self._loop is loop:
                    self._loop = None
            if self._loop is None and not self._is_closed:
                for future in list(self._calls):
                    future.cancel()

    async def _guarded(self, work: Coroutine[Any, Any, Any], timeout: timedelta | None, name: str) -> Any:
        key = object()
        self._running[key] = name
        try:
            steps = _Steps(self, work, name) if type(work) is CoroutineType else work
            return await steps if timeout is None else await _limited(steps, timeout)
        except (SystemExit, KeyboardInterrupt) as exc:
            return _Raised(exc)
        finally:
            if sys.getrecursionlimit() < recursion.LEAST:  # before the slot, which has less room, goes on
                recursion.restore(f"the async handler of {name}")
            del self._running[key]


def _new_loop() -> asyncio.AbstractEventLoop:
    with importing():
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

    loop = asyncio.new_event_loop()
    # Shut down by `loop.close`; named as by asyncio, because what is left behind in it is the handlers'.
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="asyncio"))
    return loop


class _Steps:
    """A coroutine, taken step by step: a forked child never comes back from one into its copy of the loop."""

    def __init__(self, loop: AsyncLoop, work: CoroutineType[Any, Any, Any], name: str) -> None:
        self._loop = loop
        self._work = work
        self._name = name

    def __await__(self) -> Generator[Any, Any, Any]:
        loop, work, name = self._loop, self._work, self._name
        before = forks.generation
        value: Any = None
        error: BaseException | None = None
        while True:
            loop._stepping = name  # of this module
            try:
                waited = work.send(value) if error is None else work.throw(error)
            except StopIteration as end:
                if forks.generation != before:
                    self._leave()
                return end.value
            except BaseException as exc:
                if forks.generation != before:
                    self._leave(exc)
                raise
            finally:
                loop._stepping = None
            if forks.generation != before:
                self._leave()
            value = error = None
            try:
                value = yield waited
            except BaseException as exc:
                error = exc
            if forks.generation != before:
                self._leave()

    def _leave(self, error: BaseException | None = None) -> None:
        forks.leave(f"the async handler of {self._name}", error)


async def _limited(work: Any, timeout: timedelta) -> Any:
    import asyncio

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

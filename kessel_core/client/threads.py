"""Waits in threads, for those who must not block an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

__all__ = ["in_own_thread"]

_T = TypeVar("_T")


async def in_own_thread(call: Callable[[], _T]) -> _T:
    """Make a call that may wait for long in a thread of its own, and return what it returns.

    As `asyncio.to_thread`, with the context of the caller; but calls beyond the few threads of the event
    loop's executor do not wait for each other, and an interpreter that ends does not wait for them.
    """
    answer: Future[_T] = Future()
    answer.set_running_or_notify_cancel()  # from now on only the wait for it can be cancelled

    def run() -> None:
        try:
            value = call()
        except BaseException as exc:
            answer.set_exception(exc)
        else:
            answer.set_result(value)

    threading.Thread(target=copy_context().run, args=(run,), name="kessel-await", daemon=True).start()
    return await asyncio.wrap_future(answer)

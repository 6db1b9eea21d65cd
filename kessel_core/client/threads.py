"""Waits in threads, for those who must not block an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

__all__ = ["in_own_thread"]

_T = TypeVar("_T")


async def in_own_thread(call: Callable[[], _T]) -> _T:
    """Make a call that may wait for long in a thread of its own, and return what it returns.

    As `asyncio.to_thread`, with the context of the caller; but calls beyond the few threads of the event
    loop's executor do not wait for each other, and an interpreter that ends does not wait for them.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()

    def run() -> None:
        try:
            value = call()
        except BaseException as exc:
            tell(answer.set_exception, exc)
        else:
            tell(answer.set_result, value)

    def tell(how: Callable[..., None], what: object) -> None:
        def telling() -> None:
            if not answer.done():  # it was cancelled
                how(what)

        with suppress(RuntimeError):  # the event loop has ended meanwhile
            loop.call_soon_threadsafe(telling)

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="kessel-await", daemon=True).start()
    return await answer

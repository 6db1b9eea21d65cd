"""All connections of what is open end together, as when its server is restarted: one call may fail then."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias, TypeVar

from kessel_conformance.faults import ANSWER_WITHIN
from kessel_conformance.near import Near
from kessel_conformance.opencase import OpenCase
from kessel_core import AdapterError

__all__ = ["AT_ONCE", "Numbered", "one_may_fail"]

#: Threads that call at once, so that there are as many connections; and calls that follow each other.
AT_ONCE: Final = 8
#: Seconds; what has not made so many connections by then makes do with fewer.
_CONNECTED: Final = 0.3
#: Seconds until the end of a connection can be seen.
_SEEN: Final = 0.05

#: A call that any thread can make, by the number of the thread.
Numbered: TypeAlias = Callable[[int], object]
B = TypeVar("B", bound=OpenCase)
T = TypeVar("T")


def one_may_fail(near: Near[B, T], what: str, call: Numbered, usual: tuple[type[AdapterError], ...]) -> None:
    """End all connections that calls in several threads have made, and make calls in one thread.

    Args:
        near: What is open behind a proxy.
        what: How the call reads.
        call: Finds its connection by itself.
        usual: The errors by which it tells of a lost connection.
    """
    bench = near.bench
    _failure(near, what, call, usual)  # what is asked once is not asked by all of them
    bench.history.add(f"{what} in {AT_ONCE} threads at once, then all connections end")
    made = near.proxy.traffic.connections
    near.proxy.hold_answers()

    def ends_faults() -> None:
        end = time.monotonic() + _CONNECTED
        while near.proxy.traffic.connections - made < AT_ONCE - 1 and time.monotonic() < end:
            time.sleep(0.005)
        near.proxy.end_faults()

    bench.side_by_side([*(partial(call, number) for number in range(AT_ONCE)), ends_faults], ANSWER_WITHIN)
    near.proxy.cut()
    time.sleep(_SEEN)
    errors = [_failure(near, what, call, usual) for _ in range(AT_ONCE)]
    failed = [number + 1 for number, error in enumerate(errors) if error is not None]
    bench.check(failed in ([], [1]), f"the calls {failed} of {what} failed after that, in one thread")


def _failure(
    near: Near[B, T], what: str, call: Numbered, usual: tuple[type[AdapterError], ...]
) -> AdapterError | None:
    """Make a call; return the error by which it tells of a lost connection."""
    error = near.asked(near.bench.history, what, partial(call, 0)).error
    if error is None or isinstance(error, usual):
        return error
    near.bench.broken(f"expected {' or '.join(kind.__name__ for kind in usual)} of {what}, got {error!r}")

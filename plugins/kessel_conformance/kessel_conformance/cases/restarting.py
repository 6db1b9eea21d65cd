"""A server that is restarted is away for a while: whoever calls it meanwhile is told to try again."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import NETWORK, RESTART
from kessel_core import AdapterUnavailable, EnqueueUnknown
from kessel_core.contract import NO_PAUSE

#: Jobs, and bytes of each: so many that a server which reads them when it begins takes a moment for it.
_MANY, _PORTION, _BYTES = 3_000, 100, 4_000
#: Seconds for making them.
_FILLS_FOR: Final = 1.0
#: Seconds between two calls of a thread.
_PAUSE: Final = 0.002
#: Seconds after which a server that came back answers.
_BACK_WITHIN: Final = 20.0


@case(
    "lost.while_restarting",
    "S9",
    "S14",
    needs=(NETWORK, RESTART),
    waits=True,
    alone=True,
    why="Not now, I am loading, says a server that comes back; its workers take that for a server that is not"
    " theirs, and end.",
)
def while_restarting(bench: Bench) -> None:
    with bench.beside() as filled:
        _fill(filled)
        _restart_under_calls(bench)
        for one in (bench, filled):  # over connections that nobody has used since
            one.patiently("purge", partial(one.adapter.purge, one.queue))


def _fill(bench: Bench) -> None:
    """Give the server what it has to read when it begins; it may itself have begun just now."""
    bench.patiently("stats", lambda: bench.adapter.stats(bench.queue))
    limit = bench.capabilities.max_body_bytes or _BYTES
    filler = b"x" * (min(limit, _BYTES) - 20)
    end = time.monotonic() + _FILLS_FOR
    for start in range(0, _MANY, _PORTION):
        bench.send_many([bench.message(b"%d " % n + filler) for n in range(start, start + _PORTION)])
        if time.monotonic() > end:
            break


def _restart_under_calls(bench: Bench) -> None:
    is_back = threading.Event()
    consumer = bench.consumer(bench.queue_named("none"))

    def opens() -> None:
        bench.harness.open(bench.clock, bench.namespace).close()

    calls: dict[str, Callable[[], object]] = {
        "stats": lambda: bench.adapter.stats(bench.queue),
        "reserve": lambda: consumer.reserve(NO_PAUSE),
        "enqueue": lambda: bench.adapter.enqueue(bench.message()),
        "open": opens,
    }

    def restarts() -> None:
        try:
            bench.harness.restart()
        finally:
            is_back.set()
        bench.history.add("the server was killed and started again")

    asking = [partial(_asks, bench, what, call, is_back) for what, call in calls.items()]
    bench.side_by_side([restarts, *asking], 3 * _BACK_WITHIN)


def _asks(bench: Bench, what: str, call: Callable[[], object], is_back: threading.Event) -> None:
    """Call until it works after the restart; until then it says that the server cannot be reached."""
    told = (AdapterUnavailable, EnqueueUnknown) if what == "enqueue" else (AdapterUnavailable,)
    end: float | None = None
    while True:
        was_back = is_back.is_set()
        if was_back and end is None:
            end = time.monotonic() + _BACK_WITHIN
        try:
            call()
        except Exception as exc:
            if not isinstance(exc, told):
                bench.history.add(f"{what}, while the server is restarted -> {type(exc).__name__}: {exc}")
                expected = " or ".join(kind.__name__ for kind in told)
                bench.broken(f"{what} raised {type(exc).__name__} during a restart, expected {expected}")
            if end is not None and time.monotonic() > end:
                bench.broken(f"{what} still fails {_BACK_WITHIN:g} s after the server came back: {exc}")
        else:
            if was_back:
                return
        time.sleep(_PAUSE)

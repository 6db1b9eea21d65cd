"""What is left of an adapter that was closed: nothing."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.elsewhere import Elsewhere

#: So often an adapter is opened and closed; nobody else leaves as many descriptors behind.
_TIMES: Final = 20


@case(
    "adapter.close_ends_threads",
    "S9",
    real_time=True,
    why="Each adapter that was closed leaves a thread and a connection, until there are no more to be had.",
)
def close_ends_threads(bench: Bench) -> None:
    with bench.in_real_time() as real, Elsewhere(real) as elsewhere:  # where no other case begins threads
        threads, sockets = elsewhere.ask("leave", real.queue_named("none"))
        real.history.add("another process opens an adapter, waits for a job, and closes it")
        real.equal(threads, [], "threads of an adapter that was closed")
        real.equal(sockets, [], "sockets of an adapter that was closed")


@case(
    "adapter.close_ends_files",
    "S9",
    real_time=True,
    why="Each adapter that was closed leaves a file open, until the process may open no more.",
)
def close_ends_files(bench: Bench) -> None:
    with bench.in_real_time() as real, Elsewhere(real) as elsewhere:  # where no other case opens files
        left = elsewhere.ask("leave_open", real.message(), _TIMES)
        real.history.add(f"another process opens an adapter, uses it and closes it, {_TIMES} times")
        real.equal(left, [], f"descriptors that {_TIMES} adapters have left, which were closed")

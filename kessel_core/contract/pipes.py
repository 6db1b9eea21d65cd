"""A pipe that ends the wait of another thread, and waiting for what can be read."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from math import ceil

from kessel_core.values.streams import opened_above

__all__ = ["close_pipe", "empty", "nap", "nudge", "open_pipe", "readable"]

Pipe = tuple[int, int]


def open_pipe() -> Pipe:
    """Return the reading and the writing end of a new pipe; neither ever blocks."""
    pipe = opened_above(os.pipe, close_pipe)
    for end in pipe:
        os.set_blocking(end, False)
    return pipe


def close_pipe(pipe: Pipe) -> None:
    """Close both ends."""
    for end in pipe:
        os.close(end)


def nudge(pipe: Pipe) -> None:
    """Make the pipe readable."""
    with suppress(BlockingIOError):  # it is full, and so will be read
        os.write(pipe[1], b"x")


def readable(descriptors: list[int], seconds: float) -> set[int]:
    """Wait until some can be read from; `select` would refuse numbers from 1,024 up."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(ceil(max(0.0, seconds) * 1000))}


def nap(pipe: int, seconds: float) -> None:
    """Rest until something is written into a pipe, or the time is over; the pipe is empty then."""
    if readable([pipe], seconds):
        empty(pipe)


def empty(pipe: int) -> None:
    """Read all that is in a pipe."""
    with suppress(BlockingIOError):
        while os.read(pipe, 4096):
            pass

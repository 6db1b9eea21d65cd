"""What a process does until it is killed; it is a forked child of `agent`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import attrs

from kessel_conformance.dying import Death, Extent, Steps, dies, dying_beyond
from kessel_conformance.harness import Harness
from kessel_core import AdapterError, Clock, LeaseLost
from kessel_core.contract import (
    NO_PAUSE,
    Buried,
    Consumer,
    Message,
    QueueAdapter,
    Reservation,
    Settlement,
    need,
)

__all__ = ["Deed", "all_done", "lived"]


@attrs.frozen
class Deed:
    """One step of a process that may be killed in it."""

    #: Messages to enqueue: one, or several in a batch.
    enqueues: tuple[Message, ...] = ()
    #: The queue to reserve from.
    reserves: str = ""
    #: What to do with what was reserved last.
    settles: Settlement | None = None
    #: Whether the next job is reserved in the same call.
    and_reserves: bool = False
    #: The queue, and the id of a buried job to kick.
    kicks: tuple[str, str] | None = None


def lived(
    harness: Harness, namespace: str, clock: Clock, deeds: Sequence[Deed], death: Death
) -> tuple[int, Extent]:
    """Let a child do things until it is killed.

    Returns:
        How many deeds it reported as done, and how long they are.

    Raises:
        RuntimeError: A deed failed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            adapter = harness.open(clock, namespace)
            _live(adapter, deeds, death, writer, Path(harness.folder))
        except BaseException as exc:
            os.write(writer, f"failed {type(exc).__name__}: {exc}".encode())
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        told = file.read().splitlines()
    os.waitpid(child, 0)
    done = told.count("done")
    kind, *numbers = told[done].split() if done < len(told) else ["nothing"]
    if kind == "failed":
        raise RuntimeError(f"{deeds[done]} failed: {' '.join(numbers)}")
    return done, Extent.heard(" ".join(numbers)) if numbers else Extent()


def all_done(outcomes: Sequence[Exception | None]) -> None:
    """Raise the first outcome that is an error."""
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def _live(adapter: QueueAdapter, deeds: Sequence[Deed], death: Death, writer: int, folder: Path) -> None:
    adapter.queues()  # so that it has seen what is there, which may take steps for each job
    consumers = {deed.reserves: adapter.consumer([deed.reserves]) for deed in deeds if deed.reserves}
    consumer: Consumer | None = None
    held: Reservation | None = None
    steps = Steps(adapter, death)
    for number, deed in enumerate(deeds, 1):
        is_last = death.beyond > 0 and number == len(deeds)
        try:
            with steps.counted(), dying_beyond(folder, death.beyond) if is_last else nullcontext():
                if deed.enqueues:
                    _enqueue(adapter, deed.enqueues)
                elif deed.reserves:
                    consumer = consumers[deed.reserves]
                    held = consumer.reserve(NO_PAUSE)
                elif deed.kicks is not None:
                    need(adapter, Buried).kick(*deed.kicks)
                elif deed.settles is not None and consumer is not None and held is not None:
                    settle = consumer.settle_and_reserve if deed.and_reserves else consumer.settle
                    settle(held, deed.settles)
        except LeaseLost:  # on so busy a machine it has not settled, like one that died before
            if death == Death():
                raise
            dies()
        except AdapterError:  # it was refused what was too long, and says so
            if not is_last:
                raise
            dies()
        os.write(writer, b"done\n")
        if number == death.after:
            dies()
    os.write(writer, f"all {steps.extent.told()}".encode())
    dies()


def _enqueue(adapter: QueueAdapter, messages: tuple[Message, ...]) -> None:
    if len(messages) == 1:
        adapter.enqueue(messages[0])
        return
    all_done(adapter.enqueue_many(messages))

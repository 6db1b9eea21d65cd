"""An adapter that is open when its process forks: it works in the child, and goes on in the parent."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.elsewhere import Elsewhere
from kessel_conformance.harness_base import NotShown
from kessel_conformance.history import Violation
from kessel_conformance.meanwhile import FALLS_ASLEEP
from kessel_conformance.places import FORKS
from kessel_conformance.requirements import BLOCKING_RESERVE, SHARED_REACH
from kessel_conformance.woken import LONG, soon_enough
from kessel_core import LeaseLost
from kessel_core.contract import COMMIT, Message

#: How long the parent waits before the fork, so that it begins whatever it has for that.
_A_WHILE: Final = timedelta(milliseconds=200)
#: Seconds until a call in the child counts as hanging; less than `Elsewhere` waits for an answer.
_WITHIN: Final = 20.0
#: Jobs that parent and child each put and take at the same time: answers that are mixed up show soon.
_AT_ONCE: Final = 40


class _Forked:
    """Another process, and the child that it has forked with its adapter open."""

    def __init__(self, real: Bench, elsewhere: Elsewhere) -> None:
        self._real = real
        self._elsewhere = elsewhere
        self.taken = elsewhere.taken

    def parent(self, name: str, *arguments: object) -> Any:
        """Let the parent do something of `Doings`."""
        return self._ask(f"{name} in a process that has forked", name, *arguments)

    def child(self, name: str, *arguments: object) -> Any:
        """Let the child do something of `Doings`."""
        self.begin(name, *arguments)
        return self.end(name)

    def begin(self, name: str, *arguments: object) -> None:
        """Let the child begin something; `end` tells what came of it."""
        self._elsewhere.ask("begin_in_child", name, *arguments)

    def end(self, name: str) -> Any:
        """Tell what came of what the child has begun."""
        return self._ask(f"{name} in the forked child", "end_in_child", _WITHIN)

    def leave(self) -> None:
        """Let the child close its adapter, and end."""
        self.child("close")
        self._elsewhere.ask("leave_child")

    def _ask(self, what: str, name: str, *arguments: object) -> Any:
        hangs = False

        def ask() -> Any:
            nonlocal hangs
            try:
                return self._elsewhere.ask(name, *arguments)
            except TimeoutError:
                hangs = True

        answer = self._real.call(what, ask)
        self._real.check(not hangs, f"{what} did not end within {_WITHIN:g} s (contract, rule 7)")
        return answer


@contextmanager
def _forked(real: Bench) -> Iterator[_Forked]:
    """Let another process use its adapter; the case says when it forks."""
    if not hasattr(os, "fork"):
        raise NotShown("processes of this system do not fork")
    with Elsewhere(real) as elsewhere:
        elsewhere.ask("take_system_clock")
        forked = _Forked(real, elsewhere)
        forked.parent("enqueue", real.message(queue=real.queue_named("before")), None)
        forked.parent("wait_for", real.queue_named("before"), _A_WHILE)
        forked.parent("wait_for", real.queue_named("none"), _A_WHILE)
        yield forked


@case(
    "reach.works_after_a_fork",
    "S9",
    needs=(FORKS, SHARED_REACH),
    real_time=True,
    why="A server opens its adapter and forks: parent and children write to one connection, and read each"
    " other's answers, or the end of a child gives back what its parent holds.",
)
def works_after_a_fork(bench: Bench) -> None:
    with bench.in_real_time() as real, _forked(real) as forked:
        queue, held = real.queue_named("shared"), real.put(queue=real.queue_named("held"))
        lease_ends = real.lease_ends(time.monotonic())
        number = forked.taken(forked.parent("reserve", held.queue), held, "a process that is to fork")
        forked.parent("fork")
        for puts, takes, who in (
            (forked.child, forked.parent, "the parent, of what its child put,"),
            (forked.parent, forked.child, "the child, of what its parent put,"),
        ):
            message = real.message(queue=queue)
            puts("enqueue", message, None)
            takes("settle", forked.taken(takes("reserve", queue), message, who), COMMIT)
        _each_holds_one(real, forked)
        _both_at_once(real, forked)
        forked.leave()
        try:
            forked.parent("extend", number)
            forked.parent("settle", number, COMMIT)
        except (LeaseLost, Violation):
            if time.monotonic() < lease_ends:  # else the machine was busy
                raise
        else:
            real.nothing(real.consumer(held.queue), "what a process held over the end of its child is done")


def _each_holds_one(real: Bench, forked: _Forked) -> None:
    """Let both reserve, and each settle its own: what tells their deliveries apart differs."""
    queue = real.queue_named("each")
    mine, other = real.put(queue=queue), real.put(queue=queue)
    number = forked.taken(forked.parent("reserve", queue), mine, "the parent")
    theirs = forked.taken(forked.child("reserve", queue), other, "the child")
    forked.child("settle", theirs, COMMIT)
    forked.parent("settle", number, COMMIT)
    # Not only what is ready: what was settled in place of another is held by nobody until its lease ends.
    real.equal(real.stats(queue).total, 0, "jobs left, of which parent and child have settled one each")


def _both_at_once(real: Bench, forked: _Forked) -> None:
    batches = [[real.message(queue=real.queue_named(who)) for _ in range(_AT_ONCE)] for who in ("own", "its")]
    forked.begin("work", batches[1])
    for done, batch, who in (
        (forked.parent("work", batches[0]), batches[0], "the parent"),
        (forked.end("work"), batches[1], "the child"),
    ):
        expected = [real.label(message.body) for message in batch]
        came = [real.label(body) for body in done]
        real.equal(came, expected, f"what {who} put and took, beside the other")


@case(
    "reserve.wakes_across_a_fork",
    "S9",
    needs=(FORKS, BLOCKING_RESERVE, SHARED_REACH),
    real_time=True,
    why="In a forked child the thread that listens is gone; and the mark by which a process knows its own"
    " news is the same in both, so that neither hears the other.",
)
def wakes_across_a_fork(bench: Bench) -> None:
    with bench.in_real_time() as real, _forked(real) as forked:
        forked.parent("fork")

        def tried() -> float:
            late: list[float] = []
            for who in ("the forked child", "a process that has forked"):
                message = real.message(queue=real.queue_named(f"wait{len(late)}"))
                late.append(_waited(real, forked, who, message))
            return max(late)

        soon_enough(real, tried)
        forked.leave()


def _waited(real: Bench, forked: _Forked, who: str, message: Message) -> float:
    """Let one of them wait, and the other enqueue; return how late the job was seen, in seconds."""
    if who == "the forked child":
        forked.begin("wait_for", message.queue, LONG)
        put = forked.parent("enqueue_later", message, FALLS_ASLEEP)
        found = forked.end("wait_for")
    else:
        forked.begin("enqueue_later", message, FALLS_ASLEEP)
        found = forked.parent("wait_for", message.queue, LONG)
        put = forked.end("enqueue_later")
    if found is None:
        real.broken(f"{who} waited for {real.label(message.body)}, and did not see it")
    came, body = found
    real.equal(real.label(body), real.label(message.body), f"the job that {who} waited for")
    return float(came - put)

"""A worker that is killed at a step of a job's way, and the next one in its place; run as a program.

    python killed.py URL SEED STEP...

Each worker is a process of its own, forked from this one, which opens nothing itself. The first ones kill
themselves at the steps that are named, one each; later ones at steps that the seed chooses, or they are
killed at any time. Once there is a file `peace`, nobody is killed any more. All write one journal, a line a
write, which a kill cannot cut in two. The steps that exist are what `reached` is called with.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kessel_core import Config, Fatal, JobContext, JobManager, JobsConfig, Outcome, build_plugins, hookimpl
from kessel_core.contract import Consumer, Message, QueueAdapter, Reservation, Settlement
from kessel_core.wire.requests import decode

QUEUES = ("jobs", "callbacks", "follow-ups")
ANY_TIME = "any time"


class KillPoint:
    """Where this process kills itself."""

    def __init__(self) -> None:
        self.journal = os.open("journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        #: The step, and how many times it is still to be reached.
        self.step, self.left = "", 0
        #: What a thread is calling: only what belongs to a job's way counts, not what other threads do.
        self.calling = threading.local()

    def say(self, *words: object) -> None:
        """Write one line."""
        os.write(self.journal, ("\t".join(map(str, words)) + "\n").encode())

    def reached(self, step: str) -> None:
        """Die, if this is the step."""
        if step == self.step:
            self.left -= 1
            if self.left <= 0 and not is_peace():
                self.say("died", step)
                os.kill(os.getpid(), signal.SIGKILL)

    def inside(self, word: str) -> None:
        """Die, if this command or statement of the call is the step."""
        if (call := getattr(self.calling, "name", "")) != "":
            self.reached(f"{word} in {call}")

    @contextlib.contextmanager
    def during(self, call: str) -> Iterator[None]:
        """Call something that may call itself again."""
        before = getattr(self.calling, "name", "")
        self.calling.name = call
        try:
            yield
        finally:
            self.calling.name = before


def is_peace() -> bool:
    return Path("peace").exists()


point = KillPoint()
say, reached, during = point.say, point.reached, point.during


# --- steps around the calls of the contract ------------------------------------------------------------


def stepwise(consumer: Consumer) -> Consumer:
    """Put steps around the calls of a consumer."""
    reserve, settle, settle_and_reserve = consumer.reserve, consumer.settle, consumer.settle_and_reserve

    def taken(found: Reservation | None) -> Reservation | None:
        if found is not None:
            reached(f"reserved {decode(found.body).type}")
        return found

    def reserving(timeout: Any) -> Reservation | None:
        with during("reserve"):
            found = reserve(timeout)
        return taken(found)

    def settling(call: Callable[..., Any], held: Reservation, settlement: Settlement) -> Reservation | None:
        what = f"settle {decode(held.body).type}"
        reached(f"before {what}")
        with during(what):
            found = call(held, settlement)
        reached(f"after {what}")
        return taken(found)

    changed: Any = consumer
    changed.reserve = reserving
    changed.settle = lambda held, settlement: settling(settle, held, settlement)
    changed.settle_and_reserve = lambda held, settlement: settling(settle_and_reserve, held, settlement)
    return consumer


def put_steps_into(adapter: QueueAdapter) -> None:
    consumer, enqueue = adapter.consumer, adapter.enqueue

    def enqueued(message: Message) -> None:
        what = f"put {decode(message.body).type}"
        reached(f"before {what}")
        with during(what):
            enqueue(message)
        reached(f"after {what}")

    changed: Any = adapter
    changed.consumer = lambda queues: stepwise(consumer(queues))
    changed.enqueue = enqueued


# --- steps inside of them ------------------------------------------------------------------------------


def count_statements() -> None:
    """Make a step before each statement on SQLite."""
    connect = sqlite3.connect

    def traced(*arguments: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **named)
        connection.set_trace_callback(lambda statement: point.inside(statement.split(None, 1)[0]))
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]  # in this process only


def count_commands() -> None:
    """Make a step of each command to beanstalkd: it is sent, and its reply not read."""
    from kessel_beanstalk.connection import Connection

    send = Connection.send

    def sent(self: Connection, *asked: Any) -> None:
        send(self, *asked)
        for command in asked:
            point.inside(command.line.split(None, 1)[0].decode())

    Connection.send = sent  # type: ignore[method-assign]  # in this process only


def count_calls() -> None:
    """Make steps of what is sent to PostgreSQL: each call of a transaction, its end, and all answers."""
    from kessel_postgres.link import Link

    send, flush, answers = Link._send, Link._flush, Link._answers

    def sent(self: Link, call: Any) -> None:
        send(self, call)
        self.pgconn.flush()  # what comes before a death has reached the server
        point.inside(call.statement.name.decode().removeprefix("kessel_"))

    def flushed(self: Link, end: float) -> None:
        flush(self, end)
        point.inside("end")

    def answered(self: Link, syncs: int, end: float) -> Any:
        found = answers(self, syncs, end)
        point.inside("answer")
        return found

    changed: Any = Link
    changed._send, changed._flush, changed._answers = sent, flushed, answered


def count_halves() -> None:
    """Make steps of what is sent to Redis: one half of a command, all of it, and the answer."""
    from kessel_redis.link import Link

    send, read = Link.send, Link.read

    def sent(self: Link, commands: bytes) -> None:
        send(self, commands[: len(commands) // 2])
        point.inside("half")
        send(self, commands[len(commands) // 2 :])
        point.inside("end")

    def answered(self: Link) -> Any:
        found = read(self)
        point.inside("answer")
        return found

    changed: Any = Link
    changed.send, changed.read = sent, answered


#: Of each adapter, by the scheme of its address: how steps get into its calls.
COUNTERS: dict[str, Callable[[], None]] = {
    "sqlite": count_statements,
    "beanstalk": count_commands,
    "postgresql": count_calls,
    "redis": count_halves,
}


# --- the worker ----------------------------------------------------------------------------------------


class Steps:
    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job: JobContext) -> Any:
        reached(f"before handler {job.type}")
        result = yield
        reached(f"after handler {job.type}")
        return result

    @hookimpl
    def kessel_job_settled(self, result: Any) -> None:
        say("settled", result.id)


def work(payload: object, job: JobContext) -> object:
    say("run", job.id, "work")
    job.follow_up("follow", job.id, queue="follow-ups", priority=50)
    reached("asked work")
    return payload


def wrong(payload: object, job: JobContext) -> None:
    say("run", job.id, "wrong")
    raise Fatal("wrong")


def told(outcome: Outcome, job: JobContext) -> None:
    say("run", job.id, "told", outcome.id, outcome.status, outcome.value)


def follow(payload: object, job: JobContext) -> None:
    say("run", job.id, "follow", payload)


def opened(url: str) -> JobManager:
    config = Config(jobs=JobsConfig(max_attempts=1000), queues=QUEUES)
    handlers = {"work": work, "wrong": wrong, "told": told, "follow": follow}
    return JobManager(url, handlers=handlers, config=config, plugins=build_plugins(extra={"steps": Steps()}))


def run_worker(url: str) -> None:
    with opened(url) as manager:
        put_steps_into(manager.adapter)
        manager.worker(slots=1).run()


def replace_for_ever(url: str, chance: random.Random, steps: list[str]) -> None:
    """Run one worker after the other; returns only if one ends without having been killed."""
    for number in itertools.count():
        step = steps[number] if number < len(steps) else chance.choice([*steps, ANY_TIME, ANY_TIME])
        # A worker that is busy takes the next job with each settle, so it calls `reserve` once.
        left = 1 if step.endswith("in reserve") else chance.randint(1, 2)
        moment = chance.uniform(0.0, 0.2)
        child = os.fork()
        if child == 0:
            point.step, point.left = step, left
            try:
                run_worker(url)
            finally:
                os._exit(1)
        if step == ANY_TIME:
            time.sleep(moment)
            if not is_peace():
                say("died", step)
                os.kill(child, signal.SIGKILL)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            return


if __name__ == "__main__":
    address, seed, *wanted = sys.argv[1:]
    with opened("memory://"):
        pass  # imports most of what workers need, once
    scheme = address.partition(":")[0]
    importlib.import_module(f"kessel_{scheme.removesuffix('ql')}.adapter")  # once, not in each worker
    COUNTERS[scheme]()
    replace_for_ever(address, random.Random(seed), wanted)
    sys.exit("a worker ended by itself")

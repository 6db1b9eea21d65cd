"""What the benchmarks of several adapters do alike: rounds in turn, slots that drain, wait and are late.

A figure here is the best of its rounds: what else runs on a machine only ever makes a round slower.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, TypeVar

from bench_core import resident_megabytes

from kessel_core.contract import COMMIT, NO_PAUSE, QueueAdapter

__all__ = [
    "Comparison",
    "Figure",
    "Side",
    "Waiting",
    "apart",
    "arguments",
    "beside_peers",
    "drain",
    "each",
    "in_turn",
    "judged",
    "late",
    "rate",
    "show",
    "waiting",
]

Name = TypeVar("Name", bound=Hashable)
T = TypeVar("T")


def arguments(text: str | None, peers: str) -> argparse.ArgumentParser:
    """Return a parser of what the benchmark of a server is asked for; `peers` is what else is measured."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20, help="how long to watch slots that wait")
    parser.add_argument("--peers", metavar="PYTHON", help=peers)
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    return parser


class Comparison(NamedTuple):
    """A figure and its target."""

    what: str
    figure: float
    target: float
    is_most: bool = True

    @property
    def is_met(self) -> bool:
        """Whether the figure is on the right side of its target."""
        return self.figure <= self.target if self.is_most else self.figure >= self.target

    def __str__(self) -> str:
        bound = "at most" if self.is_most else "at least"
        return (
            f"{'met' if self.is_met else 'MISSED':7}{self.what}: {self.figure:.2f} ({bound} {self.target:g})"
        )


#: Where many slots share a round, it has so many times the jobs: a hundred for each of 200 slots. With twenty
#: for each, a tenth of all calls would be the first and the last of a slot, which end no job.
TIMES = 5


class Side(NamedTuple):
    """One of the things that are compared."""

    #: Does the jobs of a round.
    work: Callable[[], object]
    #: Called before each round, and not measured.
    fill: Callable[[], object] = bool
    #: How many threads do `work` at the same time.
    threads: int = 1
    #: How many jobs a round of it has; None: as many as the others.
    jobs: int | None = None


class Figure(NamedTuple):
    """What a side reached."""

    #: Jobs per second.
    rate: float
    #: CPU time of this process, in microseconds a job.
    own: float
    #: The same of the server; zero where there is none, or where it cannot be told.
    server: float

    def __str__(self) -> str:
        text = f"{self.rate:10,.0f}/s, CPU time {self.own:6.1f} us"
        return f"{text}, of the server {self.server:6.1f} us" if self.server else text


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many of `count` are done in a second."""
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def in_turn(
    sides: Mapping[Name, Side], jobs: int, rounds: int, server: int | None = None
) -> dict[Name, Figure]:
    """Let the sides take turns for some rounds; return the best of each, after a round that warms up.

    Args:
        sides: By name.
        jobs: How many a round of each has that does not say so itself.
        rounds: How often.
        server: The process whose CPU time counts, with its children.
    """
    found: dict[Name, list[Figure]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            side.fill()
            found[name].append(_reached(side, side.jobs or jobs, server))
    return {
        name: Figure(
            max(one.rate for one in each[1:]),
            min(one.own for one in each[1:]),
            min(one.server for one in each[1:]),
        )
        for name, each in found.items()
    }


def _reached(side: Side, jobs: int, server: int | None) -> Figure:
    """Run one round; to make its threads is not part of it."""
    begin = threading.Event()

    def work() -> None:
        begin.wait()
        side.work()

    threads = [threading.Thread(target=work) for _ in range(side.threads)]
    for thread in threads:
        thread.start()

    def run() -> None:
        begin.set()
        for thread in threads:
            thread.join()

    used, served = time.process_time(), _seconds_of(server)
    reached = rate(jobs, run)
    used, served = time.process_time() - used, _seconds_of(server) - served
    return Figure(reached, used / jobs * 1e6, served / jobs * 1e6)


def _family(pid: int) -> list[int]:
    """Return a process and its children, as far as the system tells."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *map(int, children.read_text().split() if children.exists() else ())]


def _seconds_of(server: int | None) -> float:
    """Return the CPU time of a server so far; Linux tells it to the nanosecond."""
    used = 0
    for pid in _family(server) if server is not None else ():
        with suppress(OSError):  # a child may have ended
            used += int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    return used / 1e9


def each(call: Callable[[T], object], values: Sequence[T]) -> None:
    """Call with one value after the other."""
    for value in values:
        call(value)


def drain(adapter: QueueAdapter, queue: str = "q") -> None:
    """Take and commit what is ready, as one slot does."""
    consumer = adapter.consumer([queue])
    held = consumer.reserve(NO_PAUSE)
    while held is not None:
        held = consumer.settle_and_reserve(held, COMMIT)
    consumer.close()


def apart(pid: int) -> None:
    """Give a server, and the processes that it has, the first processor, and this process the others.

    Where they share one, a round trip costs a fraction, and what is compared is the scheduler.
    """
    if not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2:
        return
    for one in _family(pid):
        os.sched_setaffinity(one, {0})
    os.sched_setaffinity(0, set(range(1, os.cpu_count() or 1)))


_PRODUCER = """
import sys, time
from kessel_core import JobManager
from kessel_core.contract import Message
with JobManager(sys.argv[1], only_requests=True) as manager:
    for number in range(int(sys.argv[2])):
        time.sleep(0.005)
        manager.adapter.enqueue(Message(f"late{number}", "late", b"%.6f" % time.time(), 1))
"""


def late(adapter: QueueAdapter, address: str, count: int = 500) -> tuple[float, float]:
    """Return how late a job of another process comes to a slot that waits, in milliseconds: p50 and p99."""
    spans = []
    consumer = adapter.consumer(["late"])
    consumer.reserve(timedelta(seconds=0.1))
    with subprocess.Popen([sys.executable, "-c", _PRODUCER, address, str(count)]):
        for _ in range(count):
            held = consumer.reserve(timedelta(seconds=20))
            assert held is not None
            spans.append(time.time() - float(held.body))
            consumer.settle(held, COMMIT)
    consumer.close()
    spans.sort()
    return spans[count // 2] * 1000, spans[int(count * 0.99)] * 1000


_WORKER = """
import json, sys, time
from kessel_core import JobManager
with JobManager(sys.argv[1], handlers={"noop": print}) as manager:
    manager.start(slots=int(sys.argv[2]))
    time.sleep(2)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.process_time()
    time.sleep(float(sys.argv[3]))
    used = time.process_time() - begun
    pool = manager.adapter.database.pool
    print(json.dumps([pool.count + 1, used]), flush=True)
    sys.stdin.readline()
"""


class Waiting(NamedTuple):
    """What a worker process costs whose slots all wait."""

    #: To the server, that of the listener included.
    connections: int
    megabytes: float
    #: In percent of a core.
    share: float
    #: What the server was asked meanwhile.
    commands: int

    def __str__(self) -> str:
        return (
            f"{self.connections} connections, {self.megabytes:.0f} MB, {self.share:.3f} % of a core,"
            f" {self.commands} commands"
        )


def waiting(address: str, slots: int, seconds: float, commands: Callable[[], int]) -> Waiting:
    """Watch a worker process with slots that wait for jobs which do not come.

    Args:
        address: Of its queue.
        slots: How many.
        seconds: How long to watch.
        commands: Returns how many commands the server has done so far, those of `commands` left out.
    """
    command = [sys.executable, "-c", _WORKER, address, str(slots), str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        before = commands()
        print(flush=True, file=child.stdin)
        line = child.stdout.readline()
        asked = commands() - before
        connections, used = json.loads(line)
        size = resident_megabytes(child.pid)
        print(flush=True, file=child.stdin)
    return Waiting(connections, size, used / seconds * 100, asked)


def show(figures: Mapping[str, object]) -> None:
    """Print figures by name."""
    for name, figure in figures.items():
        print(f"  {name:26} {figure}")


def judged(comparisons: Sequence[Comparison]) -> bool:
    """Print comparisons; return whether all targets are met."""
    print(*(f"  {one}" for one in comparisons), sep="\n")
    return all(one.is_met for one in comparisons)


def beside_peers(python: str, names: Sequence[str], address: str, jobs: int, rounds: int) -> None:
    """Let kessel and other frameworks take turns on one server; print the best of each, see `peers.py`.

    Args:
        python: An interpreter that has them.
        names: Of the frameworks.
        address: Of the server.
        jobs: How many are requested one by one, and as many at once.
        rounds: How often.
    """
    script = str(Path(__file__).with_name("peers.py"))
    for slots in (1, 8):
        best: dict[str, dict[str, float]] = {}
        for _ in range(rounds):
            for name in ("kessel", *names):
                program = sys.executable if name == "kessel" else python
                command = [program, script, name, address, str(jobs), str(slots)]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                for what, figure in (json.loads(done.stdout) or {}).items():
                    choose = min if what == "p50" else max
                    kept = best.setdefault(name, {})
                    kept[what] = choose(kept.get(what, figure), figure)
        for name, found in best.items():
            text = ", ".join(
                f"{what} {figure:.2f} ms" if what == "p50" else f"{what} {figure:,.0f}/s"
                for what, figure in found.items()
            )
            print(f"  {name + ',':14} {slots} slot{'s' * (slots > 1)}: {text}")

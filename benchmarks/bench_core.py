"""Measure the core and the in-memory adapter, each figure next to its floor from the same run.

Usage: python benchmarks/bench_core.py [--quick] [--json]

Rounds take turns (floor, kessel, floor, kessel, ...), figures are medians over the rounds. The set-up
is that of the targets: middleware `logging` (level warning), one slot, a handler that does nothing.
"""

from __future__ import annotations

import argparse
import gc
import heapq
import itertools
import json
import logging
import multiprocessing
import os
import platform
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import attrs

from kessel_core import JobManager, JobRequest, JsonValue

US = 1e6
MS = 1e3
#: Jobs per call of `request_many` when a queue is filled; limits the memory that this needs.
CHUNK = 20_000


@attrs.frozen(kw_only=True)
class Figure:
    """One line of the table."""

    #: What was measured.
    what: str
    #: Unit of both figures.
    unit: str
    #: The figure of the floor.
    floor: float
    #: The figure of kessel.
    kessel: float
    #: What the floor is.
    floor_is: str
    #: Largest allowed value of `compared`; None: no target.
    target: float | None = None
    #: The number that the target is about, if it is not `kessel` itself.
    compared: float | None = None
    #: The target in words.
    target_is: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None: there is none."""
        if self.target is None:
            return None
        return (self.kessel if self.compared is None else self.compared) <= self.target


# --- an application with one handler that does nothing --------------------------------------


class Counter:
    """The handler: counts jobs, and records when the last one of a run started."""

    def __init__(self) -> None:
        self.left = 0
        self.done = threading.Event()
        self.started = 0.0

    def handle(self, payload: JsonValue) -> None:
        """Count one job."""
        self.started = time.perf_counter()
        self.left -= 1
        if self.left == 0:
            self.done.set()

    def expect(self, jobs: int) -> None:
        """Let `done` be set after this many jobs."""
        self.done.clear()
        self.left = jobs


@contextmanager
def application() -> Iterator[tuple[JobManager, Counter]]:
    """Open a manager on a fresh in-memory queue."""
    counter = Counter()
    with JobManager("memory://", handlers={"noop": counter}, middleware=("logging",)) as manager:
        yield manager, counter


def request_all(manager: JobManager, jobs: int) -> float:
    """Return the seconds per request."""
    request = manager.request
    gc.collect()
    begin = time.perf_counter()
    for _ in range(jobs):
        request("noop", {"operands": [1, 2]})
    return (time.perf_counter() - begin) / jobs


def drain_all(manager: JobManager, counter: Counter, jobs: int) -> float:
    """Return the seconds per job, for `jobs` that are ready before all others."""
    counter.expect(jobs)
    gc.collect()
    begin = time.perf_counter()
    # Not `drain`: of a million waiting jobs only these are to be measured.
    manager.start(slots=1)
    counter.done.wait(600)
    seconds = (time.perf_counter() - begin) / jobs
    manager.stop()
    return seconds


def fill(manager: JobManager, jobs: int, *, delayed: bool) -> None:
    """Store jobs that come after the measured ones: delayed by a day, or of the lowest priority."""
    behind = (
        JobRequest(type="noop", delay=timedelta(days=1))
        if delayed
        else JobRequest(type="noop", priority=2**32 - 1)
    )
    rest = jobs
    while rest > 0:
        manager.request_many(itertools.repeat(behind, min(CHUNK, rest)))
        rest -= CHUNK


# --- floors -------------------------------------------------------------------------------------


def heap_floor(jobs: int) -> tuple[float, float]:
    """Return the seconds per push and per pop of a heap with a lock."""
    heap: list[tuple[int, int, dict[str, list[int]]]] = []
    lock = threading.Lock()
    gc.collect()
    begin = time.perf_counter()
    for number in range(jobs):
        with lock:
            heapq.heappush(heap, (65536, number, {"operands": [1, 2]}))
    middle = time.perf_counter()
    for _ in range(jobs):
        with lock:
            heapq.heappop(heap)
    return (middle - begin) / jobs, (time.perf_counter() - middle) / jobs


def queue_latencies(jobs: int) -> list[float]:
    """Return the seconds from put to get of a bare queue between two threads."""
    line: queue.SimpleQueue[bool] = queue.SimpleQueue()
    taken = threading.Event()
    times = [0.0]

    def take() -> None:
        while line.get():
            times[0] = time.perf_counter()
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    found = []
    for _ in range(jobs):
        taken.clear()
        begin = time.perf_counter()
        line.put(True)
        taken.wait(10)
        found.append(times[0] - begin)
        time.sleep(0.0005)  # until the other thread sleeps again, as an idle worker does
    line.put(False)
    thread.join()
    return found


def job_latencies(manager: JobManager, counter: Counter, jobs: int) -> list[float]:
    """Return the seconds from the call of `request` to the start of the handler, in an idle worker."""
    found = []
    manager.start(slots=1)
    for _ in range(jobs):
        counter.expect(1)
        begin = time.perf_counter()
        manager.request("noop")
        counter.done.wait(10)
        found.append(counter.started - begin)
        time.sleep(0.0005)
    manager.stop()
    return found


# --- figures ------------------------------------------------------------------------------------


def serve(pipe: Connection, jobs: int, many: int, kind: str) -> None:
    """Measure when the parent asks, in a process with a queue of its own.

    Each queue has its own process, because a million objects in one queue would slow down garbage
    collection for the others.
    """
    logging.getLogger("kessel").setLevel(logging.WARNING)
    with application() as (manager, counter):
        if kind != "alone":
            fill(manager, many, delayed=kind == "delayed")
        pipe.send("ready")
        while pipe.recv():
            pipe.send((request_all(manager, jobs), drain_all(manager, counter, jobs)))


def throughput(rounds: int, jobs: int, many: int) -> list[Figure]:
    """Measure requests and drained jobs, in an empty queue and in one with `many` other jobs."""
    kinds = ("alone", "waiting", "delayed")
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    children = []
    for kind in kinds:
        pipes[kind], theirs = context.Pipe()
        child = context.Process(target=serve, args=(theirs, jobs, many, kind), daemon=True)
        child.start()
        children.append(child)
    for pipe in pipes.values():
        pipe.recv()
    pushes, pops = [], []
    requests: dict[str, list[float]] = {kind: [] for kind in kinds}
    drains: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        push, pop = heap_floor(jobs)
        for kind, pipe in pipes.items():
            pipe.send(True)
            asked, drained = pipe.recv()
            if number:  # the first round warms up
                requests[kind].append(asked)
                drains[kind].append(drained)
        if number:
            pushes.append(push)
            pops.append(pop)
    for pipe in pipes.values():
        pipe.send(False)
    for child in children:
        child.join(30)
    put, pull = (statistics.median(side) * US for side in (pushes, pops))
    ask = {kind: statistics.median(values) * US for kind, values in requests.items()}
    drain = {kind: statistics.median(values) * US for kind, values in drains.items()}
    heap = "heapq and a lock"
    figures = [
        Figure(
            what="request",
            unit="us",
            floor=put,
            kessel=ask["alone"],
            floor_is=heap,
            target=20,
            target_is="at most 20 us",
        ),
        Figure(
            what="drain a job",
            unit="us",
            floor=pull,
            kessel=drain["alone"],
            floor_is=heap,
            target=30,
            target_is="at most 30 us",
        ),
    ]
    for kind in kinds[1:]:
        for what, values in (("request", ask), ("drain a job", drain)):
            figures.append(
                Figure(
                    what=f"{what}, {many:,} others {kind}",
                    unit="us",
                    floor=values["alone"],
                    kessel=values[kind],
                    floor_is="the same in an empty queue",
                    target=1.5,
                    compared=values[kind] / values["alone"],
                    target_is="at most 1.5x of its floor",
                )
            )
    figures += [
        Figure(what="requests a second", unit="1/s", floor=US / put, kessel=US / ask["alone"], floor_is=heap),
        Figure(
            what="drained jobs a second",
            unit="1/s",
            floor=US / pull,
            kessel=US / drain["alone"],
            floor_is=heap,
        ),
    ]
    return figures


def latency(rounds: int, jobs: int) -> list[Figure]:
    """Measure the time from a request to the start of its handler."""
    floors: list[list[float]] = []
    ours: list[list[float]] = []
    with application() as (manager, counter):
        job_latencies(manager, counter, jobs // 10)
        for _ in range(rounds):
            floors.append(queue_latencies(jobs))
            ours.append(job_latencies(manager, counter, jobs))

    def at(percent: int, found: list[list[float]]) -> float:
        return statistics.median(statistics.quantiles(one, n=100)[percent - 1] for one in found) * MS

    bare = "bare queue, two threads"
    what = "request to handler"
    return [
        Figure(
            what=f"{what}, p50",
            unit="ms",
            floor=at(50, floors),
            kessel=at(50, ours),
            floor_is=bare,
            target=0.2,
            target_is="under 0.2 ms",
        ),
        Figure(
            what=f"{what}, p99",
            unit="ms",
            floor=at(99, floors),
            kessel=at(99, ours),
            floor_is=bare,
        ),
    ]


def child_environment() -> dict[str, str]:
    """Return an environment in which child processes use compiled modules, as installed programs do."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def seconds_of(*command: str) -> float:
    """Return how long a program runs, in seconds."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=child_environment())
    return time.perf_counter() - begin


def start_up(rounds: int) -> list[Figure]:
    """Measure imports and the cold start of the command."""
    kessel = str(Path(sys.executable).with_name("kessel"))
    programs = {
        "bare": (sys.executable, "-c", "pass"),
        "needs": (sys.executable, "-c", "import pluggy, attrs, cattrs, importlib.metadata"),
        "core": (sys.executable, "-c", "import kessel_core"),
        "help": (kessel, "--help"),
    }
    found: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, command in programs.items():
            seconds = seconds_of(*command)
            if number:  # the first round compiles
                found[name].append(seconds)
    median = {name: statistics.median(values) * MS for name, values in found.items()}
    needs, core = median["needs"] - median["bare"], median["core"] - median["bare"]
    return [
        Figure(
            what="import kessel_core, without the interpreter",
            unit="ms",
            floor=needs,
            kessel=core,
            floor_is="pluggy, attrs, cattrs, importlib.metadata",
            target=1.2,
            compared=core / needs,
            target_is="at most 1.2x of its floor",
        ),
        Figure(
            what="kessel --help",
            unit="ms",
            floor=median["bare"],
            kessel=median["help"],
            floor_is="bare interpreter",
            target=250,
            target_is="under 250 ms",
        ),
    ]


#: A worker on the in-memory queue, which must be in the process that requests.
WORKER = """
import logging, threading
from kessel_core import JobManager
logging.getLogger("kessel").setLevel(logging.WARNING)
with JobManager("memory://", handlers={"noop": print}) as manager:
    manager.start(slots=1)
    threading.Event().wait()
"""


def idle(seconds: float) -> list[Figure]:
    """Measure the memory and CPU time of idle worker processes."""
    kessel = str(Path(sys.executable).with_name("kessel"))
    command = [kessel, "worker", "--adapter", "sqlite:///idle.db", "--slots", "1", "--log-level", "warning"]
    asleep = observed([sys.executable, "-c", "import time; time.sleep(600)"], seconds)
    workers = {
        "idle worker (memory)": observed([sys.executable, "-c", WORKER], seconds),
        "idle kessel worker (sqlite)": observed(command, seconds),
    }
    bare = "bare interpreter, asleep"
    figures = []
    for what, (memory, used) in workers.items():
        size = Figure(
            what=f"{what}, resident memory",
            unit="MB",
            floor=asleep[0],
            kessel=memory,
            floor_is=bare,
            target=32,
            target_is="under 32 MB",
        )
        time_used = Figure(
            what=f"{what}, of one core",
            unit="%",
            floor=asleep[1],
            kessel=used,
            floor_is=bare,
            target=1,
            target_is="under 1 %",
        )
        figures += [size, time_used]
    return figures


def observed(command: list[str], seconds: float) -> tuple[float, float]:
    """Run an idle program; return its resident megabytes, and its CPU time in percent of a core."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=child_environment()
        )
        try:
            time.sleep(2)  # to start
            if process.poll() is not None:
                output.seek(0)
                raise SystemExit(f"{command[0]} ended: {output.read().decode()}")
            before = processor_seconds(process.pid)
            time.sleep(seconds)
            used = (processor_seconds(process.pid) - before) / seconds * 100
            return resident_megabytes(process.pid), used
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def processor_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far, in seconds."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    text = subprocess.run(
        ["ps", "-o", "time=", "-p", str(pid)], check=True, capture_output=True, text=True
    ).stdout
    seconds = 0.0
    for part in text.strip().split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process, in 10**6 bytes."""
    text = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], check=True, capture_output=True, text=True
    ).stdout
    return int(text) * 1024 / 1e6


# --- output -------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Format a figure with about three significant digits."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def show(figures: list[Figure]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    core, python = version("kessel-core"), platform.python_version()
    table = Table(title=f"kessel-core {core}, CPython {python}, {os.cpu_count()} cores")
    table.add_column("what")
    for title in ("floor", "kessel", "ratio", ""):
        table.add_column(title, justify="right")
    table.add_column("the floor is")
    table.add_column("target")
    marks = {None: "", True: "met: ", False: "MISSED: "}
    for one in figures:
        ratio = f"{one.kessel / one.floor:.2f}x" if one.floor else ""
        row = (
            one.what,
            number(one.floor),
            number(one.kessel),
            ratio,
            one.unit,
            one.floor_is,
            marks[one.met] + one.target_is,
        )
        table.add_row(*row)
    # A fixed width, so that nothing is cut if the output is not a terminal.
    Console(width=None if sys.stdout.isatty() else 170).print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything; figures are rough")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    scale = 10 if arguments.quick else 1
    rounds = 3 if arguments.quick else 7
    logging.getLogger("kessel").setLevel(logging.WARNING)

    steps: list[tuple[str, Callable[[], list[Figure]]]] = [
        ("throughput", lambda: throughput(rounds, 20_000 // scale, 1_000_000 // scale)),
        ("latency", lambda: latency(rounds, 2_000 // scale)),
        ("start-up", lambda: start_up(15 if scale == 1 else 5)),
        ("idle worker", lambda: idle(10.0 / scale)),
    ]
    figures: list[Figure] = []
    for name, step in steps:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        figures += step()
    if arguments.json:
        print(json.dumps([{**attrs.asdict(figure), "met": figure.met} for figure in figures], indent=2))
    else:
        show(figures)


if __name__ == "__main__":
    main()

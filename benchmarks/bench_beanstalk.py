"""Compare kessel over beanstalkd with bare greenstalk, on two cores and sharing one.

Usage: python benchmarks/bench_beanstalk.py [--jobs N] [--rounds N] [--seconds N] [--check]

A real beanstalkd on loopback. Client and server are pinned to cores, because the cost of a round trip
depends on where they run. Rounds take turns (bare, kessel, bare, ...); figures are medians: jobs per second,
the latency from a request to the start of its handler, and the cost of a worker with many idle slots.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import greenstalk
from bench_core import observed
from kessel_beanstalk.testing import Beanstalkd
from measuring import Comparison

from kessel_core import JobManager, JobRequest
from kessel_core.contract import COMMIT

#: Name -> jobs per second and own CPU time in us per job, or p50 and p99 in milliseconds.
Figures = dict[str, tuple[float, float]]


def _noop(payload: object) -> None:
    del payload


def measured(server: Beanstalkd, jobs: int, rounds: int) -> Figures:
    """Return the figures by name: jobs per second, and own CPU time in us per job."""
    found: dict[str, list[tuple[float, float]]] = {}

    def note(name: str, work: Callable[[], object]) -> None:
        started, used = time.perf_counter(), time.process_time()
        work()
        spent = time.perf_counter() - started
        found.setdefault(name, []).append((jobs / spent, (time.process_time() - used) / jobs * 1e6))

    url = f"beanstalk://127.0.0.1:{server.port}"
    with (
        greenstalk.Client(("127.0.0.1", server.port), encoding=None, use="bare", watch=["bare"]) as bare,
        JobManager(url, handlers={"noop": _noop}) as manager,
    ):
        body = b'{"v":1,"id":"01a211f5-9b6e-7eb4-b99d-b2c266e243d2","type":"noop","priority":65536}'

        def bare_put() -> None:
            for _ in range(jobs):
                bare.put(body)

        def bare_drain() -> None:
            for _ in range(jobs):
                bare.delete(bare.reserve(0))

        def request() -> None:
            for _ in range(jobs):
                manager.request("noop")

        def adapter_drain() -> None:
            consumer = manager.adapter.consumer(["default"])
            held = consumer.reserve(timedelta(0))
            while held is not None:
                held = consumer.settle_and_reserve(held, COMMIT)
            consumer.close()

        requests = [JobRequest(type="noop") for _ in range(jobs)]
        for _ in range(rounds):
            note("bare put", bare_put)
            note("request", request)
            note("bare reserve+delete", bare_drain)
            note("adapter drain, 1 slot", adapter_drain)
            note("request_many", lambda: manager.request_many(requests))
            note("worker drain, 1 slot", lambda: manager.worker(slots=1, queues=["default"]).drain())
            manager.request_many(requests)
            note("worker drain, 8 slots", lambda: manager.worker(slots=8, queues=["default"]).drain())
    return {
        name: (statistics.median(rate for rate, _ in pairs), statistics.median(cpu for _, cpu in pairs))
        for name, pairs in found.items()
    }


#: The waiting sides: each writes a line with the time at which it got a job.
_BARE_WAITER = """
import os, sys, time, greenstalk
client = greenstalk.Client(("127.0.0.1", int(sys.argv[1])), encoding=None, watch=["bare"])
os.write(1, b"ready\\n")
while True:
    job = client.reserve()
    os.write(1, b"%.9f\\n" % time.perf_counter())
    client.delete(job)
"""
_WORKER = """
import os, sys, time
from kessel_core import JobManager
def noop(payload):
    os.write(1, b"%.9f\\n" % time.perf_counter())
with JobManager(f"beanstalk://127.0.0.1:{sys.argv[1]}", handlers={"noop": noop}) as manager:
    os.write(1, b"ready\\n")
    manager.worker(slots=1, queues=["default"]).run()
"""


class Waiter:
    """A process that waits for jobs, on the same cores; its clock is comparable with that of this process."""

    def __init__(self, script: str, port: int) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", script, str(port)], stdout=subprocess.PIPE)
        self._line()

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the waiting side has ended")
        return line

    def latencies(self, request: Callable[[], object], jobs: int) -> list[float]:
        """Return the milliseconds from each call of `request` to the start of the job."""
        found = []
        for _ in range(jobs):
            time.sleep(0.001)  # until the other side waits again, as an idle worker does
            begin = time.perf_counter()
            request()
            found.append((float(self._line()) - begin) * 1e3)
        return found

    def end(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.communicate()


def latency(port: int, jobs: int, rounds: int) -> Figures:
    """Return p50 and p99 in milliseconds by name; both sides idle before each job."""
    found: dict[str, list[list[float]]] = {"bare put to reserve": [], "request to handler": []}
    with (
        greenstalk.Client(("127.0.0.1", port), encoding=None, use="bare") as bare,
        JobManager(f"beanstalk://127.0.0.1:{port}") as manager,
    ):
        sides: list[tuple[Waiter, Callable[[], object], list[list[float]]]] = [
            (Waiter(_BARE_WAITER, port), lambda: bare.put(b"{}"), found["bare put to reserve"]),
            (Waiter(_WORKER, port), lambda: manager.request("noop"), found["request to handler"]),
        ]
        for number in range(rounds + 1):
            for waiter, request, rounds_of in sides:
                one = waiter.latencies(request, jobs)
                if number:  # the first round warms up
                    rounds_of.append(one)
        for waiter, _, _ in sides:
            waiter.end()

    def at(percent: int, rounds_of: list[list[float]]) -> float:
        return statistics.median(statistics.quantiles(one, n=100)[percent - 1] for one in rounds_of)

    return {name: (at(50, rounds_of), at(99, rounds_of)) for name, rounds_of in found.items()}


def idle(port: int, slots: int, seconds: float) -> tuple[float, float]:
    """Return the megabytes and the percentage of a core of a worker process whose slots all wait."""
    kessel = str(Path(sys.executable).with_name("kessel"))
    url = f"beanstalk://127.0.0.1:{port}"
    command = [kessel, "worker", "--adapter", url, "--slots", str(slots), "--log-level", "warning"]
    return observed(command, seconds)


def comparisons(figures: Figures, delays: Figures, request: float, drain: float) -> Iterator[Comparison]:
    """Compare the figures of a placement with its targets."""
    put, loop = figures["bare put"], figures["bare reserve+delete"]
    one, eight = figures["worker drain, 1 slot"], figures["worker drain, 8 slots"]
    yield Comparison("request, of bare put", figures["request"][0] / put[0], request, is_most=False)
    yield Comparison("drain with one slot, of the bare loop", one[0] / loop[0], drain, is_most=False)
    yield Comparison("drain with eight slots, of one slot", eight[0] / one[0], 1, is_most=False)
    yield Comparison("own us per drained job beyond the bare loop", one[1] - loop[1], 25)
    bare, ours = delays["bare put to reserve"], delays["request to handler"]
    yield Comparison("latency p50, of bare", ours[0] / bare[0], 2)
    yield Comparison("latency p99, of bare", ours[1] / bare[1], 3)


def main() -> int:
    """Measure both placements; print the figures, and whether they meet their targets."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--jobs", type=int, default=3000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=40, help="how long to watch the idle worker")
    arguments.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    options = arguments.parse_args()
    logging.disable(logging.INFO)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    verdicts: list[Comparison] = []
    for placement, server_core, request, drain in (
        ("two cores", cores[1:2], 0.7, 1.4),
        ("sharing a core", cores[:1], 0.4, 0.6),
    ):
        if cores and not server_core:
            continue
        server = Beanstalkd()
        server.start()
        try:
            if cores:
                assert server.process is not None
                os.sched_setaffinity(server.process.pid, server_core)
                os.sched_setaffinity(0, cores[:1])
            figures = measured(server, options.jobs, options.rounds)
            delays = latency(server.port, max(200, options.jobs // 5), options.rounds)
        finally:
            server.kill()
        print(f"\n{placement}: jobs/s, own us per job")
        for name, (rate, cpu) in figures.items():
            print(f"  {name:24} {rate:10,.0f}  {cpu:6.1f}")
        print(f"{placement}: latency in ms, p50 and p99")
        for name, (p50, p99) in delays.items():
            print(f"  {name:24} {p50:10.3f}  {p99:6.3f}")
        found = list(comparisons(figures, delays, request, drain))
        if placement == "two cores":
            many = figures["request_many"][0] / figures["bare put"][0]
            found.append(Comparison("request_many, of bare put", many, 4, is_most=False))
        print(*(f"  {one}" for one in found), sep="\n")
        verdicts += found
    if cores:
        os.sched_setaffinity(0, cores)
    server = Beanstalkd()
    server.start()
    try:
        size, share = idle(server.port, 200, options.seconds)
    finally:
        server.kill()
    found = [Comparison("megabytes", size, 80), Comparison("percent of a core", share, 1)]
    print("\n200 idle slots", *(f"  {one}" for one in found), sep="\n")
    return 0 if all(one.is_met for one in verdicts + found) or not options.check else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""kessel over beanstalkd beside bare greenstalk, on two cores and sharing one.

Usage: python benchmarks/bench_beanstalk.py [--jobs N] [--rounds N]

A real beanstalkd on loopback. Client and server are pinned, because where they run decides the cost
of a round trip. Rounds take turns (bare, kessel, bare, ...); figures are medians, in jobs a second.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import time
from collections.abc import Callable
from datetime import timedelta

import greenstalk
from kessel_beanstalk.testing import Beanstalkd

from kessel_core.adapter import COMMIT
from kessel_core.jobs import JobRequest
from kessel_core.manager import JobManager


def _noop(payload: object) -> None:
    del payload


def measured(server: Beanstalkd, jobs: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return figures by name: jobs a second, and own processor time in us a job."""
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

        wishes = [JobRequest(type="noop") for _ in range(jobs)]
        for _ in range(rounds):
            note("bare put", bare_put)
            note("request", request)
            note("bare reserve+delete", bare_drain)
            note("adapter drain, 1 slot", adapter_drain)
            note("request_many", lambda: manager.request_many(wishes))
            note("worker drain, 1 slot", lambda: manager.worker(slots=1, queues=["default"]).drain())
            manager.request_many(wishes)
            note("worker drain, 8 slots", lambda: manager.worker(slots=8, queues=["default"]).drain())
    return {
        name: (statistics.median(rate for rate, _ in pairs), statistics.median(cpu for _, cpu in pairs))
        for name, pairs in found.items()
    }


def main() -> None:
    """Measure both placements and print a table each."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--jobs", type=int, default=3000)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    logging.disable(logging.INFO)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    for placement, server_core in (("two cores", cores[1:2]), ("sharing a core", cores[:1])):
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
        finally:
            server.kill()
        print(f"\n{placement}: jobs/s, ratio to bare, own us a job")
        for name, (rate, cpu) in figures.items():
            floor = figures["bare reserve+delete" if "drain" in name else "bare put"][0]
            print(f"  {name:24} {rate:10,.0f}  {rate / floor:5.2f}x  {cpu:6.1f}")


if __name__ == "__main__":
    main()

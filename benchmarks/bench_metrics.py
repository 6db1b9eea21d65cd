"""Measure what health, metrics and traces cost a job: own time with each beside off, in turns.

Usage: python benchmarks/bench_metrics.py [--quick] [--json]

Memory queue, one slot, a handler that does nothing, middleware `logging` (level warning). Figures are
CPU time of the process for each job, medians over the rounds; every round runs each variant once. Traces are
those of an SDK that exports nothing; what the request costs with them is measured by bench_tracing.py.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider

from kessel_core import Config, JobManager, WorkerConfig, build_plugins
from kessel_core.hooks import PageContext
from kessel_core.plugins.pages import pages_of
from kessel_core.runtime.health_http import HealthServer, ask_all, listening
from kessel_core.runtime.health_pages import WorkerPages

sys.path.insert(0, str(Path(__file__).parent))
from bench_tracing import traced_by  # beside this file

US = 1e6
PROVIDER = TracerProvider(shutdown_on_exit=False)


def drained(jobs: int, *, has_plugin: bool, is_served: bool, provider: object = None) -> float:
    """Return the CPU seconds for each of some jobs that are ready."""
    config = Config(worker=WorkerConfig(health_address="127.0.0.1:0" if is_served else None))
    plugins = build_plugins(disabled=() if has_plugin else ("prometheus",))
    with ExitStack() as stack:
        with traced_by(provider):
            manager = stack.enter_context(
                JobManager(
                    "memory://",
                    handlers={"noop": lambda payload: None},
                    plugins=plugins,
                    config=config,
                    middleware=("logging",) if provider is None else ("otel", "logging"),
                )
            )
        worker = manager.worker(slots=1)
        port = 0
        if is_served:
            context = PageContext(
                adapter="memory",
                queues=worker.queues,
                types=frozenset(manager.registry.types()),
                health=lambda: worker.health(looks=False),
                running=lambda: worker.running,
                stats=manager.adapter.stats,
            )
            pages = WorkerPages(context.health, pages_of(manager.plugins, context))
            listener = listening("127.0.0.1", 0)
            port = listener.getsockname()[1]
            server = HealthServer(listener, pages.answer)
            stack.callback(server.close)
            server.start()
            if has_plugin:
                ask_all({1: port}, "/metrics", 10)  # loads the library, which a scrape does once
        request = manager.request
        for _ in range(jobs):
            request("noop", {"operands": [1, 2]})
        gc.collect()
        begin = time.process_time()
        worker.drain()
        return (time.process_time() - begin) / jobs


VARIANTS: dict[str, Callable[[int], float]] = {
    "off: kessel-prometheus is not installed": lambda jobs: drained(jobs, has_plugin=False, is_served=False),
    "installed, no address": lambda jobs: drained(jobs, has_plugin=True, is_served=False),
    "an address for the health": lambda jobs: drained(jobs, has_plugin=False, is_served=True),
    "an address, and metrics": lambda jobs: drained(jobs, has_plugin=True, is_served=True),
    "an address, metrics and traces": lambda jobs: drained(
        jobs, has_plugin=True, is_served=True, provider=PROVIDER
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few jobs, to see that it works")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    logging.getLogger("kessel").setLevel(logging.WARNING)
    jobs, rounds = (500, 3) if arguments.quick else (5_000, 15)
    found: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, measure in VARIANTS.items():
            found[name].append(measure(jobs) * US)
    medians = {name: statistics.median(values) for name, values in found.items()}
    if arguments.json:
        print(json.dumps(medians, indent=2))
        return
    off = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"{name:42} {value:7.2f} us a job  {value - off:+6.2f} us  {value / off - 1:+6.1%}")


if __name__ == "__main__":
    main()

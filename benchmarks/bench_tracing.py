"""Measure what traces cost a job: off, on without an SDK, on with an SDK that exports nothing.

Usage: python benchmarks/bench_tracing.py [--quick]

Rounds take turns, figures are medians over the rounds; the CPU time of the process, one slot, in memory. The
floor is the same work without kessel: a span, its context written into a dictionary, read from it, and a
second span below the first one with a link to it.
"""

from __future__ import annotations

import argparse
import gc
import logging
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Link, NoOpTracerProvider, SpanKind

from kessel_core import JobManager

sys.path.insert(0, str(Path(__file__).parent))
from bench_core import Counter  # beside this file

US = 1e6
ATTRIBUTES = {f"messaging.{name}": "value" for name in "abcdef"}


@contextmanager
def traced_by(provider: object) -> Iterator[None]:
    """Let the applications that are connected inside trace with a provider of their own; None: as it is."""
    set_before = trace.get_tracer
    if provider is not None:
        trace.get_tracer = provider.get_tracer  # type: ignore[attr-defined]  # one that has it
    try:
        yield
    finally:
        trace.get_tracer = set_before


def jobs_of(provider: object, middleware: tuple[str, ...], count: int) -> tuple[float, float]:
    """Return the microseconds of a request and of its run; None: no traces."""
    counter = Counter()
    with traced_by(provider):
        manager = JobManager("memory://", handlers={"noop": counter}, middleware=middleware).connect()
    counter.expect(count)
    gc.collect()
    begin = time.process_time()
    for _ in range(count):
        manager.request("noop", {"operands": [1, 2]})
    middle = time.process_time()
    manager.worker(slots=1).drain()
    end = time.process_time()
    manager.close()
    return (middle - begin) / count * US, (end - middle) / count * US


def floor(provider: TracerProvider, count: int) -> tuple[float, float]:
    """Return the microseconds of both spans without kessel."""
    tracer = provider.get_tracer("floor")
    carriers = []
    gc.collect()
    begin = time.process_time()
    for _ in range(count):
        carrier: dict[str, str] = {}
        span = tracer.start_span("send", kind=SpanKind.PRODUCER, attributes=ATTRIBUTES)
        propagate.inject(carrier, trace.set_span_in_context(span))
        span.end()
        carriers.append(carrier)
    middle = time.process_time()
    for carrier in carriers:
        context = propagate.extract(carrier)
        links = [Link(trace.get_current_span(context).get_span_context())]
        tracer.start_span("process", context, SpanKind.CONSUMER, ATTRIBUTES, links).end()
    return (middle - begin) / count * US, (time.process_time() - middle) / count * US


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything; figures are rough")
    count, rounds = (500, 3) if parser.parse_args().quick else (5_000, 7)
    logging.getLogger("kessel").setLevel(logging.WARNING)
    sdk = TracerProvider(shutdown_on_exit=False)
    modes: dict[str, Callable[[], tuple[float, float]]] = {
        "off": lambda: jobs_of(None, ("logging",), count),
        "on, without an SDK": lambda: jobs_of(NoOpTracerProvider(), ("otel", "logging"), count),
        "on, an SDK without an exporter": lambda: jobs_of(sdk, ("otel", "logging"), count),
        "floor: both spans alone": lambda: floor(sdk, count),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in modes}
    for _ in range(rounds):
        for name, measure in modes.items():
            found[name].append(measure())
    print(f"{'us a job, own time':32}{'request':>10}{'run':>10}")
    for name, figures in found.items():
        request, run = (statistics.median(one) for one in zip(*figures, strict=True))
        print(f"{name:32}{request:>10.1f}{run:>10.1f}")


if __name__ == "__main__":
    main()

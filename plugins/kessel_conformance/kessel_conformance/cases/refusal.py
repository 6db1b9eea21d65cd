"""What is declared makes sense, and what is not declared is refused by name (S17)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta
from urllib.parse import urlsplit

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_core import CapabilityMissing, EnqueueRejected, InvalidConfig
from kessel_core.contract import JobState, Rollback


@case("capabilities.make_sense", "S17", why="The core plans by these values.")
def make_sense(bench: Bench) -> None:
    declared = bench.adapter.capabilities
    bench.equal(bench.adapter.capabilities, declared, "capabilities asked twice")
    bench.equal(declared, bench.harness.capabilities, "capabilities of another adapter with the same options")
    for name in ("delay_granularity", "longest_delay", "lease"):
        value = getattr(declared, name)
        bench.check(value is None or value > timedelta(0), f"{name} is {value}, expected more than nothing")
    limit = declared.max_body_bytes
    bench.check(limit is None or limit > 0, f"max_body_bytes is {limit}")
    if declared.priorities is not None:
        low, high = declared.priorities
        bench.check(0 <= low < high <= 4294967295, f"priorities are {declared.priorities}")
    bench.check(
        declared.longest_delay is None or declared.delay_granularity is not None,
        "longest_delay without delays",
    )
    if bench.harness.spec is not None:
        bench.equal(bench.adapter.name, bench.harness.spec.name, "the adapter's name")


@case("options.unknown_refused", "S17", why="A misspelt option that is taken silently is not in force.")
def unknown_refused(bench: Bench) -> None:
    harness = bench.harness
    spec, url = harness.spec, harness.url
    if spec is None or url is None:
        return
    from kessel_core.values.options import structure_options

    odd = urlsplit(url.replace("{", "").replace("}", "") + ("&" if "?" in url else "?") + "no_such_option=1")
    error = bench.refused(
        InvalidConfig,
        "open a URL with an unknown option",
        lambda: structure_options(spec.options, spec.from_url(odd), "test"),
    )
    bench.check("no_such_option" in str(error), "the error does not name the option")


def _named(bench: Bench, error: CapabilityMissing, name: str) -> None:
    bench.equal(error.capability, name, "the capability that the refusal names")


@case(
    "refused.buried", "S17", refuses="buried", why="A listing that is always empty says that nothing failed."
)
def refused_buried(bench: Bench) -> None:
    adapter, queue = bench.adapter, bench.queue
    _named(bench, bench.refused(CapabilityMissing, "buried", lambda: adapter.buried(queue)), "buried")
    _named(bench, bench.refused(CapabilityMissing, "kick", lambda: adapter.kick(queue, "x")), "buried")


@case("refused.peek", "S17", refuses="peek", why="As for the buried listing.")
def refused_peek(bench: Bench) -> None:
    bench.put()
    error = bench.refused(CapabilityMissing, "peek", lambda: bench.adapter.peek(bench.queue, JobState.READY))
    _named(bench, error, "peek")


@case(
    "refused.pause",
    "S17",
    refuses="pause",
    why="A pause that is ignored lets work go on against what is being mended.",
)
def refused_pause(bench: Bench) -> None:
    error = bench.refused(
        CapabilityMissing, "pause", lambda: bench.adapter.pause(bench.queue, timedelta(hours=1))
    )
    _named(bench, error, "pause")


@case(
    "refused.delete",
    "S17",
    refuses="delete",
    why="A delete that does nothing leaves a job that somebody believes gone.",
)
def refused_delete(bench: Bench) -> None:
    message = bench.put()
    error = bench.refused(CapabilityMissing, "delete", lambda: bench.adapter.delete(bench.queue, message.id))
    _named(bench, error, "delete")


@case(
    "refused.delay",
    "S17",
    "S4",
    refuses="delay_granularity",
    why="A delay that is ignored starts the job early.",
)
def refused_delay(bench: Bench) -> None:
    message = bench.message(delay=timedelta(hours=1))
    kinds = (CapabilityMissing, EnqueueRejected)
    bench.refused(Exception, "enqueue with a delay", lambda: bench.adapter.enqueue(message))
    bench.nothing(bench.consumer(), "the delayed job was refused")
    bench.put()
    consumer = bench.consumer()
    held = bench.taken(consumer)
    try:
        consumer.settle(held, Rollback(timedelta(hours=1)))
    except kinds:
        return
    bench.broken("a pause was taken although delays are not declared")


@case(
    "refused.virtual_clock",
    "S17",
    "S18",
    refuses="virtual_clock",
    why="A test would wait for a change that it cannot foresee.",
)
def refused_virtual_clock(bench: Bench) -> None:
    error = bench.refused(CapabilityMissing, "next_change", lambda: bench.adapter.next_change([bench.queue]))
    _named(bench, error, "virtual_clock")

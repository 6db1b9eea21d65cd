"""What is declared makes sense, and what is not declared is refused by name (S17)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import timedelta
from typing import Any, cast

from kessel_conformance import odd_options
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.history import shown
from kessel_conformance.requirements import DELAYS, absent
from kessel_core import AdapterUnavailable, CapabilityMissing, EnqueueRejected
from kessel_core.contract import (
    COMMIT,
    NO_PAUSE,
    Browse,
    Buried,
    Delete,
    Facet,
    FacetKind,
    Find,
    JobState,
    Pause,
    QueueAdapter,
    Rollback,
    VirtualTime,
    facets_of,
    need,
)


@case("capabilities.make_sense", "S17", why="The core plans by these values.")
def make_sense(bench: Bench) -> None:
    declared = bench.adapter.capabilities
    bench.equal(bench.adapter.capabilities, declared, "capabilities asked twice")
    bench.equal(declared, bench.harness.capabilities, "capabilities of another adapter with the same options")
    expected = bench.harness.expected_capabilities
    bench.equal(declared, expected or declared, "capabilities, which the harness gives")
    if bench.harness.spec is not None:
        bench.equal(bench.adapter.name, bench.harness.spec.name, "the adapter's name")


@case("facets.make_sense", "S17", why="The core asks once, and then calls what it was given.")
def facets_make_sense(bench: Bench) -> None:
    found, before = frozenset(facets_of(bench.adapter)), bench.harness.facets
    bench.equal(_names(found), _names(before), "facets of another adapter with the same options")
    for kind in found:
        facet = bench.adapter.facet(kind)
        bench.check(isinstance(facet, kind), f"what facet() returns for {kind.facet_name} is not one")
    expected = bench.harness.expected_facets
    if expected is not None:
        bench.equal(_names(found), _names(expected), "facets, which the harness gives")


def _names(kinds: Iterable[type[Facet]]) -> list[str]:
    return sorted(kind.facet_name for kind in kinds)


@case("options.unknown_refused", "S17", why="A misspelt option that is taken silently is not in force.")
def unknown_refused(bench: Bench) -> None:
    odd_options.unknown_refused(bench)


@case(
    "options.senseless_refused",
    "S17",
    why="A time-out of zero is taken, and every call says that the server cannot be reached.",
)
def senseless_refused(bench: Bench) -> None:
    if (found := bench.harness.chosen(bench.namespace)) is None:
        return  # the harness opens in a way of its own
    message = bench.message(queue=bench.queue_named("odd"))

    def use(adapter: QueueAdapter) -> None:
        with closing(adapter.consumer([message.queue])) as consumer:
            adapter.enqueue(message)
            held = consumer.reserve(NO_PAUSE)
            if held is None:
                raise AdapterUnavailable("the job does not come")
            consumer.settle(held, COMMIT)

    odd_options.senseless_refused(bench, type(found[1]), use)


def _is_refused(bench: Bench, kind: FacetKind[Facet], call: Callable[[Any], object]) -> None:
    """Check that `need` names the facet, and that its methods do not work without it."""
    name = cast("type[Facet]", kind).facet_name
    error = bench.refused(CapabilityMissing, f"need the facet {name}", lambda: need(bench.adapter, kind))
    bench.equal(error.capability, name, "the facet that the refusal names")
    try:
        answer = call(bench.adapter)
    except (AttributeError, NotImplementedError, CapabilityMissing):
        return
    bench.broken(f"the facet {name} is not there, but its method answers {shown(answer)}")


@case(
    "refused.buried",
    "S17",
    needs=(absent(Buried),),
    why="A listing that is always empty says that nothing failed.",
)
def refused_buried(bench: Bench) -> None:
    _is_refused(bench, Buried, lambda adapter: adapter.buried(bench.queue))
    _is_refused(bench, Buried, lambda adapter: adapter.kick(bench.queue, "x"))


@case("refused.peek", "S17", needs=(absent(Browse),), why="As for the buried listing.")
def refused_peek(bench: Bench) -> None:
    bench.put()
    _is_refused(bench, Browse, lambda adapter: adapter.peek(bench.queue, JobState.READY))


@case(
    "refused.find",
    "S17",
    needs=(absent(Find),),
    why="Nothing is found, says what cannot look, and somebody believes the job done.",
)
def refused_find(bench: Bench) -> None:
    message = bench.put()
    _is_refused(bench, Find, lambda adapter: adapter.find(message.id))


@case(
    "refused.pause",
    "S17",
    needs=(absent(Pause),),
    why="A pause that is ignored lets work go on against what is being mended.",
)
def refused_pause(bench: Bench) -> None:
    _is_refused(bench, Pause, lambda adapter: adapter.pause(bench.queue, timedelta(hours=1)))


@case(
    "refused.delete",
    "S17",
    needs=(absent(Delete),),
    why="A delete that does nothing leaves a job that somebody believes gone.",
)
def refused_delete(bench: Bench) -> None:
    message = bench.put()
    _is_refused(bench, Delete, lambda adapter: adapter.delete(bench.queue, message.id))


@case(
    "refused.delay",
    "S17",
    "S4",
    needs=(absent(DELAYS),),
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
    needs=(absent(VirtualTime),),
    why="A test would wait for a change that it cannot foresee.",
)
def refused_virtual_clock(bench: Bench) -> None:
    _is_refused(bench, VirtualTime, lambda adapter: adapter.next_change([bench.queue]))

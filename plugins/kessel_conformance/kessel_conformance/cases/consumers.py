"""Consumers and adapters as objects: queues, cancel, wake-ups, close, several at once."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from datetime import timedelta
from functools import partial
from typing import Any

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import RETURNS_AT_ONCE, SHARED_REACH
from kessel_core import AdapterUnavailable, InvalidConfig
from kessel_core.contract import COMMIT, NO_PAUSE

#: How long a reserve waits, and how soon it must come back when it is woken.
_LONG = timedelta(seconds=4)
_SOON = 3.0


@case(
    "consumer.queues_checked",
    "S9",
    why="A worker of a misspelt queue, or of none, waits for ever and looks busy.",
)
def queues_checked(bench: Bench) -> None:
    wrong: dict[str, Any] = {
        "no queue": [],
        "a name with a blank": ["a b"],
        "a good and a bad name": [bench.queue, "-a"],
        "a text for a list": "default",
    }
    for what, queues in wrong.items():
        bench.refused(InvalidConfig, f"a consumer of {what}", partial(bench.adapter.consumer, queues))


@case("consumer.doubles_count_once", "S9", why="Lists of queues are put together from several places.")
def doubles_count_once(bench: Bench) -> None:
    sent = [bench.put().body, bench.put().body]
    consumer = bench.consumer(bench.queue, bench.queue)
    came = bench.drain(consumer)
    bench.equal(sorted(bench.labels(came)), sorted(bench.labels(sent)), "jobs of a queue that is named twice")


@case(
    "consumer.cancelled_takes_nothing",
    "S9",
    why="A worker that is stopped settles its last job, and must not be given another with it.",
)
def cancelled_takes_nothing(bench: Bench) -> None:
    bench.put()
    bench.put()
    consumer = bench.consumer()
    held = bench.taken(consumer)
    bench.call("worker A is cancelled", consumer.cancel)
    following = bench.settle_and_reserve(consumer, held, COMMIT)
    bench.check(following is None, "a cancelled consumer was given a job with its settle")
    other = bench.taken(bench.consumer())
    bench.check(other.body != held.body, "the committed job came again, and the other did not")


@case("consumer.cancel_frees", "S9", why="Without it a stopping worker waits out its longest reserve.")
def cancel_frees(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    bench.call("worker A is cancelled", consumer.cancel)
    bench.call("worker A is cancelled again", consumer.cancel)
    bench.settle(consumer, held)
    bench.put()
    before = bench.now()
    bench.check(bench.reserve(consumer, timedelta(hours=1)) is None, "a cancelled consumer reserved a job")
    bench.check(bench.now() - before < timedelta(seconds=5), "reserve waited after cancel")
    bench.taken(bench.consumer())


@case(
    "consumer.cancel_wakes",
    "S9",
    real_time=True,
    why="A worker that is told to stop waits in a reserve nearly all of its time.",
)
def cancel_wakes(bench: Bench) -> None:
    with bench.in_real_time() as real:
        consumer = real.consumer()
        got: list[object] = []

        def stop() -> None:
            time.sleep(0.05)  # most likely it waits by now; if not, the cancel has to hold all the same
            real.call("worker A is cancelled", consumer.cancel)

        real.side_by_side([lambda: got.append(real.reserve(consumer, _LONG)), stop], _SOON)
        real.equal(got, [None], "what the waiting reserve brought")


@case(
    "reach.is_shared",
    "S9",
    "S7",
    needs=(SHARED_REACH,),
    why="Producers and workers are processes of their own, each with an adapter of its own.",
)
def reach_is_shared(bench: Bench) -> None:
    other = bench.harness.open(bench.clock, bench.namespace)
    try:
        message = bench.message()
        bench.call("another adapter enqueues job-1", lambda: other.enqueue(message))
        consumer, elsewhere = bench.consumer(), other.consumer([bench.queue])
        held = bench.gets(consumer, message, "the other adapter's job")
        there = bench.call("the other adapter reserves", lambda: elsewhere.reserve(NO_PAUSE), "nothing")
        bench.check(there is None, "the other adapter was given a job that is held", "S7")
        bench.settle(consumer, held)
        there = bench.call("the other adapter reserves", lambda: elsewhere.reserve(NO_PAUSE), "nothing")
        bench.check(there is None, "the other adapter was given a job that is done", "S8")
        back = bench.put()
        there = bench.call("the other adapter reserves", lambda: elsewhere.reserve(NO_PAUSE), "nothing")
        bench.check(there is not None and there.body == back.body, "the other adapter does not see the job")
        elsewhere.close()
    finally:
        other.close()


@case(
    "consumer.close_returns_job",
    "S9",
    looks_at=("lease_return",),
    why="A job that a closing consumer holds must not be lost.",
    waits=True,
)
def close_returns_job(bench: Bench) -> None:
    message = bench.put()
    first = bench.consumer()
    bench.gets(first, message, "the job")
    bench.call("worker A is closed", first.close)
    bench.call("worker A is closed again", first.close)
    bench.let_pass(bench.slack)
    other = bench.consumer()
    held = bench.reserve(other)
    is_late = bench.capabilities.lease is not None and not RETURNS_AT_ONCE.is_met(bench.harness)
    if held is None and is_late:  # only now: the lease may be long
        bench.let_pass(bench.lease)
        held = bench.reserve(other)
    bench.check(
        held is not None and held.body == message.body, "the job that a closed consumer held does not come"
    )


@case("adapter.close_twice", "S9", why="Shutdown paths cross; the second close must be quiet.")
def close_twice(bench: Bench) -> None:
    other = bench.harness.open(bench.clock, bench.harness.namespace())
    bench.call("close adapter", other.close)
    bench.call("close adapter again", other.close)


@case(
    "adapter.closed_refuses",
    "S14",
    "S9",
    why="Who still uses what was closed must hear it; a job that goes nowhere is lost in silence.",
)
def closed_refuses(bench: Bench) -> None:
    namespace = bench.harness.namespace()
    other = bench.harness.open(bench.clock, namespace)
    bench.call("close adapter", other.close)
    message = bench.message()
    bench.refused(AdapterUnavailable, "enqueue on a closed adapter", lambda: other.enqueue(message))
    outcomes = bench.call("enqueue_many on a closed adapter", lambda: other.enqueue_many([message, message]))
    bench.equal([type(outcome) for outcome in outcomes], [AdapterUnavailable] * 2, "outcomes")
    bench.refused(AdapterUnavailable, "a consumer of a closed adapter", lambda: other.consumer([bench.queue]))

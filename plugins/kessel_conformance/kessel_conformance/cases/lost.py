"""Lost connections: for every call the outcome is one that the contract allows, and the next call works.

A proxy before the server drops requests and answers, cuts them at a byte, answers never, late, or slowly.
"""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import product
from typing import cast

from kessel_conformance.bench import Bench
from kessel_conformance.call import Call
from kessel_conformance.catalogue import case
from kessel_conformance.faults import ANSWER_WITHIN, HALF_OPEN, LATE, LATE_REQUEST, SLOW, Fault
from kessel_conformance.history import shown
from kessel_conformance.job_calls import ENQUEUES, EXTENDS, OF_ENQUEUE, RESERVES, WAIT
from kessel_conformance.lost_calls import DONE_LATE, TAKES, UNCOUNTED
from kessel_conformance.meanwhile import FALLS_ASLEEP
from kessel_conformance.near import near_adapter
from kessel_conformance.once_calls import ONCE
from kessel_conformance.operation_calls import CHANGES, LOOKS
from kessel_conformance.proxy import Cut, FaultProxy
from kessel_conformance.requirements import ATTEMPTS, CONNECTION, LEASE, LOST_RESERVES
from kessel_conformance.settle_calls import SETTLES
from kessel_conformance.trials import Trials
from kessel_core import AdapterError, AdapterUnavailable, EnqueueUnknown
from kessel_core.contract import COMMIT, NO_PAUSE, Attempts, Consumer, Rollback

NEEDS = (CONNECTION,)
#: So that all calls of two kinds that wait for the end of the first lease are made before the second is over.
_MOST_EXTENDS = 30
#: A listing has long answers, and on some servers a cost that grows with the jobs of all trials.
_MOST_LOOKS = 30
#: Seconds; a call may wait for its time-out more than once, on one connection after another.
_SIDE_BY_SIDE = 3 * ANSWER_WITHIN
#: Jobs; more portions of them than time-outs that one call may take.
_LARGE_BATCH = 6_000
#: Bytes in each of them that nobody can make shorter.
_FILLING = 64
_ANSWER_DROPPED = Fault("an answer is dropped", partial(FaultProxy.cut_at, cut=Cut(up=False, after=0)))
#: Of a job behind which no other is tried.
_UNREACHED = (EnqueueUnknown, AdapterUnavailable)
#: Slots under which a connection breaks at once.
_TOGETHER = 3


def _broken(bench: Bench, kinds: Sequence[type[Call]], most: int | None = None) -> None:
    cuts = bench.settings.amounts.cuts
    with Trials(bench) as trials:
        trials.run(kinds, cuts if most is None else min(cuts, most))
        trials.finish()


@case(
    "lost.enqueue",
    "S14",
    needs=NEEDS,
    waits=True,
    why="A job that is lost, or stored twice, is never noticed unless the enqueue says so.",
)
def lost_enqueue(bench: Bench) -> None:
    _broken(bench, ENQUEUES)


@case(
    "lost.reserve",
    "S9",
    needs=NEEDS,
    waits=True,
    why="A dead server looks like an empty queue, and the worker like an idle one.",
)
def lost_reserve(bench: Bench) -> None:
    _broken(bench, RESERVES)


@case(
    "lost.settle",
    "S8",
    "S7",
    "S21",
    needs=NEEDS,
    waits=True,
    why="A settle that is swallowed does the work twice; one that is sent twice settles another's delivery.",
)
def lost_settle(bench: Bench) -> None:
    _broken(bench, SETTLES)


@case(
    "lost.extend",
    "S7",
    needs=NEEDS,
    waits=True,
    why="A worker that believes in a lease which nobody extended runs the job beside its next holder.",
)
def lost_extend(bench: Bench) -> None:
    _broken(bench, EXTENDS, _MOST_EXTENDS)


@case(
    "lost.look",
    "S9",
    needs=NEEDS,
    waits=True,
    why="Nothing is there, says a listing of a server that nobody reached.",
)
def lost_look(bench: Bench) -> None:
    _broken(bench, LOOKS, _MOST_LOOKS)


@case(
    "lost.change",
    "S9",
    "S8",
    needs=NEEDS,
    waits=True,
    why="An operator believes done what never arrived, or does it again to what is new.",
)
def lost_change(bench: Bench) -> None:
    _broken(bench, (*ONCE, *CHANGES), _MOST_LOOKS)


def _under(bench: Bench, faults: Sequence[Fault], kinds: Sequence[type[Call]]) -> None:
    """Try calls side by side, each over a connection of its own, because each may wait for its time-out."""
    pairs = list(product(faults, kinds))
    with ExitStack() as stack:
        alone = [stack.enter_context(Trials(stack.enter_context(bench.beside()))) for _ in pairs]
        calls = [partial(trials.run_under, *pair) for trials, pair in zip(alone, pairs, strict=True)]
        bench.side_by_side(calls, _SIDE_BY_SIDE)
        for trials in alone:
            trials.finish()


@case(
    "lost.half_open",
    "S9",
    "S14",
    needs=NEEDS,
    waits=True,
    why="A peer that hangs answers never, or too late, when the answer is taken for that of the next call.",
)
def half_open(bench: Bench) -> None:
    _under(bench, (HALF_OPEN, LATE), (*ENQUEUES, *RESERVES, *SETTLES, *LOOKS, *CHANGES))


@case(
    "lost.large_batch",
    "S14",
    "S9",
    needs=NEEDS,
    waits=True,
    why="A batch that goes in portions waits for the time-out of each, when its peer does not answer.",
)
def large_batch(bench: Bench) -> None:
    """One that nothing breaks goes to the same server while the answers of others are waited for."""
    with bench.beside() as other:
        calls = [partial(_large_unanswered, bench)]
        if bench.capabilities.dedupe:
            calls.append(partial(_large_behind_held, other))
        bench.side_by_side(calls, 2 * _SIDE_BY_SIDE)


def _large_behind_held(bench: Bench) -> None:
    bench.send_behind_held([bench.message(b"%d" % number) for number in range(_LARGE_BATCH)])
    bench.equal(bench.purge(), _LARGE_BATCH, "jobs purged that were told as stored")


def _large_unanswered(bench: Bench) -> None:
    for fault, queue in ((_ANSWER_DROPPED, bench.queue_named("dropped")), (HALF_OPEN, bench.queue)):
        bodies = (f"{n} ".encode() + bench.random.randbytes(_FILLING) for n in range(_LARGE_BATCH))
        batch = [bench.message(body, queue=queue) for body in bodies]
        with near_adapter(bench) as near:
            near.asked(bench.history, "stats", partial(near.opened.stats, queue))
            before = near.proxy.sent  # now it is connected
            fault.begin(near.proxy)
            what = f"enqueue_many of {len(batch)}, while {fault.label}"
            many = partial(near.opened.enqueue_many, batch)
            answer = near.asked(bench.history, what, many)
            sent = near.proxy.sent - before
            near.proxy.end_faults()
        outcomes = cast("list[AdapterError | None]", answer.value or [])
        bench.equal(len(outcomes), len(batch), "outcomes of the batch")
        odd = {type(one).__name__ for one in outcomes if one is not None and not isinstance(one, OF_ENQUEUE)}
        bench.equal(odd, set(), "outcomes of other kinds")
        first = next((n for n, one in enumerate(outcomes) if isinstance(one, _UNREACHED)), len(outcomes))
        tried = outcomes[first:].count(None)
        bench.equal(tried, 0, "jobs that were stored after one that was not answered: the rest is not tried")
        unsure = sum(isinstance(one, EnqueueUnknown) for one in outcomes)
        if fault is HALF_OPEN:
            bench.equal(outcomes.count(None), 0, "jobs told as stored, though nothing was answered")
            what = f"{unsure} jobs were told as perhaps stored, of which the adapter sent {sent} bytes"
            bench.check(unsure * _FILLING <= sent, f"{what}: what was not tried is surely not stored")
        bench.let_pass(bench.slack)
        strange = bench.purge(queue) - outcomes.count(None) - unsure
        bench.check(strange <= 0, f"{strange} jobs are there that were told as surely not stored")


@case(
    "lost.slow",
    "S9",
    needs=NEEDS,
    waits=True,
    why="Answers arrive in pieces; who reads as much as is there reads half a job.",
)
def slow(bench: Bench) -> None:
    _under(bench, (SLOW,), (*ENQUEUES, *RESERVES, *SETTLES, *CHANGES))


@case(
    "lost.reserve_comes_back",
    "S7",
    "S9",
    needs=(*NEEDS, LEASE, LOST_RESERVES),
    waits=True,
    why="An answer is lost, and an urgent job waits a whole lease for somebody who never heard of it.",
)
def reserve_comes_back(bench: Bench) -> None:
    _broken(bench, TAKES)


@case(
    "lost.reserve_done_late",
    "S7",
    "S9",
    needs=(*NEEDS, LEASE, LOST_RESERVES),
    waits=True,
    why="A server does what it was asked after it was asked once what became of it, and nobody asks again.",
)
def reserve_done_late(bench: Bench) -> None:
    _under(bench, (LATE_REQUEST,), DONE_LATE)


@case(
    "lost.reserve_uncounted",
    "S10",
    "S7",
    needs=(*NEEDS, LEASE, LOST_RESERVES, ATTEMPTS),
    waits=True,
    why="An unstable network uses up the tries of jobs that no handler has seen.",
)
def reserve_uncounted(bench: Bench) -> None:
    if bench.capabilities.attempts is Attempts.SERVER:
        return  # it counts what it has handed out, whoever heard of it
    _broken(bench, UNCOUNTED)


@case(
    "lost.reserves_come_back",
    "S7",
    "S9",
    needs=(*NEEDS, LEASE, LOST_RESERVES),
    waits=True,
    why="The network fails under several slots at once, and one of their jobs is asked for, or none.",
)
def reserves_come_back(bench: Bench) -> None:
    messages = [bench.message(queue=bench.queue_named(f"lost{number}")) for number in range(_TOGETHER)]
    with near_adapter(bench) as near:
        takers = [near.opened.consumer([message.queue]) for message in messages]

        def takes(taker: Consumer) -> None:
            with suppress(AdapterUnavailable):
                held = taker.reserve(NO_PAUSE)
                if held is not None:  # it has asked again by itself
                    taker.settle(held, Rollback())

        def breaks() -> None:
            time.sleep(FALLS_ASLEEP)
            near.proxy.cut()
            near.proxy.end_faults()

        taking = [partial(takes, taker) for taker in takers]
        bench.side_by_side(taking, _SIDE_BY_SIDE)  # so that there are connections
        bench.send_many(messages)
        near.proxy.hold_answers()
        bench.history.add(
            f"reserve in {_TOGETHER} threads, whose connections are cut before they are answered"
        )
        bench.side_by_side([*taking, breaks], _SIDE_BY_SIDE)
        wait = min(WAIT, bench.lease * 0.75)
        for taker, message in zip(takers, messages, strict=True):
            what = f"reserve again, waiting up to {shown(wait)}"
            held = bench.call(what, lambda taker=taker: taker.reserve(wait), "nothing")  # type: ignore[misc]
            bench.check(held is not None, "a job is not ready again that was taken by a lost reserve")
            assert held is not None
            bench.equal(bench.label(held.body), bench.label(message.body), "the job that came back")
            taker.settle(held, COMMIT)
        for taker in takers:
            taker.close()


@case(
    "lost.reserve_before_close",
    "S7",
    "S9",
    needs=(*NEEDS, LEASE, LOST_RESERVES),
    waits=True,
    why="A program closes its adapter and lives on; what it has taken unknowingly waits a whole lease.",
)
def reserve_before_close(bench: Bench) -> None:
    message = bench.message()
    with near_adapter(bench) as near:
        taker = near.opened.consumer([bench.queue])
        near.asked(bench.history, "reserve", lambda: taker.reserve(NO_PAUSE))  # so that there is a connection
        bench.send(message)
        near.proxy.cut_at(Cut(up=False, after=0))
        near.asked(bench.history, "reserve, while its answer is dropped", lambda: taker.reserve(NO_PAUSE))
        near.proxy.end_faults()
        near.asked(bench.history, "close the consumer, and then the adapter", taker.close)
    other = bench.consumer()
    held = bench.reserve(other, min(WAIT, bench.lease * 0.75))
    bench.check(held is not None, "a job is not ready again that a lost reserve of a closed adapter took")
    assert held is not None
    bench.equal(bench.label(held.body), bench.label(message.body), "the job that came back")
    bench.settle(other, held)

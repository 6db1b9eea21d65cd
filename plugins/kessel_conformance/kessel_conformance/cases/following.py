"""Follow-ups: what a settlement brings along is stored with it, all or nothing (capability `follow`)."""

from __future__ import annotations

from datetime import timedelta

# ruff: noqa: D103  # what a case is for stands in its `why`
from functools import partial

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.requirements import (
    BLOCKING_RESERVE,
    DELAYS,
    FOLLOW,
    KICKS,
    LEASE,
    MAX_BODY_BYTES,
    PRIORITIES,
)
from kessel_conformance.woken import Prepared, wakes
from kessel_core.contract import (
    Browse,
    Buried,
    Bury,
    Commit,
    EnqueueRejected,
    Entry,
    JobState,
    Put,
    Store,
)

_MINUTE = timedelta(minutes=1)
_SPACE = "conformance"


def _entry(bench: Bench, key: str) -> Entry | None:
    return bench.call(f"get {key}", lambda: bench.facet(Store).get(_SPACE, key))


def _key(bench: Bench, name: str) -> str:
    return f"{bench.namespace}-{name}"


@case(
    "following.of_commit",
    "S20",
    needs=(FOLLOW,),
    why="A step of a chain that is lost is a chain that ends in the middle, and nobody is told.",
)
def of_commit(bench: Bench) -> None:
    job = bench.put()
    consumer, other = bench.consumer(), bench.consumer(bench.queue_named("other"))
    held = bench.gets(consumer, job, "the job")
    here, there = bench.message(), bench.message(queue=bench.queue_named("other"))
    bench.settle(consumer, held, Commit(follow=(here, there)))
    bench.gets(other, there, "the follow-up in another queue")
    bench.gets(consumer, here, "the follow-up")
    bench.nothing(bench.consumer(), "each was to be stored once")


@case(
    "following.of_burial",
    "S20",
    needs=(FOLLOW, Buried),
    why="Who waits for a job wants to hear of its failure as well.",
)
def of_burial(bench: Bench) -> None:
    job = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, job, "the job")
    told = bench.message()
    bench.settle(consumer, held, Bury("error", "it failed", follow=(told,)))
    bench.gets(consumer, told, "the follow-up")
    bench.equal(len(bench.buried()), 1, "the number of buried jobs")


@case(
    "following.with_next_reserve",
    "S20",
    needs=(FOLLOW,),
    why="A busy worker settles and reserves in one call, which is code of its own.",
)
def with_next_reserve(bench: Bench) -> None:
    job = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, job, "the job")
    told = bench.message()
    following = bench.settle_and_reserve(consumer, held, Commit(follow=(told,)))
    if following is None:  # allowed: what was stored in this call may be seen by the next
        following = bench.taken(consumer)
    bench.equal(following.body, told.body, "the body of the follow-up")


@case(
    "following.keeps_its_values",
    "S20",
    needs=(FOLLOW, PRIORITIES, DELAYS, Browse),
    why="A follow-up is a job like any other: its priority and its delay count.",
)
def keeps_its_values(bench: Bench) -> None:
    job = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, job, "the job")
    late = bench.message(delay=_MINUTE)
    ordinary, urgent = bench.message(), bench.message(priority=0)
    bench.settle(consumer, held, Commit(follow=(late, ordinary, urgent)))
    bench.equal(len(bench.peek(JobState.DELAYED, 10)), 1, "the number of delayed jobs", "S4")
    bench.gets(consumer, urgent, "the more urgent one")
    bench.gets(bench.consumer(), ordinary, "the ordinary one")


@case(
    "following.held_id",
    "S20",
    needs=(FOLLOW,),
    why="A job that runs again asks for the same follow-ups again: one that is there is no reason to fail.",
)
def held_id(bench: Bench) -> None:
    known = bench.put()
    job = bench.put()
    consumer, other = bench.consumer(), bench.consumer()
    first = bench.taken(consumer)
    second = bench.taken(other)
    held, holder = (first, consumer) if first.body == job.body else (second, other)
    again = attrs.evolve(bench.message(), id=known.id)
    fresh = bench.message()
    bench.settle(holder, held, Commit(follow=(again, fresh)))
    bench.gets(holder, fresh, "the new follow-up")
    bench.nothing(bench.consumer(), "the job with the id that is held was stored again")


@case(
    "following.refused",
    "S20",
    needs=(FOLLOW, MAX_BODY_BYTES),
    why="All or nothing: half of what a job brings along is worse than none, and the job must not be lost.",
)
def refused(bench: Bench) -> None:
    job = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, job, "the job")
    limit = bench.capabilities.max_body_bytes
    assert limit is not None
    fine, large = bench.message(), attrs.evolve(bench.message(), body=b"x" * (limit + 1))
    what = "commit with a follow-up that is too large"
    bench.refused(EnqueueRejected, what, lambda: consumer.settle(held, Commit(follow=(fine, large))))
    bench.nothing(bench.consumer(), "nothing was to be stored")
    bench.extend(consumer, held)
    bench.settle(consumer, held, Commit(follow=(fine,)))
    bench.gets(consumer, fine, "the follow-up of the second try")


@case(
    "following.lost_lease",
    "S20",
    needs=(FOLLOW, LEASE),
    why="A job that another worker has by now must not bring along anything for the one that lost it.",
)
def lost_lease(bench: Bench) -> None:
    job = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, job, "the job")
    bench.let_pass(bench.lease + bench.slack)
    told = bench.message()
    bench.not_settled(consumer, held, Commit(follow=(told,)), "after its lease has ended")
    other = bench.consumer()
    again = bench.gets(other, job, "the job again", bench.slack)
    bench.nothing(bench.consumer(), "the follow-up was stored although the settle was refused")
    bench.settle(other, again)


@case(
    "following.wakes",
    "S20",
    needs=(FOLLOW, BLOCKING_RESERVE),
    real_time=True,
    why="A follow-up that wakes nobody sits in the queue until somebody else comes by.",
)
def following_wakes(bench: Bench) -> None:
    def prepare(real: Bench) -> Prepared:
        holder, waiter = real.consumer(), real.consumer(real.queue_named("other"))
        held = real.gets(holder, real.put(), "the job")
        # Behind one that nobody waits for, because who tells of one of them tells of the first.
        before, told = (real.message(queue=real.queue_named(name)) for name in ("before", "other"))
        return waiter, told, lambda: real.settle(holder, held, Commit(follow=(before, told)))

    wakes(bench, prepare)


@case(
    "following.entries",
    "S20",
    needs=(FOLLOW, Store),
    why="A result that is there before its job has ended, or not there after it, is a wrong answer.",
)
def entries(bench: Bench) -> None:
    job = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, job, "the job")
    key, other = _key(bench, "a"), _key(bench, "b")
    bench.equal(_entry(bench, key), None, "the entry before the settle")
    puts = (Put(_SPACE, key, b"\x00result\xff"), Put(_SPACE, other, b"", _MINUTE))
    bench.settle(consumer, held, Commit(puts=puts))
    for name, value in ((key, b"\x00result\xff"), (other, b"")):
        entry = _entry(bench, name)
        bench.equal(None if entry is None else entry.value, value, f"the value of {name}")
    first = _entry(bench, key)
    bench.equal(first is not None and first.expires_at, None, "the end of an entry without one")
    again = bench.put()
    held = bench.gets(consumer, again, "another job")
    bench.settle(consumer, held, Bury("error", puts=(Put(_SPACE, key, b"newer"),)))
    second = _entry(bench, key)
    bench.check(first is not None and second is not None, "the entry is gone")
    assert first is not None
    assert second is not None
    bench.equal(second.value, b"newer", "the value after a second settle")
    bench.check(second.version > first.version, "its version did not grow", "S19")


@case(
    "following.entries_with_next_reserve",
    "S20",
    needs=(FOLLOW, Store),
    why="A busy worker settles and reserves in one call, which is code of its own, and may lose the entry.",
)
def entries_with_next_reserve(bench: Bench) -> None:
    bench.put()
    bench.put()
    consumer = bench.consumer()
    key, other = _key(bench, "d"), _key(bench, "e")
    done = Commit(puts=(Put(_SPACE, key, b"done"),))
    following = bench.settle_and_reserve(consumer, bench.taken(consumer), done)
    bench.check(following is not None, "the next job did not come")
    assert following is not None
    failed = Bury("error", "it failed", puts=(Put(_SPACE, other, b"failed"),))
    bench.settle_and_reserve(consumer, following, failed)
    for name, value in ((key, b"done"), (other, b"failed")):
        entry = _entry(bench, name)
        bench.equal(None if entry is None else entry.value, value, f"the value of {name}")
    bench.nothing(consumer, "one job was committed, the other one buried")


@case(
    "following.entries_of_a_refused_settle",
    "S20",
    needs=(FOLLOW, Store, MAX_BODY_BYTES),
    why="An entry of a settlement that did not happen says what is not true.",
)
def entries_of_a_refused_settle(bench: Bench) -> None:
    job = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, job, "the job")
    limit = bench.capabilities.max_body_bytes
    assert limit is not None
    large = attrs.evolve(bench.message(), body=b"x" * (limit + 1))
    key = _key(bench, "c")
    settlement = Commit(follow=(large,), puts=(Put(_SPACE, key, b"1"),))
    bench.refused(EnqueueRejected, "commit with an entry", lambda: consumer.settle(held, settlement))
    bench.equal(_entry(bench, key), None, "the entry of the refused settle")
    bench.settle(consumer, held)
    done = attrs.evolve(settlement, follow=())
    bench.not_settled(consumer, held, done, "after it was settled")
    bench.equal(_entry(bench, key), None, "the entry of a settle that came too late")


@case(
    "following.kicks_counted",
    "S22",
    needs=(KICKS, Buried),
    why="Who was told of a failure, and is told again after a kick, must not take that for a repetition.",
)
def kicks_counted(bench: Bench) -> None:
    message = bench.put()
    # Who serves several queues may take their jobs by a way of its own.
    consumers = (bench.consumer(), bench.consumer(bench.queue_named("other"), bench.queue))
    for kicks in range(4):
        consumer = consumers[kicks % 2]
        held = bench.gets(consumer, message, "the job")
        what = f"kicks of {bench.label(message.body)}"
        seen = bench.call(what, partial(consumer.kicks, held), "a number")
        bench.equal(seen, kicks, "the number of kicks")
        bench.settle(consumer, held, Bury("error", "it failed"))
        (stored,) = bench.buried()
        bench.kick(stored.id)
    bench.settle(consumers[0], bench.gets(consumers[0], message, "the job"))

"""How far an extension reaches, and what is done for a job whose lease or delay is over (S4, S7, S20)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from datetime import timedelta
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import DELAYS, FOLLOW, LEASE
from kessel_core import LeaseLost
from kessel_core.contract import COMMIT, Bury, Delete, Message, Put, Store

_SPACE: Final = "conformance"


@case(
    "lease.extended_early",
    "S7",
    needs=(LEASE,),
    waits=True,
    why="An extension is left out, or does not reach as far, while most of the lease is still there.",
)
def extended_early(bench: Bench) -> None:
    slots = [bench.consumer() for _ in range(2)]
    bench.send_many([bench.message() for _ in slots])
    (first, one), (second, two) = [(slot, bench.taken(slot)) for slot in slots]
    bench.let_pass(bench.lease * 0.4)
    before = bench.clock.monotonic()
    bench.extend(first, one)
    outcomes = bench.call(
        "extend it together with others", lambda: bench.adapter.extend_many([(second, two)])
    )
    after = bench.clock.monotonic()
    bench.equal(outcomes, [None], "outcome of extending a lease of which most is left")
    lease = bench.lease.total_seconds()
    deadlines = [held.deadline or 0.0 for held in (one, two)]
    bench.check(
        before + lease - 1e-6 <= min(deadlines) and max(deadlines) <= after + lease + 1e-6,
        f"extended until {deadlines}, not a lease from now, {before + lease:.3f} to {after + lease:.3f}",
    )
    bench.let_pass(bench.lease * 0.85)
    early = bench.reserve(bench.consumer())
    if bench.clock.monotonic() >= min(deadlines):
        return  # the machine was too busy
    bench.check(early is None, "the extended leases still hold, but a job was delivered")
    bench.settle(first, one)
    bench.settle(second, two)


@case(
    "lease.extended_beside_another",
    "S7",
    "S9",
    needs=(LEASE,),
    waits=True,
    why="Leases are looked through in the order of their first ends: one that was extended hides the rest.",
)
def extended_beside_another(bench: Bench) -> None:
    bench.send_many([bench.message(), bench.message()])
    first, second, third = (bench.consumer() for _ in range(3))
    extended = bench.taken(first)
    bench.let_pass(bench.lease * 0.1)
    ending = bench.taken(second)
    end = bench.now() + bench.lease
    bench.let_pass(bench.lease * 0.7)
    bench.extend(first, extended)
    bench.until(end + bench.slack + MICRO)
    came = bench.reserve(third)
    if extended.deadline is None or bench.clock.monotonic() >= extended.deadline:
        return  # the machine was too busy
    got = None if came is None else bench.label(came.body)
    bench.equal(got, bench.label(ending.body), "the job that came after the end of the younger lease")
    assert came is not None
    bench.settle(third, came)
    early = bench.reserve(third)
    is_over = bench.clock.monotonic() >= extended.deadline
    bench.check(early is None or is_over, "the extended lease still holds, but its job was delivered")


@case(
    "following.of_burial_lost_lease",
    "S20",
    "S7",
    needs=(FOLLOW, LEASE),
    waits=True,
    why="Only a commit looks at the lease before it stores: a burial that comes too late tells of a failure.",
)
def of_burial_lost_lease(bench: Bench) -> None:
    job = bench.put()
    first, second = bench.consumer(), bench.consumer()
    held = bench.gets(first, job, "the job")
    bench.let_pass(bench.lease + bench.slack + MICRO)
    key = f"{bench.namespace}-late"
    puts = (Put(_SPACE, key, b"failed"),) if bench.has(Store) else ()

    def is_refused(when: str) -> None:
        burial = Bury("error", "it failed", follow=(bench.message(),), puts=puts)
        bench.not_settled(first, held, burial, when)
        what = f"a burial that reserves, {when}"
        bench.refused(LeaseLost, what, lambda: first.settle_and_reserve(held, burial))

    is_refused("after its lease has ended")
    again = bench.gets(second, job, "the job, which nobody settled")
    is_refused("which another holds")
    bench.nothing(bench.consumer(), "a follow-up was stored although the burial was refused")
    if bench.has(Store):
        entry = bench.call(f"get {key}", lambda: bench.facet(Store).get(_SPACE, key))
        bench.equal(entry, None, "the entry of a burial that was refused")
    bench.settle(second, again)
    bench.nothing(bench.consumer(), "the job was committed")


@case(
    "delete.after_lease",
    "S9",
    "S7",
    needs=(Delete, LEASE),
    waits=True,
    why="A job whose lease is over is deleted, and what counts it among the reserved ones stays.",
)
def after_lease(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    held = bench.gets(consumer, message, "the job")
    bench.let_pass(bench.lease + bench.slack + MICRO)
    _is_deleted(bench, message, "whose lease has ended")
    bench.not_settled(consumer, held, COMMIT, "which was deleted after its lease")


@case(
    "delete.after_delay",
    "S9",
    "S4",
    needs=(Delete, DELAYS),
    waits=True,
    why="A job whose delay is over is deleted, and what counts it among the delayed ones stays.",
)
def after_delay(bench: Bench) -> None:
    message = bench.put(delay=timedelta(milliseconds=500))
    bench.let_pass(timedelta(milliseconds=500) + bench.slack)
    _is_deleted(bench, message, "whose delay has ended")


def _is_deleted(bench: Bench, message: Message, what: str) -> None:
    """Delete a job at the first look after it has become ready by time, and look for what is left of it."""
    bench.delete(message.id)
    bench.not_deleted(message.id, "again")
    if bench.capabilities.counts:
        bench.equal(bench.stats().total, 0, f"jobs left after the delete of one {what}")
    bench.nothing(bench.consumer(), "the only job was deleted")
    bench.equal(bench.purge(), 0, f"jobs purged after the delete of one {what}")
    new = bench.put(b"another body", job_id=message.id)
    consumer = bench.consumer()
    bench.settle(consumer, bench.gets(consumer, new, f"a job under the id of one {what}, which was deleted"))


@case(
    "lease.ends_after_it_was_extended",
    "S7",
    "S9",
    needs=(LEASE,),
    waits=True,
    why="The end of a lease is noted once: a job whose worker extends it, and then dies, never comes again.",
)
def ends_after_it_was_extended(bench: Bench) -> None:
    slots = {name: bench.consumer(bench.queue_named(name)) for name in ("alone", "together", "unseen")}
    sent = {name: bench.put(queue=bench.queue_named(name)) for name in slots}
    start = bench.now()
    held = {name: bench.gets(slots[name], message, "the job") for name, message in sent.items()}
    watched = {name: bench.consumer(sent[name].queue) for name in ("alone", "together")}

    def is_held(when: str) -> bool:
        """Look, and say whether that was before the extended leases end."""
        for name, watch in watched.items():
            came = bench.reserve(watch)
            is_over = bench.clock.monotonic() >= min(one.deadline or 0.0 for one in held.values())
            bench.check(came is None or is_over, f"{when}: the job is held")
            if came is not None or is_over:
                return False  # the machine was too busy
            bench.stats(sent[name].queue)
        return True

    if not is_held("before its lease is extended"):
        return
    bench.until(start + bench.lease * 0.5)
    bench.extend(slots["alone"], held["alone"])
    bench.extend(slots["unseen"], held["unseen"])
    outcomes = bench.call(
        "extend another together with others",
        lambda: bench.adapter.extend_many([(slots["together"], held["together"])]),
    )
    bench.equal(outcomes, [None], "outcome of extending it together with others")
    extended = bench.now()
    if not is_held("after its lease was extended"):
        return
    bench.until(start + bench.lease * 1.2)
    if not is_held("after the end that its lease had at first"):
        return
    bench.until(extended + bench.lease + bench.slack + MICRO)
    for name, message in sent.items():
        bench.gets(bench.consumer(message.queue), message, f"the job, whose lease was extended {name}")
        bench.not_settled(slots[name], held[name], COMMIT, "whose lease has ended")

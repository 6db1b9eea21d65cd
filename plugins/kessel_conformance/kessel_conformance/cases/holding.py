"""What a reservation is good for, and when no more: each way to settle it, each way to lose it (S7)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Final, TypeAlias

import attrs

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.opencase import MICRO
from kessel_conformance.requirements import FENCING, LEASE
from kessel_core import AdapterError, LeaseLost
from kessel_core.contract import (
    COMMIT,
    Buried,
    Bury,
    Consumer,
    Message,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
)

_SETTLEMENTS: Final[Mapping[str, Settlement]] = {
    "commit": COMMIT,
    "rollback": Rollback(),
    "snooze": Snooze(),
    "burial": Bury("error", "it failed"),
}
#: A call that only the holder may make; what it is, and how it is made.
_Call: TypeAlias = Callable[[Bench, Consumer, Reservation], object]


def _settles(settlement: Settlement) -> _Call:
    return lambda bench, consumer, held: consumer.settle(held, settlement)


def _settles_and_reserves(settlement: Settlement) -> _Call:
    return lambda bench, consumer, held: consumer.settle_and_reserve(held, settlement)


_CALLS: Final[Mapping[str, _Call]] = {
    **{f"a {name}": _settles(settlement) for name, settlement in _SETTLEMENTS.items()},
    **{f"a {name} that reserves": _settles_and_reserves(one) for name, one in _SETTLEMENTS.items()},
    "giving it back": lambda bench, consumer, held: bench.adapter.give_back(held),
    "extending it": lambda bench, consumer, held: consumer.extend(held),
}


def _extends_among_others(bench: Bench, consumer: Consumer, held: Reservation) -> None:
    (outcome,) = bench.adapter.extend_many([(consumer, held)])
    if outcome is not None:
        raise outcome


#: First those that ask the backend in any case: a consumer may refuse the others by itself.
_FENCED: Final[Mapping[str, _Call]] = {
    "extending it with those of other slots": _extends_among_others,
    **{what: _CALLS[what] for what in reversed(list(_CALLS))},
}


def _refused(bench: Bench, what: str, consumer: Consumer, held: Reservation, when: str) -> None:
    text = f"{what}, of {bench.label(held.body)}, {when}"
    error = bench.refused(LeaseLost, text, lambda: _FENCED[what](bench, consumer, held))
    bench.check(bool(error.why), "the refusal does not say why")


@attrs.frozen
class _Held:
    """A job in a queue of its own, and who holds it."""

    message: Message
    consumer: Consumer
    held: Reservation


def _one_for_each(bench: Bench, *others: str) -> dict[str, _Held]:
    """Let each call have a job, in a queue of its own; its consumer may have other queues before it."""
    found = {}
    for what in _CALLS:
        message = bench.put(queue=bench.queue_named(what.replace(" ", "_")))
        consumer = bench.consumer(*others, message.queue)
        found[what] = _Held(message, consumer, bench.gets(consumer, message, "the job"))
    return found


def _done(bench: Bench, what: str, job: _Held) -> Reservation | None:
    """Make a call that must be accepted; return what it reserves."""
    text = f"{what}, of {bench.label(job.message.body)}"
    answer = bench.call(text, lambda: _CALLS[what](bench, job.consumer, job.held), "accepted")
    return answer if isinstance(answer, Reservation) else None


def _comes_back(what: str) -> bool:
    return "rollback" in what or "snooze" in what or what == "giving it back"


@case(
    "settle.only_once",
    "S7",
    "S8",
    waits=True,
    why="What ended once is ended again: a committed job comes back, a buried or a waiting one is gone.",
)
def only_once(bench: Bench) -> None:
    jobs = _one_for_each(bench)
    again: dict[str, Reservation] = {}
    for first, job in jobs.items():
        if first == "extending it":
            continue
        following = _done(bench, first, job)
        if following is not None:
            bench.equal(following.body, job.message.body, "the only job of its queue")
            again[first] = following
        for what in _CALLS:
            _refused(bench, what, job.consumer, job.held, f"after {first}")
    bench.let_pass(bench.slack)
    for first, job in jobs.items():
        consumer = bench.consumer(job.message.queue)
        if first in again:
            bench.nothing(consumer, "its consumer has it again")
            bench.settle(job.consumer, again[first])
        elif first == "extending it":
            bench.nothing(consumer, "the job is held")
        elif _comes_back(first):
            bench.settle(consumer, bench.gets(consumer, job.message, f"the job after {first}"))
        bench.check(
            first == "extending it" or bench.reserve(consumer) is None, f"the job came again after {first}"
        )


@case(
    "settle.old_beside_new",
    "S7",
    waits=True,
    why="A slot that gets the same job again has two reservations of one id, and only the newer one counts.",
)
def old_beside_new(bench: Bench) -> None:
    jobs = _one_for_each(bench)
    for job in jobs.values():
        bench.settle(job.consumer, job.held, Rollback())
    bench.let_pass(bench.slack)
    for what, job in jobs.items():
        held = bench.gets(job.consumer, job.message, "the job after its rollback")
        _refused(bench, what, job.consumer, job.held, "with the reservation before the rollback")
        bench.extend(job.consumer, held)
        bench.nothing(bench.consumer(job.message.queue), "the job is held")
        bench.settle(job.consumer, held)


@case(
    "settle.old_after_kick",
    "S7",
    needs=(Buried,),
    why="A fence made of attempts is passed once they are counted from zero again.",
)
def old_after_kick(bench: Bench) -> None:
    jobs = _one_for_each(bench)
    for what, job in jobs.items():
        bench.settle(job.consumer, job.held, Bury("error", "it failed"))
        (buried,) = bench.buried(queue=job.message.queue)
        bench.kick(buried.id, job.message.queue)
        other = bench.consumer(job.message.queue)
        held = bench.gets(other, job.message, "the kicked job")
        _refused(bench, what, job.consumer, job.held, "with the reservation before its burial")
        bench.extend(other, held)
        bench.nothing(bench.consumer(job.message.queue), "the job is held by its second holder")
        bench.settle(other, held)


@case(
    "settle.of_second_queue",
    "S8",
    "S9",
    waits=True,
    why="A consumer of two queues settles in its first one what came from the second.",
)
def of_second_queue(bench: Bench) -> None:
    jobs = _one_for_each(bench, bench.queue)
    for what, job in jobs.items():
        bench.equal(job.held.queue, job.message.queue, "the reservation's queue")
        following = _done(bench, what, job)
        if following is not None:
            bench.settle(job.consumer, following)
    bench.let_pass(bench.slack)
    bench.nothing(bench.consumer(), "no job was ever put into the first queue")
    for what, job in jobs.items():
        consumer = bench.consumer(job.message.queue)
        if what == "extending it":
            bench.nothing(consumer, "the job is held")
            bench.settle(job.consumer, job.held)
        elif _comes_back(what) and "reserves" not in what:
            bench.settle(
                consumer, bench.gets(consumer, job.message, f"the job, in its own queue, after {what}")
            )
        bench.check(bench.reserve(consumer) is None or "reserves" in what, f"the job came again after {what}")


@case(
    "consumer.cancel_keeps_hold",
    "S7",
    "S9",
    why="A worker that is told to stop lets its job finish, which takes more than one lease.",
)
def cancel_keeps_hold(bench: Bench) -> None:
    for what, job in _one_for_each(bench).items():
        bench.call(f"{bench.worker(job.consumer)} is cancelled", job.consumer.cancel)
        bench.extend(job.consumer, job.held)
        bench.nothing(bench.consumer(job.message.queue), "a cancelled worker still holds its job")
        bench.put(queue=job.message.queue)
        bench.check(_done(bench, what, job) is None, "a cancelled worker was given a job with its settle")
        if what == "extending it":
            bench.settle(job.consumer, job.held)
        bench.check(bench.reserve(job.consumer) is None, "a cancelled worker reserved a job")
        bench.taken(bench.consumer(job.message.queue))


@case(
    "consumer.closed_takes_nothing",
    "S9",
    why="A job that a closed consumer takes is with nobody, until its lease ends.",
)
def closed_takes_nothing(bench: Bench) -> None:
    closed, other = bench.consumer(), bench.consumer()
    kept = bench.put()
    held = bench.gets(other, kept, "the job")
    bench.call(f"{bench.worker(closed)} is closed", closed.close)
    bench.nothing(bench.consumer(), "another consumer holds it, which is open")
    message = bench.put()
    try:
        taken = closed.reserve(timedelta(0))
    except AdapterError as exc:
        bench.history.add(f"{bench.worker(closed)} reserves -> {type(exc).__name__}: {exc}")
    else:
        bench.check(taken is None, "a closed consumer reserved a job")
    bench.gets(bench.consumer(), message, "the job, which the closed consumer must not take")
    bench.settle(other, held)


@case(
    "lease.late_calls_refused",
    "S7",
    needs=(LEASE,),
    waits=True,
    why="Each way to settle is a script or a statement of its own, and one does not look at the lease.",
)
def late_calls_refused(bench: Bench) -> None:
    jobs = _one_for_each(bench)
    waiting = {what: bench.put(queue=job.message.queue, priority=1) for what, job in jobs.items()}
    bench.let_pass(bench.lease + bench.slack + MICRO)
    for what, job in jobs.items():
        _refused(bench, what, job.consumer, job.held, "after its lease")
        # Nothing was settled, and nothing was taken with it.
        came = bench.drain(bench.consumer(job.message.queue))
        wanted = sorted(bench.labels([job.message.body, waiting[what].body]))
        bench.equal(sorted(bench.labels(came)), wanted, f"jobs in its queue after {what} was refused")
        fresh = bench.put(queue=job.message.queue)
        bench.settle(job.consumer, bench.gets(job.consumer, fresh, "another job, for the slot that lost one"))


@case(
    "lease.fenced_calls",
    "S7",
    needs=(LEASE, FENCING),
    waits=True,
    why="A process that was stopped for a while trusts its own idea of time, in whatever it calls first.",
)
def fenced_calls(bench: Bench) -> None:
    jobs = _one_for_each(bench)
    bench.let_pass(bench.lease + bench.slack + MICRO)
    others = {}
    for what, job in jobs.items():
        other = bench.consumer(job.message.queue)
        others[what] = other, bench.gets(other, job.message, "the job whose lease has ended")
        bench.put(queue=job.message.queue, priority=1)
    for what, job in jobs.items():
        # As if the local check had been passed just before the process was stopped.
        job.held.deadline = bench.clock.monotonic() + 3600
        _refused(bench, what, job.consumer, job.held, "which another holds")
        other, held = others[what]
        bench.extend(other, held)
        bench.taken(bench.consumer(job.message.queue))  # the second job; with it the queue holds no ready one
        bench.nothing(bench.consumer(job.message.queue), "the job is held by its second holder")
        bench.settle(other, held)


@case(
    "settle.old_beside_next_job",
    "S7",
    needs=(FENCING,),
    why="A job comes again under its id, in the place of one that is done, and the old holder acts on it.",
)
def old_beside_next_job(bench: Bench) -> None:
    for what in _FENCED:
        message = bench.put()
        first = bench.consumer()
        old = bench.gets(first, message, "the job")
        bench.settle(first, old)
        _next_is_fenced(bench, message, first, old, [what])


@case(
    "lease.fenced_from_next_job",
    "S7",
    needs=(LEASE, FENCING),
    waits=True,
    why="A process that was stopped wakes up when its job is done, and a new one has its id and its place.",
)
def fenced_from_next_job(bench: Bench) -> None:
    message = bench.put()
    first, second = bench.consumer(), bench.consumer()
    old = bench.gets(first, message, "the job")
    bench.let_pass(bench.lease + bench.slack + MICRO)
    bench.settle(second, bench.gets(second, message, "the job whose lease has ended"))
    # As if the local check had been passed just before the process was stopped.
    old.deadline = bench.clock.monotonic() + 3600
    _next_is_fenced(bench, message, first, old, _FENCED)


def _next_is_fenced(
    bench: Bench, before: Message, first: Consumer, old: Reservation, calls: Iterable[str]
) -> None:
    """Enqueue a job that is done again, let another take it, and try its first reservation on it."""
    following = bench.put(job_id=before.id)
    other = bench.consumer()
    held = bench.gets(other, following, "the job that came again")
    for what in calls:
        _refused(bench, what, first, old, "which was committed and came again under its id")
        bench.nothing(bench.consumer(), "the job that came again is held")
    bench.extend(other, held)
    bench.settle(other, held)

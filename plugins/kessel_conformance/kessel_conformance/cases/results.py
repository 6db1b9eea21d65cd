"""Results: what a settlement carries comes back (facet `Results`)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_core.contract import Buried, Bury, Commit, Message, Results

#: As the core encodes results, with what careless code changes: blanks, other letters, line ends.
DONE = '{"v":1,"status":"success","value":"größer \\r\\n"} '.encode()
FAILED = b'{"v":1,"status":"failed","reason":"error"}'


def _is_kept(bench: Bench, message: Message, expected: bytes | None, when: str) -> None:
    label = bench.label(message.body)
    found = bench.call(f"the result of {label}", lambda: bench.facet(Results).result(message.id), "none")
    bench.equal(found, expected, f"the result of {label} {when}")


@case(
    "results.of_commit",
    "S8",
    needs=(Results,),
    why="Whoever asks for a result wants this one, and no other.",
)
def of_commit(bench: Bench) -> None:
    consumer = bench.consumer()
    first = bench.put()
    bench.settle(consumer, bench.gets(consumer, first, "the first job"), Commit(DONE))
    second = bench.put()
    bench.settle(consumer, bench.gets(consumer, second, "the second job"), Commit(FAILED))
    _is_kept(bench, first, DONE, "after its commit")
    _is_kept(bench, second, FAILED, "after its commit")


@case(
    "results.of_burial",
    "S8",
    needs=(Results, Buried),
    why="A failure is a result as well; and after a kick the newest one counts.",
)
def of_burial(bench: Bench) -> None:
    message = bench.put()
    consumer = bench.consumer()
    bench.settle(consumer, bench.gets(consumer, message, "the job"), Bury("error", "it failed", FAILED))
    _is_kept(bench, message, FAILED, "after its burial")
    (stored,) = bench.buried()
    bench.kick(stored.id)
    bench.settle(consumer, bench.gets(consumer, message, "the kicked job"), Commit(DONE))
    _is_kept(bench, message, DONE, "after its commit")


@case(
    "results.with_next_reserve",
    "S8",
    needs=(Results,),
    why="A busy worker settles and reserves in one call, which is code of its own, and may lose the result.",
)
def with_next_reserve(bench: Bench) -> None:
    messages = {message.body: message for message in (bench.put(), bench.put())}
    consumer = bench.consumer()
    held = bench.taken(consumer)
    following = bench.settle_and_reserve(consumer, held, Commit(DONE))
    bench.check(following is not None and following.body in messages, "the next job did not come")
    assert following is not None
    bench.settle_and_reserve(consumer, following, Bury("error", "it failed", FAILED))
    _is_kept(bench, messages[held.body], DONE, "after its commit")
    _is_kept(bench, messages[following.body], FAILED, "after its burial")


@case(
    "results.none_yet",
    "S8",
    needs=(Results,),
    why="Whoever asks too early, or for something else, must not get what looks like a result.",
)
def none_yet(bench: Bench) -> None:
    consumer, other = bench.consumer(), bench.consumer()
    running = bench.put()
    held = bench.gets(consumer, running, "the job")
    quiet = bench.put()
    bench.settle(other, bench.gets(other, quiet, "the other job"), Commit())
    _is_kept(bench, running, None, "while it runs")
    _is_kept(bench, quiet, None, "after a commit without one")
    bench.settle(consumer, held)
    result = bench.facet(Results).result
    found = bench.call("the result of an unknown id", lambda: result("no-such-id"), "none")
    bench.equal(found, None, "the result of an unknown id")

"""Compare kessel-redis with bare loops over the same connections, on the same server.

    python benchmarks/bench_redis.py              # a minute
    python benchmarks/bench_redis.py --peers P    # also Huey, see peers.py
    python benchmarks/bench_redis.py --check      # exit 1 if a target is missed

The floors are `LPUSH`, and `LMOVE` with `LREM`, the usual loop that loses no job: two round trips. The server
is a private one, without a file and with `appendfsync always`, on a processor of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from kessel_redis.adapter import RedisAdapter
from kessel_redis.connecting import connected
from kessel_redis.link import Link
from kessel_redis.scripts import packed
from kessel_redis.testing import Redis
from measuring import (
    TIMES,
    Comparison,
    Side,
    apart,
    arguments,
    beside_peers,
    drain,
    each,
    in_turn,
    judged,
    late,
    show,
    waiting,
)

from kessel_core import SystemClock
from kessel_core.contract import AdapterContext, Message

BODY = b"x" * 300
SLOTS, MANY_SLOTS = 8, 200


@contextmanager
def opened(server: Redis) -> Iterator[RedisAdapter]:
    context = AdapterContext(clock=SystemClock())
    with closing(RedisAdapter(server.options(), context)) as adapter:
        yield adapter


def bare_drain(link: Link) -> None:
    move = packed(b"LMOVE", b"bare", b"held", b"RIGHT", b"LEFT")
    while (job := link.run(move, 1)[0]) is not None:
        link.run(packed(b"LREM", b"held", b"1", job), 1)


def compare(server: Redis, jobs: int, rounds: int) -> Iterator[Comparison]:
    """Measure all sides in turn; yield what has a target."""
    many = [Message(f"m{number}", "q", BODY, 1) for number in range(jobs)]
    single = [Message(f"s{number}", "q", BODY, 1) for number in range(jobs)]
    shared = [Message(f"m{number}", "q", BODY, 1) for number in range(TIMES * jobs)]
    push = packed(b"LPUSH", b"bare", BODY)
    with closing(connected(server.options())) as link, opened(server) as adapter:

        def empty() -> None:
            adapter.purge("q")

        def fill() -> None:
            adapter.enqueue_many(many)

        def share() -> None:
            adapter.enqueue_many(shared)

        sides = {
            "bare LPUSH": Side(lambda: [link.run(push, 1) for _ in range(jobs)]),
            "bare LMOVE + LREM": Side(lambda: bare_drain(link)),
            "enqueue": Side(lambda: each(adapter.enqueue, single), empty),
            "enqueue_many": Side(lambda: adapter.enqueue_many(many), empty),
            "drain": Side(lambda: drain(adapter)),
            f"drain, {SLOTS} slots": Side(lambda: drain(adapter), share, SLOTS, TIMES * jobs),
            f"drain, {MANY_SLOTS} slots": Side(lambda: drain(adapter), share, MANY_SLOTS, TIMES * jobs),
        }
        assert server.process is not None
        found = in_turn(sides, jobs, rounds, server.process.pid)
    show(found)

    def ratio(one: str, other: str) -> float:
        return found[one].rate / found[other].rate

    one, eight = "drain", f"drain, {SLOTS} slots"
    print(f"  enqueue, of a bare LPUSH: {ratio('enqueue', 'bare LPUSH'):.2f}")
    print(f"  enqueue_many, of enqueue: {ratio('enqueue_many', 'enqueue'):.1f}")
    yield Comparison("drain, of a bare LMOVE + LREM", ratio(one, "bare LMOVE + LREM"), 1.3, is_most=False)
    yield Comparison(f"drain with {SLOTS} slots, of one slot", ratio(eight, one), 3, is_most=False)
    yield Comparison("us of this process for a drained job", found[one].own, 50)


def waits(server: Redis, seconds: float) -> Iterator[Comparison]:
    """Measure slots that wait."""
    with opened(server) as adapter:
        p50, p99 = late(adapter, server.url())
        print(f"  to a slot of another process that waits: {p50:.2f} ms (p50), {p99:.2f} ms (p99)")
        yield Comparison("ms to a slot of another process that waits", p50, 0.5)
        idle = waiting(server.url(), MANY_SLOTS, seconds, counter(adapter))
    print(f"  {MANY_SLOTS} slots that wait for {seconds:g} s: {idle}")
    yield Comparison(f"connections of {MANY_SLOTS} slots that wait", idle.connections, 12)
    yield Comparison("megabytes", idle.megabytes, 45)
    yield Comparison("percent of a core", idle.share, 0.2)


def counter(adapter: RedisAdapter) -> Callable[[], int]:
    """Return what tells the commands of the server so far, without its own."""
    asked = 0

    def count() -> int:
        nonlocal asked
        done = int(adapter.database.ask().info["total_commands_processed"])
        asked += 1
        return done - asked

    return count


def main() -> int:
    """Measure, print, compare."""
    options = arguments(__doc__, "also Huey, if this interpreter has it").parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    is_met = True
    for name, settings in (("no file", {"appendonly": "no"}), ("appendfsync always", {})):
        server = Redis(**settings)
        try:
            server.start()
            assert server.process is not None
            apart(server.process.pid)
            print(f"{server.version}, {name}, {options.jobs} jobs of {len(BODY)} bytes")
            is_met &= judged([*compare(server, options.jobs, options.rounds)])
            if settings:
                is_met &= judged([*waits(server, options.seconds)])
                if options.peers:
                    beside_peers(options.peers, ("huey",), server.url(), options.jobs, options.rounds)
        finally:
            server.close()
    return 1 if options.check and not is_met else 0


if __name__ == "__main__":
    raise SystemExit(main())

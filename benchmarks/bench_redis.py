"""Compare kessel-redis with bare loops over the same connections, on the same server.

The floors are `LPUSH`, and `LMOVE` with `LREM`, the usual loop that loses no job: two round trips. The server
is a private one, without a file and with `appendfsync always`, on a processor of its own: where it shares one
with the client, a round trip costs a fraction, and what is compared is the scheduler.

Usage: python benchmarks/bench_redis.py [JOBS]
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

from kessel_redis.adapter import RedisAdapter
from kessel_redis.connecting import connected
from kessel_redis.link import Link
from kessel_redis.scripts import packed
from kessel_redis.testing import Redis

from kessel_core import SystemClock
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterContext, Message

BODY = b"x" * 300
SLOTS = 8
IDLE = 200


def rate(count: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def opened(server: Redis, **options: object) -> RedisAdapter:
    return RedisAdapter(server.options(**options), AdapterContext(clock=SystemClock()))


def main(jobs: int) -> None:
    for name, settings in (("no file", {"appendonly": "no"}), ("appendfsync always", {})):
        server = Redis(**settings)
        try:
            server.start()
            apart(server)
            compare(server, name, jobs)
            if not settings:
                continue
            late(server)
            idle(server)
        finally:
            server.close()


def apart(server: Redis) -> None:
    """Give the server the first processor, and the client the others."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        assert server.process is not None
        os.sched_setaffinity(server.process.pid, {0})
        os.sched_setaffinity(0, set(range(1, os.cpu_count() or 1)))


def bare_drain(link: Link) -> None:
    move = packed(b"LMOVE", b"bare", b"held", b"RIGHT", b"LEFT")
    while (job := link.run(move, 1)[0]) is not None:
        link.run(packed(b"LREM", b"held", b"1", job), 1)


def compare(server: Redis, name: str, jobs: int) -> None:
    with closing(connected(server.options())) as link:
        push = packed(b"LPUSH", b"bare", BODY)
        bare_put = rate(jobs, lambda: [link.run(push, 1) for _ in range(jobs)])
        bare_take = rate(jobs, lambda: bare_drain(link))
    with closing(opened(server)) as adapter:
        one = rate(jobs, lambda: [adapter.enqueue(Message(f"s{n}", "q", BODY, 1)) for n in range(jobs)])
        adapter.purge("q")
        many = [Message(f"m{number}", "q", BODY, 1) for number in range(5 * jobs)]
        bulk = rate(len(many), lambda: adapter.enqueue_many(many))
        adapter.purge("q")
        adapter.enqueue_many(many[:jobs])
        cpu = time.process_time()
        drained = rate(jobs, lambda: drain(adapter))
        cpu = (time.process_time() - cpu) / jobs * 1e6
        adapter.enqueue_many(many[:jobs])
        slots = [threading.Thread(target=drain, args=(adapter,)) for _ in range(SLOTS)]
        eight = rate(jobs, lambda: [[t.start() for t in slots], [t.join() for t in slots]])
    print(f"{name}, {jobs} jobs of {len(BODY)} bytes")
    print(f"  enqueue    {one:8.0f}/s  {one / bare_put:5.2f} of a bare LPUSH")
    print(f"  many       {bulk:8.0f}/s  {bulk / one:5.1f} times one by one")
    share = drained / bare_take
    print(f"  drain      {drained:8.0f}/s  {share:5.2f} of a bare LMOVE + LREM; {cpu:.0f} us of the client")
    print(f"  {SLOTS} slots    {eight:8.0f}/s  {eight / drained:5.2f} times one slot")


def drain(adapter: RedisAdapter) -> None:
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    while held is not None:
        held = consumer.settle_and_reserve(held, COMMIT)
    consumer.close()


_PRODUCER = """
import sys, time
from kessel_core import SystemClock
from kessel_core.contract import AdapterContext, Message
from kessel_redis.adapter import RedisAdapter
from kessel_redis.options import RedisOptions
options = RedisOptions(host="127.0.0.1", port=int(sys.argv[1]))
adapter = RedisAdapter(options, AdapterContext(clock=SystemClock()))
for number in range(int(sys.argv[2])):
    time.sleep(0.005)
    adapter.enqueue(Message(f"late{number}", "late", b"%.6f" % time.time(), 1))
adapter.close()
"""


def late(server: Redis, count: int = 500) -> None:
    """Measure how long a job of another process takes to a slot that waits."""
    spans = []
    with closing(opened(server)) as adapter:
        consumer = adapter.consumer(["late"])
        consumer.reserve(timedelta(seconds=0.1))
        with subprocess.Popen([sys.executable, "-c", _PRODUCER, str(server.port), str(count)]):
            for _ in range(count):
                held = consumer.reserve(timedelta(seconds=20))
                assert held is not None
                spans.append(time.time() - float(held.body))
                consumer.settle(held, COMMIT)
        consumer.close()
    spans.sort()
    p50, p99 = (spans[int(len(spans) * share)] * 1000 for share in (0.5, 0.99))
    print(f"  to a slot of another process that waits: {p50:.2f} ms (p50), {p99:.2f} ms (p99)")


def idle(server: Redis, seconds: float = 10.0) -> None:
    """Measure what slots cost that wait."""
    with closing(opened(server)) as adapter:
        consumers = [adapter.consumer(["idle"]) for _ in range(IDLE)]
        slots = [threading.Thread(target=one.reserve, args=(timedelta(seconds=60),)) for one in consumers]
        for slot in slots:
            slot.start()
        time.sleep(1)
        before, begun = commands(adapter), time.process_time()
        time.sleep(seconds)
        used, asked = time.process_time() - begun, commands(adapter) - before - 1
        count = adapter.database.pool.count + 1
        for one in consumers:
            one.cancel()
        for slot in slots:
            slot.join()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  {IDLE} slots that wait: {count} connections, {used / seconds:.2%} of a core,"
        f" {asked} commands in {seconds:g} s, {memory:.0f} MB at most with all of the above"
    )


def commands(adapter: RedisAdapter) -> int:
    return int(adapter.database.ask().info["total_commands_processed"])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)

"""Compare kessel-postgres with bare loops of psycopg on the same server.

The floors lose a job at a crash, or the job of a worker that dies: `INSERT`, and `DELETE ... SKIP LOCKED
RETURNING`, each as its own transaction. The server is a private one, with `fsync` on and off.

Usage: python benchmarks/bench_postgres.py [JOBS]
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing

import psycopg
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.testing import Postgres

from kessel_core import SystemClock
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterContext, Message

BODY = b"x" * 300
SLOTS = 8


def rate(count: int, work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return count / (time.perf_counter() - begun)


def main(jobs: int) -> None:
    for fsync in ("off", "on"):
        server = Postgres(fsync=fsync, full_page_writes=fsync)
        try:
            server.start()
            server.install()
            compare(server, fsync, jobs)
        finally:
            server.close()


def compare(server: Postgres, fsync: str, jobs: int) -> None:
    with closing(psycopg.connect(server.url(), autocommit=True)) as bare:
        bare.execute("CREATE TABLE bare (seq bigserial PRIMARY KEY, body bytea)")
        put = "INSERT INTO bare (body) VALUES (%b)"
        bare_put = rate(jobs, lambda: [bare.execute(put, (BODY,)) for _ in range(jobs)])
        take = (
            "DELETE FROM bare WHERE seq = (SELECT seq FROM bare ORDER BY seq LIMIT 1 FOR UPDATE SKIP LOCKED)"
            " RETURNING body"
        )
        bare_take = rate(jobs, lambda: [bare.execute(take).fetchone() for _ in range(jobs)])
    with closing(PostgresAdapter(server.options(), AdapterContext(clock=SystemClock()))) as adapter:
        one = rate(jobs, lambda: [adapter.enqueue(Message(f"s{n}", "q", BODY, 1)) for n in range(jobs)])
        adapter.purge("q")
        many = [Message(f"m{number}", "q", BODY, 1) for number in range(5 * jobs)]
        bulk = rate(len(many), lambda: adapter.enqueue_many(many))
        adapter.purge("q")

        def fill() -> None:
            adapter.enqueue_many(many[:jobs])

        fill()
        cpu = time.process_time()
        drained = rate(jobs, lambda: drain(adapter))
        cpu = (time.process_time() - cpu) / jobs * 1e6
        fill()
        slots = [threading.Thread(target=drain, args=(adapter,)) for _ in range(SLOTS)]
        eight = rate(jobs, lambda: [[t.start() for t in slots], [t.join() for t in slots]])
    print(f"fsync={fsync}, {jobs} jobs of {len(BODY)} bytes")
    print(f"  enqueue    {one:8.0f}/s  {one / bare_put:5.2f} of a bare INSERT")
    print(f"  many       {bulk:8.0f}/s  {bulk / one:5.1f} times one by one")
    share = drained / bare_take
    print(f"  drain      {drained:8.0f}/s  {share:5.2f} of a bare DELETE; {cpu:.0f} us of the client")
    print(f"  {SLOTS} slots    {eight:8.0f}/s  {eight / drained:5.2f} times one slot")


def drain(adapter: PostgresAdapter) -> None:
    consumer = adapter.consumer(["q"])
    held = consumer.reserve(NO_PAUSE)
    while held is not None:
        held = consumer.settle_and_reserve(held, COMMIT)
    consumer.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)

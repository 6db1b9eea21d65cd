"""Compare kessel-postgres with bare loops of psycopg on the same server.

    python benchmarks/bench_postgres.py              # a few minutes
    python benchmarks/bench_postgres.py --million    # also with a million waiting jobs, a minute more
    python benchmarks/bench_postgres.py --peers P    # also procrastinate and pgqueuer; see peers.py
    python benchmarks/bench_postgres.py --check      # exit 1 if a target is missed

The floors lose a job at a crash, or the job of a worker that dies: `INSERT`, and `DELETE ... SKIP LOCKED
RETURNING`, each as its own transaction. The server is a private one, with `fsync` on and off, on a processor
of its own; with `--free` the kernel places it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
from kessel_postgres.adapter import PostgresAdapter
from kessel_postgres.testing import PgBouncer, Postgres
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
from kessel_core.contract import COMMIT, NO_PAUSE, AdapterContext, Message

BODY = b"x" * 300
SLOTS, MANY_SLOTS = 8, 200
PUT = "INSERT INTO bare (body) VALUES (%b)"
FILL = "INSERT INTO bare (body) SELECT %b FROM generate_series(1, %s)"
TAKE = (
    "DELETE FROM bare WHERE seq = (SELECT seq FROM bare ORDER BY seq LIMIT 1 FOR UPDATE SKIP LOCKED)"
    " RETURNING body"
)


class Bare:
    """What somebody would write without kessel, on a connection for each slot."""

    def __init__(self, server: Postgres) -> None:
        self.all = [psycopg.connect(server.url(), autocommit=True) for _ in range(SLOTS)]
        self.idle = list(self.all)
        self.first = self.all[0]
        self.first.execute("CREATE TABLE bare (seq bigserial PRIMARY KEY, body bytea)")

    def put(self, jobs: int) -> None:
        for _ in range(jobs):
            self.first.execute(PUT, (BODY,))

    def fill(self, jobs: int) -> None:
        self.first.execute(FILL, (BODY, jobs))
        self.vacuum()

    def take(self) -> None:
        connection = self.idle.pop()
        while connection.execute(TAKE).fetchone() is not None:
            pass
        self.idle.append(connection)

    def vacuum(self) -> None:
        """Remove the rows of the last round, so that no side walks over those of another."""
        self.first.execute("VACUUM")

    def close(self) -> None:
        for connection in self.all:
            connection.close()


def pid_of(server: Postgres) -> int:
    assert server.process is not None
    return server.process.pid


def messages(name: str, jobs: int, priority: int = 1) -> list[Message]:
    return [Message(f"{name}{number}", "q", BODY, priority) for number in range(jobs)]


@contextmanager
def opened(server: Postgres, **options: Any) -> Iterator[PostgresAdapter]:
    context = AdapterContext(clock=SystemClock())
    with closing(PostgresAdapter(server.options(**options), context)) as adapter:
        yield adapter


def compare(
    server: Postgres, fsync: str, jobs: int, rounds: int, *, is_apart: bool = True
) -> Iterator[Comparison]:
    """Measure all sides in turn; yield what has a target."""
    pooler, pid = None, pid_of(server)
    with suppress(RuntimeError):  # it is not installed
        pooler = PgBouncer(server)
        if is_apart:
            apart(pooler.process.pid)
    many, single, shared = messages("m", jobs), messages("s", jobs), messages("m", TIMES * jobs)
    with closing(Bare(server)) as bare, opened(server) as adapter:

        def empty() -> None:
            adapter.purge("q")
            bare.vacuum()

        def fill() -> None:
            adapter.enqueue_many(many)
            bare.vacuum()

        def share() -> None:
            adapter.enqueue_many(shared)
            bare.vacuum()

        sides = {
            "bare INSERT": Side(lambda: bare.put(jobs)),
            "bare DELETE": Side(bare.take),
            f"bare DELETE, {SLOTS} slots": Side(
                bare.take, lambda: bare.fill(TIMES * jobs), SLOTS, TIMES * jobs
            ),
            "enqueue": Side(lambda: each(adapter.enqueue, single), empty),
            "enqueue_many": Side(lambda: adapter.enqueue_many(many), empty),
            "drain": Side(lambda: drain(adapter)),
            f"drain, {SLOTS} slots": Side(lambda: drain(adapter), share, SLOTS, TIMES * jobs),
            f"drain, {MANY_SLOTS} slots": Side(lambda: drain(adapter), share, MANY_SLOTS, TIMES * jobs),
        }
        if pooler is None:
            found = in_turn(sides, jobs, rounds, pid)
        else:
            with closing(pooler), opened(server, port=pooler.port, pooler=True) as pooled:
                sides["drain, pooler"] = Side(lambda: drain(pooled), fill)
                found = in_turn(sides, jobs, rounds, pid)
    show(found)

    def ratio(one: str, other: str) -> float:
        return found[one].rate / found[other].rate

    one, eight, bare_one = "drain", f"drain, {SLOTS} slots", "bare DELETE"
    if fsync == "on":
        yield Comparison("enqueue, of a bare INSERT", ratio("enqueue", "bare INSERT"), 0.75, is_most=False)
        yield Comparison("enqueue_many, of enqueue", ratio("enqueue_many", "enqueue"), 15, is_most=False)
    yield Comparison("drain, of a bare DELETE", ratio(one, bare_one), 0.7, is_most=False)
    if pooler is not None:
        yield Comparison("the same behind a pooler", ratio("drain, pooler", bare_one), 0.5, is_most=False)
    if fsync == "on":
        yield Comparison(f"drain with {SLOTS} slots, of one slot", ratio(eight, one), 2.5, is_most=False)
    print(f"  {SLOTS} slots of one, bare: {ratio(f'bare DELETE, {SLOTS} slots', bare_one):.2f}")
    print(f"  {SLOTS} slots, of {SLOTS} bare: {ratio(eight, f'bare DELETE, {SLOTS} slots'):.2f}")
    yield Comparison(
        f"drain with {MANY_SLOTS} slots, of {SLOTS}",
        ratio(f"drain, {MANY_SLOTS} slots", eight),
        1,
        is_most=False,
    )
    yield Comparison("us of this process for a drained job", found[one].own, 50)


def waits(server: Postgres, seconds: float) -> Iterator[Comparison]:
    """Measure slots that wait."""
    with opened(server) as adapter:
        p50, p99 = late(adapter, server.url())
    print(f"  to a slot of another process that waits: {p50:.2f} ms (p50), {p99:.2f} ms (p99)")
    yield Comparison("ms to a slot of another process that waits", p50, 2)
    with closing(psycopg.connect(server.url(), autocommit=True)) as watching:
        idle = waiting(server.url(), MANY_SLOTS, seconds, counter(watching))
    print(f"  {MANY_SLOTS} slots that wait for {seconds:g} s: {idle}")
    yield Comparison(f"connections of {MANY_SLOTS} slots that wait", idle.connections, 12)
    yield Comparison("megabytes", idle.megabytes, 45)
    yield Comparison("percent of a core", idle.share, 0.2)


def counter(connection: psycopg.Connection[tuple[object, ...]]) -> Callable[[], int]:
    """Return what tells the transactions of the database so far, a few seconds late, without its own."""
    asked = 0

    def count() -> int:
        nonlocal asked
        statement = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        row = connection.execute(statement).fetchone()
        assert row is not None
        asked += 1
        return int(str(row[0])) - asked

    return count


def million(server: Postgres, jobs: int, rounds: int) -> Iterator[Comparison]:
    """Compare the drain of some jobs with ten, and with a million, less urgent ones behind them."""
    figures = {}
    with opened(server) as adapter:
        consumer = adapter.consumer(["q"])

        def some() -> None:
            held = consumer.reserve(NO_PAUSE)
            for _ in range(jobs - 1):
                assert held is not None
                held = consumer.settle_and_reserve(held, COMMIT)
            assert held is not None
            consumer.settle(held, COMMIT)

        stored = 0
        for waiting_jobs in (10, 1_000_000):
            for first in range(stored, waiting_jobs, 50_000):
                last = min(waiting_jobs, first + 50_000)
                behind = [Message(f"b{number}", "q", BODY, 9) for number in range(first, last)]
                assert not any(adapter.enqueue_many(behind))
            stored = waiting_jobs
            with closing(psycopg.connect(server.url(), autocommit=True)) as connection:
                connection.execute("VACUUM ANALYZE")
                connection.execute("CHECKPOINT")
            os.sync()
            urgent = messages("u", jobs)
            side = Side(some, partial(adapter.enqueue_many, urgent))
            figures[f"{waiting_jobs:,} waiting"] = in_turn({"": side}, jobs, rounds, pid_of(server))[""]
        consumer.close()
    show(figures)
    few, many = figures.values()
    yield Comparison("time of a job with a million waiting, of ten", few.rate / many.rate, 1.3)


def main() -> int:
    """Measure, print, compare."""
    parser = arguments(__doc__, "also frameworks that this interpreter has")
    parser.add_argument("--free", action="store_true", help="let the kernel place server and client")
    parser.add_argument("--million", action="store_true", help="also with a million waiting jobs")
    options = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    is_met = True
    for fsync in ("on", "off"):
        server = Postgres(fsync=fsync, full_page_writes=fsync)
        try:
            server.start()
            server.install()
            if not options.free:
                apart(pid_of(server))
            print(f"{server.version}, fsync={fsync}, {options.jobs} jobs of {len(BODY)} bytes")
            is_met &= judged(
                [*compare(server, fsync, options.jobs, options.rounds, is_apart=not options.free)]
            )
            if fsync == "on":
                is_met &= judged([*waits(server, options.seconds)])
                if options.peers:
                    names = ("procrastinate", "pgqueuer")
                    beside_peers(options.peers, names, server.url(), options.jobs // 2, options.rounds)
                if options.million:
                    is_met &= judged([*million(server, options.jobs // 2, options.rounds)])
        finally:
            server.close()
    return 1 if options.check and not is_met else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Workers are killed before and after each step of a job: what it brings along is neither lost nor doubled.

Each job has a callback job and a follow-up. Small in every run; `KESSEL_CHAOS=1` runs two thousand jobs. The
seed is printed; give it as `KESSEL_SEED` to choose the same steps again.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import attrs
import psycopg
import pytest
import redis
from kessel_beanstalk.testing import Beanstalkd
from kessel_postgres.testing import Postgres
from kessel_redis.testing import Redis

from kessel_core import Job, JobManager, JobRequest
from kessel_core.contract import Buried
from kessel_core.runtime.following import follow_up_id
from tests.chaos import IS_LARGE, drawn_seed

PROGRAM = Path(__file__).with_name("killed.py")
#: Jobs that succeed, each with a callback job and a follow-up; a quarter as many fail, with a callback job.
JOBS = 2_000 if IS_LARGE else 60
#: How many workers die at each step, or more.
DEATHS = 5 if IS_LARGE else 1
WAVE = 20
LONG = 240.0 if IS_LARGE else 60.0
QUEUES = ("jobs", "callbacks", "follow-ups")

TYPES = ("work", "wrong", "told", "follow")
#: Before and after each call that a worker makes for a job, on every adapter.
CALLS = [
    f"{step} {kind}"
    for kind in TYPES
    for step in ("reserved", "before handler", "after handler", "before settle", "after settle")
]


class Queue(ABC):
    """What differs between the adapters."""

    #: Where workers find it.
    url: str
    #: The steps that only this adapter has, each between two others.
    steps: tuple[str, ...]

    @abstractmethod
    def repeats(self, expected: Expected) -> dict[str, int]:
        """Check what was stored; return how many times more than once, by queue."""


@attrs.frozen
class Expected:
    """What must have been stored, by what was requested."""

    jobs: list[Job]
    bad_jobs: list[Job]

    @property
    def good(self) -> list[str]:
        """Ids of the jobs that succeed."""
        return [job.id for job in self.jobs]

    @property
    def bad(self) -> list[str]:
        """Ids of the jobs that are buried."""
        return [job.id for job in self.bad_jobs]

    @property
    def told(self) -> set[tuple[str, ...]]:
        """Id of each callback job, and what it tells."""
        return {(follow_up_id(one, "callback"), "told", one.id, "success", one.id) for one in self.jobs} | {
            (follow_up_id(one, "callback"), "told", one.id, "failed", "None") for one in self.bad_jobs
        }

    @property
    def followed(self) -> set[tuple[str, ...]]:
        """Id of each follow-up, and of what it follows."""
        return {(follow_up_id(one, "follow-up 0"), "follow", one.id) for one in self.jobs}

    @property
    def runs(self) -> set[tuple[str, ...]]:
        """All that handlers must have been called with, at least once each."""
        own = {(one, "work") for one in self.good} | {(one, "wrong") for one in self.bad}
        return own | self.told | self.followed

    @property
    def once(self) -> set[tuple[str, str]]:
        """What must have happened to each id, exactly once."""
        ids = {run[0] for run in self.runs}
        return {("stored", one) for one in ids} | {("removed", one) for one in ids - {*self.bad}}


class OnSqlite(Queue):
    """A file whose own triggers count what is stored and removed, in the transactions that do it."""

    steps = (
        "COMMIT in reserve",
        *(f"{word} in settle work" for word in ("BEGIN", "DELETE", "INSERT", "COMMIT")),
        *(f"{word} in settle wrong" for word in ("BEGIN", "UPDATE", "INSERT", "COMMIT")),
        *(f"{word} in settle told" for word in ("BEGIN", "DELETE", "COMMIT")),
        *(f"{word} in settle follow" for word in ("BEGIN", "DELETE", "COMMIT")),
    )

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}?lease=1s&durability=process-crash"
        with JobManager(self.url, only_requests=True), closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                "CREATE TABLE seen (id, what);"
                "CREATE TRIGGER stored AFTER INSERT ON kessel_jobs"
                " BEGIN INSERT INTO seen VALUES (new.id, 'stored'); END;"
                "CREATE TRIGGER removed AFTER DELETE ON kessel_jobs"
                " BEGIN INSERT INTO seen VALUES (old.id, 'removed'); END"
            )

    def repeats(self, expected: Expected) -> dict[str, int]:
        with closing(sqlite3.connect(self.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            seen = Counter(connection.execute("SELECT what, id FROM seen").fetchall())
        assert seen == dict.fromkeys(expected.once, 1), "not exactly once"
        return dict.fromkeys(QUEUES, 0)


class OnBeanstalkd(Queue):
    """A server, which counts what was ever put into a tube as long as somebody watches it."""

    steps = (
        "reserve-with-timeout in reserve",
        *(f"{step} told" for step in ("before put", "put in put", "after put")),
        *(f"{step} follow" for step in ("before put", "put in put", "after put")),
        *(f"delete in settle {kind}" for kind in ("work", "told", "follow")),
        "bury in settle wrong",
    )

    def __init__(self, stack: ExitStack) -> None:
        server = Beanstalkd()
        stack.callback(server.kill)
        server.start()
        self.url = f"beanstalk://127.0.0.1:{server.port}"
        self.lines = stack.enter_context(
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), LONG)).makefile("rwb")
        )
        for queue in QUEUES:
            assert self.asked(f"watch {queue}").startswith("WATCHING")

    def asked(self, command: str) -> str:
        self.lines.write(f"{command}\r\n".encode())
        self.lines.flush()
        return self.lines.readline().decode()

    def put(self, queue: str) -> int:
        """How many jobs were ever put into a queue."""
        words = self.asked(f"stats-tube {queue}").split()
        text = self.lines.read(int(words[1]) + 2).decode()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("total-jobs:"))

    def repeats(self, expected: Expected) -> dict[str, int]:
        once = {
            "jobs": len(expected.good + expected.bad),
            "callbacks": len(expected.told),
            "follow-ups": len(expected.followed),
        }
        return {queue: self.put(queue) - number for queue, number in once.items()}


class OnPostgres(Queue):
    """A server whose triggers count what is stored and removed, in the transactions that do it."""

    steps = (
        *(f"{word} in reserve" for word in ("take", "end", "answer")),
        *(f"{word} in settle work" for word in ("settle", "put_one", "take", "notify", "end", "answer")),
        *(f"{word} in settle wrong" for word in ("settle", "put_one", "take", "notify", "end", "answer")),
        *(f"{word} in settle told" for word in ("step", "end", "answer")),
        *(f"{word} in settle follow" for word in ("step", "end", "answer")),
    )

    def __init__(self, stack: ExitStack) -> None:
        server = Postgres()
        stack.callback(server.close)
        server.start()
        server.install()
        self.address = server.url()
        self.url = f"{self.address}?lease=1s"
        with psycopg.connect(self.address, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE seen (what text, id text);"
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " INSERT INTO seen VALUES"
                " (CASE TG_OP WHEN 'INSERT' THEN 'stored' ELSE 'removed' END, coalesce(new.id, old.id));"
                " RETURN NULL; END $$;"
                "CREATE TRIGGER note AFTER INSERT OR DELETE ON kessel.jobs"
                " FOR EACH ROW EXECUTE FUNCTION note()"
            )

    def repeats(self, expected: Expected) -> dict[str, int]:
        with psycopg.connect(self.address) as connection:
            seen = Counter(connection.execute("SELECT what, id FROM seen").fetchall())
        assert seen == dict.fromkeys(expected.once, 1), "not exactly once"
        return dict.fromkeys(QUEUES, 0)


class OnRedis(Queue):
    """A server, which numbers what is stored, in the script that does it."""

    steps = tuple(
        f"{word} in {call}"
        for call in ("reserve", *(f"settle {kind}" for kind in TYPES))
        for word in ("half", "end", "answer")
    )

    def __init__(self, stack: ExitStack) -> None:
        server = Redis(appendonly="no")  # it lives as long as the test
        stack.callback(server.close)
        server.start()
        self.port = server.port
        self.url = server.url("lease=1s")

    def repeats(self, expected: Expected) -> dict[str, int]:
        with closing(redis.Redis(port=self.port)) as client:
            stored = int(client.get("{kessel}:seq"))
            held = {one.decode() for one in client.hkeys("{kessel}:ids")}
        assert held == {*expected.bad}
        # Each of them was stored, or it would not have been run; so none of them was stored twice.
        assert stored == len({run[0] for run in expected.runs}), "not exactly once"
        return dict.fromkeys(QUEUES, 0)


class Place:
    """A directory with a journal, and those who replace killed workers."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home, self._stack = home, stack
        self._errors = stack.enter_context((home / "errors").open("w"))
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, url: str, seed: int, steps: list[str]) -> None:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), url, f"{seed}", *steps],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )
        self._running.append(process)
        self._stack.callback(self._end, process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # its worker, too
        process.wait(30)

    def check(self) -> None:
        """Fail if somebody is gone who should replace workers."""
        for process in self._running:
            assert process.poll() is None, (self.home / "errors").read_text()[-4000:]

    def notes(self, what: str) -> list[tuple[str, ...]]:
        """What the journal says after this word, line by line."""
        journal = self.home / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [tuple(words[1:]) for line in lines if (words := line.split("\t"))[0] == what]

    def deaths(self) -> Counter[str]:
        """How many workers were killed, by step."""
        return Counter(died[0] for died in self.notes("died"))

    def runs_after_the_end(self, ids: set[str]) -> list[str]:
        """Jobs of these that ran although they had been settled."""
        settled: set[str] = set()
        found = []
        for line in (self.home / "journal").read_text().splitlines():
            what, job_id, *_ = line.split("\t")
            if what == "settled":
                settled.add(job_id)
            elif what == "run" and job_id in settled & ids:
                found.append(job_id)
        return found


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["sqlite", "beanstalk", "postgres", "redis"])
def queue(request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack) -> Queue:
    match request.param:
        case "sqlite":
            return OnSqlite(tmp_path / "jobs.db")
        case "beanstalk":
            return OnBeanstalkd(stack)
        case "postgres":
            return OnPostgres(stack)
        case _:
            return OnRedis(stack)


@pytest.fixture
def place(tmp_path: Path, stack: ExitStack, queue: Queue) -> Place:
    return Place(tmp_path, stack)


def asked(first: int, chance: random.Random) -> list[JobRequest]:
    """Make requests: four that succeed to each that fails; callback jobs are among the first to be run."""
    wave = []
    for number in range(first, first + WAVE):
        kind = "wrong" if number % 5 == 4 else "work"
        name = f"{kind}-{number}"
        told = f"job:told?queue=callbacks&priority={chance.randrange(100)}"
        wave.append(JobRequest(type=kind, payload=name, id=name, callback=told, queue="jobs", priority=100))
    return wave


def waiting(manager: JobManager) -> int:
    """How many jobs have not come to their end."""
    counts = [manager.adapter.stats(queue) for queue in QUEUES]
    return sum(count.total - count.buried for count in counts)


def request_and_wait(manager: JobManager, place: Place, steps: set[str], chance: random.Random) -> Expected:
    """Request jobs until they are enough, and so are deaths at each step; then wait for their end."""
    jobs: list[Job] = []
    end = time.monotonic() + LONG
    while len(jobs) * 4 // 5 < JOBS or min(map(place.deaths().__getitem__, steps)) < DEATHS:
        if waiting(manager) < 2 * WAVE:
            jobs += manager.request_many(asked(len(jobs), chance))
        time.sleep(0.01)
        place.check()
        assert time.monotonic() < end, place.deaths()
    (place.home / "peace").touch()
    while waiting(manager):
        time.sleep(0.01)
        place.check()
        assert time.monotonic() < end, [manager.adapter.stats(queue) for queue in QUEUES]
    return Expected([one for one in jobs if one.type == "work"], [one for one in jobs if one.type == "wrong"])


@pytest.mark.timeout(300)
def test_F35_chaos_killed_at_each_step_no_callback_and_no_follow_up_is_missing_or_has_two_ids(
    place: Place, queue: Queue
) -> None:
    """S8, S9, S20, S22: stored exactly once; on beanstalkd alone again, under the same id."""
    seed = drawn_seed()
    chance = random.Random(seed)
    begin = time.monotonic()
    steps = [*CALLS, "asked work", *queue.steps]
    chance.shuffle(steps)
    for number in range(2):
        place.start(queue.url, seed + number, steps[number::2])
    with JobManager(queue.url, only_requests=True) as manager:
        expected = request_and_wait(manager, place, {*steps}, chance)
        operations = manager.adapter.facet(Buried)
        assert operations is not None
        buried = operations.buried("jobs", limit=len(expected.bad) + 1)
    place.check()

    # All that must run has run, and nothing else: by ids, so that a repetition has the id of what it repeats.
    runs = place.notes("run")
    assert {*runs} == expected.runs
    assert Counter(one.id for one in buried) == dict.fromkeys(expected.bad, 1)
    assert {one.reason for one in buried} == {"error"}
    assert place.runs_after_the_end({*expected.good, *expected.bad}) == []
    repeats = queue.repeats(expected)
    deaths = place.deaths()
    assert repeats["jobs"] == 0
    for name in ("callbacks", "follow-ups"):
        assert 0 <= repeats[name] <= deaths.total(), "stored again without a cause"
    if isinstance(queue, OnBeanstalkd):  # shows that repetitions are counted: each of these deaths is one
        assert repeats["callbacks"] >= deaths["after put told"]
        assert repeats["follow-ups"] >= deaths["after put follow"]
    print(
        f"{queue.url.partition(':')[0]}: {len(expected.good):,} jobs done, each with a callback job and a"
        f" follow-up, and {len(expected.bad):,} buried, each with a callback job; {deaths.total():,} workers"
        f" killed, at each of {len(steps)} steps {min(deaths[step] for step in steps)} times or more; stored"
        f" again under the same id: {repeats['callbacks']:,} callback jobs and {repeats['follow-ups']:,}"
        f" follow-ups; {len(runs):,} runs, {len(runs) - len({*runs}):,} of them again;"
        f" {time.monotonic() - begin:.1f} s"
    )

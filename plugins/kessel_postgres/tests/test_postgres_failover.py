"""The primary dies and a replica is promoted: no acknowledged job is lost if replication is synchronous."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from kessel_postgres.options import PostgresOptions
from kessel_postgres.testing import Postgres, _started, programs

from kessel_core import EnqueueUnknown, InvalidConfig, JobContext, JobManager, KesselError
from tests.chaos import IS_LARGE
from tests.until import until

LONG = 60.0
#: Jobs before the primary dies, and after it.
JOBS = 3000 if IS_LARGE else 100


class Replica(Postgres):
    """Follows a primary, from a copy of its data; it has the same tables and jobs."""

    def __init__(self, primary: Postgres, **settings: str) -> None:
        super().__init__(**settings)
        self._folder = Path(tempfile.mkdtemp(prefix="kessel-postgres-"))
        self._folder.chmod(0o777)  # the user who runs the server makes the copy
        command = [str(programs() / "pg_basebackup"), "-D", str(self._folder / "data"), "-R", "-X", "stream"]
        copied = _started([*command, "-c", "fast", "-d", primary.url()])
        assert copied.wait(LONG) == 0

    def promote(self) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Replica]]:
    """A primary, and a replica without which it acknowledges nothing."""
    with ExitStack() as stack:
        primary = Postgres()
        stack.callback(primary.close)
        primary.start()
        primary.install()
        replica = Replica(primary)
        stack.callback(replica.close)
        replica.start()
        with psycopg.connect(primary.url(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
            follows = "SELECT sync_state FROM pg_stat_replication"
            until(lambda: connection.execute(follows).fetchone() == ("sync",), seconds=LONG, pause=0.05)
        yield primary, replica


def test_chaos_s9_no_acknowledged_job_is_lost_when_a_synchronous_replica_takes_over(
    pair: tuple[Postgres, Replica],
) -> None:
    """With all hosts in the address, and `target_session_attrs`, everybody finds the new primary."""
    primary, replica = pair
    hosts = f"host=127.0.0.1,127.0.0.1&port={primary.port},{replica.port}&target_session_attrs=read-write"
    url = f"postgresql://kessel@/postgres?{hosts}&lease=3s&timeout=2s"
    ran: list[str] = []
    acknowledged: set[str] = set()
    unknown: set[str] = set()
    is_over = threading.Event()

    def work(payload: object, job: JobContext) -> None:
        ran.append(job.id)

    def requesting(manager: JobManager) -> None:
        while not is_over.is_set():
            try:
                acknowledged.add(manager.request("work").id)
            except EnqueueUnknown as exc:
                unknown.add(exc.job_id)
            except KesselError:  # nobody is there to take it; it was surely not stored
                time.sleep(0.02)

    with JobManager(url, handlers={"work": work}) as manager, JobManager(url, only_requests=True) as shop:
        producer = threading.Thread(target=requesting, args=(shop,), daemon=True)
        producer.start()
        try:
            worker = manager.start(slots=3)
            until(lambda: len(ran) > JOBS, seconds=LONG, pause=0.01)
            primary.kill()
            replica.promote()
            before = len(acknowledged)
            until(lambda: len(acknowledged) > before + JOBS, seconds=LONG, pause=0.01)
        finally:
            is_over.set()
            producer.join(LONG)
        until(lambda: _is_empty(manager), seconds=LONG, pause=0.1)
        # Each slot has its own pause before it tries again.
        until(lambda: worker.health().ok, seconds=LONG, pause=0.1)
    assert acknowledged <= set(ran), f"{acknowledged - set(ran)} are lost"
    assert set(ran) <= acknowledged | unknown
    # What ran twice was running, or its end was not known, when the primary died.
    assert len(ran) - len(set(ran)) <= 3 + len(unknown)


def _is_empty(manager: JobManager) -> bool:
    with suppress(KesselError):
        return manager.adapter.stats("default").total == 0
    return False


def test_several_hosts_may_have_a_port_each_and_one_port_is_an_option_of_its_own() -> None:
    several = PostgresOptions(host="a,b", parameters={"port": "5432,5433"})
    assert several.port is None
    with pytest.raises(InvalidConfig, match="is an option of its own"):
        PostgresOptions(parameters={"port": "5432"})


def test_a_replica_that_was_not_promoted_takes_no_jobs_and_says_so(pair: tuple[Postgres, Replica]) -> None:
    _, replica = pair
    with (
        pytest.raises(KesselError, match="is a replica and takes no jobs"),
        JobManager(replica.url(), only_requests=True) as manager,
    ):
        manager.request("work")

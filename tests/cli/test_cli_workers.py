"""`kessel workers`, progress in `kessel result`, and what the doctor says of the store (S27)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kessel_core import BusyJob, JobManager, WorkerEntry, WorkerState
from kessel_core.wire.entries import encode_worker

Given = Callable[..., None]
Kessel = Any
Site = Any
STORE = "sqlite:///st.db"

#: An adapter that keeps no entries.
BARE = """
import attrs
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions
from kessel_core import hookimpl
from kessel_core.contract import AdapterSpec, Store

class BareAdapter(MemoryAdapter):
    name = "bare"

    def facet(self, kind):
        return None if kind is Store else super().facet(kind)

@hookimpl
def kessel_adapters():
    return [AdapterSpec(name="bare", schemes=("bare",), options=MemoryOptions, open=BareAdapter)]
"""

#: A store that never answers.
AWAY = """
import attrs
from kessel_core import AdapterUnavailable, hookimpl
from kessel_core.contract import Store, StoreCapabilities, StoreSpec

@attrs.frozen
class Options:
    host: str = "base"

def away(options, context):
    raise AdapterUnavailable("nobody answers at base:1")

class Silent(Store):
    name = "silent"
    capabilities = StoreCapabilities(reach="host")

    def get_entry(self, *arguments):
        raise AdapterUnavailable("nobody answers at base:1")

    put_entry = delete_entry = scan_entries = get_entry

@hookimpl
def kessel_stores():
    return [
        StoreSpec(name="moon", schemes=("moon",), options=Options, open=away),
        StoreSpec(name="dark", schemes=("dark",), options=Options, open=lambda o, c: Silent(c.clock)),
    ]
"""


@pytest.fixture
def given(kessel: Kessel) -> Given:
    """Puts entries of workers into the store of a fresh queue; `age` is in seconds."""

    def put(*entries: dict[str, Any], url: str = "sqlite:///kessel.db") -> None:
        now = datetime.now(UTC)
        with JobManager(url) as manager:
            for number, fields in enumerate(entries):
                seen = now - timedelta(seconds=fields.pop("age", 0))
                usual: dict[str, Any] = {
                    "id": f"w{number}",
                    "host": "ash",
                    "pid": 71000 + number,
                    "version": "1.2",
                    "state": WorkerState.RUNNING,
                    "queues": ("default",),
                    "types": ("a",),
                    "slots": 4,
                    "busy": 0,
                    "started_at": now - timedelta(minutes=5),
                    "seen_at": seen,
                }
                entry = WorkerEntry(**(usual | fields))
                manager.store.put("workers", entry.id, encode_worker(entry), ttl=timedelta(minutes=1))

    return put


def rows(out: str) -> list[str]:
    return [line for line in out.splitlines() if "ash" in line]


def test_s27_workers_are_listed_with_what_they_do(kessel: Kessel, given: Given) -> None:
    types = tuple("abcdefg")
    given({"types": types, "busy": 2}, {"state": WorkerState.STOPPING, "queues": ("x", "y")})
    done = kessel.ok("workers")
    assert str(kessel.directory / "kessel.db") in done.out
    first, second = rows(done.out)
    assert re.search(
        r"ash +71000 +1\.2 +running +default +a, b, c, d, e and 2 more +4 +2 +5 min ago +\d s ago", first
    )
    assert re.search(r"71001 .* stopping +x, y +a ", second)


def test_s27_a_worker_that_has_missed_its_time_is_silent(kessel: Kessel, given: Given) -> None:
    given({"age": 14}, {"age": 25})
    first, second = rows(kessel.ok("workers").out)
    assert "running" in first
    assert re.search(r"silent for 2\d s", second)
    assert "running" not in second
    found = kessel.ok("workers", "--json").json
    assert [one["silent"] for one in found] == [False, True]
    assert 25 <= found[1]["age_seconds"] < 60
    assert found[1]["state"] == "running"
    assert found[1]["slots"] == 4


def test_s27_the_jobs_that_run_are_listed(kessel: Kessel, given: Given) -> None:
    since = datetime.now(UTC) - timedelta(minutes=3)
    jobs = (
        BusyJob(id="job-1", type="mail\x1b[31m", queue="q", since=since),
        BusyJob(id=None, type=None, queue="q", since=since),
    )
    given({"jobs": jobs, "busy": 2}, {})
    out = kessel.ok("workers", "--jobs").out
    assert re.search(r"job-1 +mail\\x1b\[31m +q +3 min ago +ash +71000", out)
    assert "(undecodable)" in out
    assert len(rows(out)) == 2
    assert kessel.ok("workers", "--json").json[0]["jobs"][0]["id"] == "job-1"


def test_s27_where_none_runs_that_is_said(kessel: Kessel, given: Given) -> None:
    given()
    assert "no worker has an entry in" in kessel.ok("workers").out
    assert kessel.ok("workers", "--json").json == []
    given({})
    assert "no job was running" in kessel.ok("workers", "--jobs").out


@pytest.mark.parametrize("command", ["result", "history"])
def test_s26_looking_for_a_result_makes_no_store(kessel: Kessel, command: str) -> None:
    """`kessel result` made the file of the store, and then told that there is no result yet."""
    kessel.ok("request", "x")
    kessel.write("kessel.toml", '[kessel]\nstore = "sqlite:///store.db"\n')
    done = kessel(command, "some-job-id")
    assert (done.code, done.out) == (1, "")
    assert f"there is no file {kessel.directory / 'store.db'}; nothing was made" in done.err
    assert not (kessel.directory / "store.db").exists()


def test_s27_looking_makes_nothing(kessel: Kessel) -> None:
    for arguments in ((), ("--json",)):
        done = kessel("workers", *arguments)
        assert done.code == 1
        assert "nothing was made" in done.err
    kessel.write("kessel.toml", f'[kessel]\nadapter = "memory://"\nstore = "{STORE}"\n')
    done = kessel("workers")
    assert done.code == 1
    assert "st.db" in done.err
    kessel("doctor")
    assert sorted(path.name for path in kessel.directory.iterdir() if path.suffix == ".db") == []


def test_s17_without_a_store_it_says_what_to_set(kessel: Kessel, site: Site) -> None:
    site.install("bare", BARE)
    done = kessel("workers", "--adapter", "bare://")
    assert done.code == 2
    assert 'workers are listed in a store; set store to a URL, for example store = "sqlite' in done.err
    found = finding(kessel, "store", "--adapter", "bare://")
    assert found["level"] == "ok"
    assert found["detail"] == "none: no results, no progress, no list of workers"
    assert "set store to a URL" in found["advice"]


def test_s27_in_a_store_of_one_process_nobody_else_is_seen(kessel: Kessel) -> None:
    done = kessel.ok("workers", "--adapter", "memory://")
    assert "no worker has an entry" in done.out
    assert "name one that others can reach" in done.err


def test_s27_a_store_answers_while_the_queue_is_away(kessel: Kessel, given: Given, unreachable: None) -> None:
    given({}, url=STORE)
    kessel.write("kessel.toml", f'[kessel]\nadapter = "moon://"\nstore = "{STORE}"\n')
    assert len(rows(kessel.ok("workers").out)) == 1


# --- progress -----------------------------------------------------------------------------------------


def test_s27_the_progress_of_a_job_that_has_not_ended_is_shown(kessel: Kessel) -> None:
    kessel.write("kessel.toml", '[kessel]\nadapter = "sqlite:///jobs.db"\n[kessel.results]\nkeep = "1h"\n')
    with JobManager("sqlite:///jobs.db") as manager:
        job, silent = manager.request("a"), manager.request("a")
        body = b'{"done":30,"total":120,"note":"rows \\u001b[31m","at":"2026-01-05T09:00:00Z"}'
        manager.store.put("progress", job.id, body)
    for wait in ((), ("--wait", "10ms")):
        done = kessel("result", job.id, *wait)
        assert done.code == 1
        assert "it is ready; progress: 30 of 120 (25 %), rows \\x1b[31m" in done.err
    done = kessel("result", job.id, "--json")
    assert done.code == 1
    assert done.json == {
        "id": job.id,
        "status": "pending",
        "state": "ready",
        "progress": {"done": 30, "total": 120, "note": "rows \x1b[31m", "at": "2026-01-05T09:00:00Z"},
    }
    assert kessel("result", silent.id, "--json").json["progress"] is None
    done = kessel("result", "no-such-job", "--json")
    assert (done.code, done.json) == (1, {"id": "no-such-job", "status": "unknown"})
    assert done.err.endswith("its result is not kept (results.keep), or it was never stored here\n")


# --- the doctor -----------------------------------------------------------------------------------------


def finding(kessel: Kessel, subject: str, *arguments: str) -> dict[str, str]:
    found: list[dict[str, str]] = kessel("doctor", "--json", *arguments).json
    (one,) = [one for one in found if one["subject"] == subject]
    return one


def test_s27_the_doctor_says_where_the_store_is_and_what_it_keeps(kessel: Kessel, given: Given) -> None:
    given({}, {})
    assert finding(kessel, "store") == {
        "level": "ok",
        "subject": "store",
        "detail": f"{kessel.directory / 'kessel.db'}, for one machine, survives a loss of power; keeps no "
        "results (results.keep is not set), progress, entries of workers (2 now)",
        "advice": "",
    }
    kessel.write("own.py", 'from datetime import timedelta\nfrom kessel_core import handler\n@handler("k", '
                 'keep=timedelta(days=1))\ndef k(payload): ...\n')  # fmt: skip
    settings = '[kessel.worker]\nlisted = false\n[kessel.handlers]\nk = "own:k"\n'
    kessel.write("kessel.toml", settings)
    assert finding(kessel, "store")["detail"].endswith("keeps results of k, progress, no entries of workers")
    kessel.write("kessel.toml", settings + '[kessel.results]\nkeep = "1h"\n')
    assert "keeps results for 1h, progress" in finding(kessel, "store")["detail"]


def test_s27_the_doctor_warns_of_a_store_that_others_do_not_see(kessel: Kessel, given: Given) -> None:
    given()
    kessel.write("kessel.toml", '[kessel]\nstore = "memory://"\n')
    found = finding(kessel, "store")
    assert found["level"] == "warning"
    assert "other processes see none of it" in found["detail"]


def test_s27_the_doctor_makes_no_store_and_looks_at_the_rest(kessel: Kessel) -> None:
    kessel.write("kessel.toml", f'[kessel]\nadapter = "memory://"\nstore = "{STORE}"\n')
    found = finding(kessel, "store")
    assert found["level"] == "warning"
    assert f"there is no file {kessel.directory / 'st.db'}" in found["detail"]
    assert finding(kessel, "handlers")["level"] == "ok"
    assert finding(kessel, "reachable")["level"] == "ok"
    assert not (Path(kessel.directory) / "st.db").exists()


@pytest.mark.parametrize(
    ("adapter", "store"),
    [("memory://", "moon"), ("sqlite:///kessel.db", "moon"), ("sqlite:///kessel.db", "dark")],
)
def test_s27_a_store_that_is_away_is_the_stores_finding_and_not_the_queues(
    kessel: Kessel, site: Site, given: Given, adapter: str, store: str
) -> None:
    given()
    site.install("away", AWAY)
    kessel.write("kessel.toml", f'[kessel]\nadapter = "{adapter}"\nstore = "{store}://"\n')
    done = kessel("doctor")
    assert done.code == 1
    found = finding(kessel, "store")
    assert found["level"] == "error"
    assert found["detail"] == f"{store}://: nobody answers at base:1"
    assert "check the address, and that the backend runs; until then no worker starts" in found["advice"]
    assert finding(kessel, "handlers")["level"] == "ok"
    assert [one["level"] for one in kessel("doctor", "--json").json if one["level"] == "error"] == ["error"]
    done = kessel("workers")
    assert done.code == 1
    assert "nobody answers" in done.err, done


def test_s27_a_store_that_is_no_store_is_said_clearly(kessel: Kessel, given: Given) -> None:
    given()
    kessel.write("st.db", "not a database at all")
    kessel.write("kessel.toml", f'[kessel]\nstore = "{STORE}"\n')
    found = finding(kessel, "store")
    assert found["level"] == "error"
    assert found["detail"].count("st.db") == 1
    assert "not a SQLite database" in found["detail"]


def test_a_store_that_nobody_offers_is_a_mistake_of_the_configuration(kessel: Kessel, given: Given) -> None:
    given()
    kessel.write("kessel.toml", '[kessel]\nstore = "nowhere://"\n')
    found = [one for one in kessel("doctor", "--json").json if one["level"] == "error"]
    assert len(found) == 1
    assert "nowhere" in found[0]["detail"]
    assert kessel("workers").code == 3

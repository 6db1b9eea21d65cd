"""Results and callbacks between processes: a producer, a worker, and who is told (S22, S25, S26)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LONG = 120.0

JOBS = """
from kessel_core import Outcome, handler


@handler("double")
def double(n: int) -> int:
    return 2 * n
"""

TOLD = """
import json

from kessel_core import Outcome, handler


@handler("told")
def told(outcome: Outcome) -> None:
    with open("told.jsonl", "a") as file:
        file.write(json.dumps([outcome.ref, str(outcome.status), str(outcome.reason), outcome.value]) + "\\n")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "told.py").write_text(TOLD)
    (tmp_path / "kessel.toml").write_text(
        '[kessel]\nadapter = "sqlite:///jobs.db"\n[kessel.results]\nkeep = "1h"\n'
        '[kessel.callbacks]\nqueue = "callbacks"\n'
    )
    return tmp_path


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kessel_core.cli", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LONG)
    return process.returncode, out, err


def test_s26_a_request_waits_for_the_end_in_another_process(folder: Path) -> None:
    waiting = [start(folder, "request", "double", text, "--wait", "60s") for text in ("21", '"x"')]
    with start(folder, "worker", "--handlers", "jobs") as worker:
        done, failed = (ended(one) for one in waiting)
        worker.terminate()
        assert worker.wait(LONG) == 0
    assert done[:2] == (0, "42\n")
    assert failed[:2] == (1, "null\n")
    assert "failed: bad-payload" in failed[2]


def test_s22_a_worker_without_the_handler_of_the_callback_stores_it_for_one_that_has_it(folder: Path) -> None:
    for ref, payload, more in (
        ("good", "21", ()),
        ("bad", '"x"', ()),
        ("late", "1", ("--expiration", "1ms")),
    ):
        code, _, err = ended(
            start(folder, "request", "double", payload, "--ref", ref, "--callback", "job:told", *more)
        )
        assert code == 0, err
    code, _, err = ended(start(folder, "drain", "--handlers", "jobs", "-q", "default"))
    assert code == 0, err
    assert not (folder / "told.jsonl").exists()
    code, _, err = ended(start(folder, "drain", "--handlers", "told", "-q", "callbacks"))
    assert code == 0, err
    told = [json.loads(line) for line in (folder / "told.jsonl").read_text().splitlines()]
    assert sorted(told) == [
        ["bad", "failed", "bad-payload", None],
        ["good", "success", "None", 42],
        ["late", "failed", "expired", None],
    ]

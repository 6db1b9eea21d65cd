"""A case that hangs ends the run with a story, however it was begun; one that works on does not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from kessel_conformance import Harness, watch
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import Case, Level
from kessel_conformance.outcome import Verdict
from kessel_conformance.runner import Run, run_case
from kessel_conformance.settings import Settings

#: An adapter whose enqueue never returns; and little patience.
HANGS = """
import threading
from kessel_conformance import watch
from kessel_memory.adapter import MemoryAdapter

watch.SILENCE = 1.0
def hanging_enqueue(adapter, message):
    while not threading.Event().wait(0.3):
        pass

MemoryAdapter.enqueue = hanging_enqueue
"""
COMMAND = HANGS + "from kessel_conformance.command import conformance; conformance(['memory://{namespace}'])"
SUITE = (
    HANGS
    + """
from kessel_conformance import AdapterConformance, Harness

class TestHangs(AdapterConformance):
    harness = Harness(url="memory://{namespace}")
"""
)


@pytest.mark.parametrize("way", ["command", "pytest"])
def test_case_that_hangs_is_named_with_its_calls_and_its_call_and_ends_the_run(
    way: str, tmp_path: Path
) -> None:
    (tmp_path / "test_it.py").write_text(SUITE, encoding="utf-8")
    ways = {
        "command": [sys.executable, "-c", COMMAND],
        "pytest": [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
    }
    ended = subprocess.run(ways[way], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    (named,) = [line for line in ended.stderr.splitlines() if line.startswith("conformance: ")]
    assert named.endswith("hangs: for 1 s it has been in one and the same call.")
    assert "Its calls so far" in ended.stderr
    assert "in hanging_enqueue" in ended.stderr


def works(bench: Bench) -> None:
    for _ in range(50):
        time.sleep(0.01)
        bench.history.add("it goes on")


def is_debugged(bench: Bench) -> None:
    exec("wait(0.5)", {"__name__": "pdb", "wait": time.sleep})  # as a debugger does, in C


def hangs(bench: Bench) -> None:
    threading.Event().wait(0.5)


def test_case_that_works_on_or_is_debugged_or_is_over_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    monkeypatch.setattr(watch, "SILENCE", 0.2)
    monkeypatch.setattr(watch.Watch, "_ends", lambda self, one: found.append(one.name))
    harness = Harness(url="memory://{namespace}")
    run = Run(harness, Settings(), [])
    run.up()
    try:
        for number, body in enumerate((works, is_debugged, hangs)):
            case = Case(id=f"x.y{number}", clauses=("S9",), level=Level.CORE, why="a test", run=body)
            assert run_case(harness, case, Settings()).verdict is Verdict.PASS
            threading.Event().wait(0.3)
    finally:
        run.down()
    assert set(found) == {"x.y2"}


def test_runs_beside_each_other_do_not_count_the_looks_of_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A case that waits for less than two minutes is left alone, however many watches look at it."""
    found: list[str] = []
    monkeypatch.setattr(watch, "SILENCE", 2.0)
    monkeypatch.setattr(watch.Watch, "_ends", lambda self, one: found.append(one.name))
    runs = [Run(Harness(url="memory://{namespace}"), Settings(), []) for _ in range(8)]
    for run in runs:
        run.up()
    try:
        case = Case(id="x.y", clauses=("S9",), level=Level.CORE, why="a test", run=hangs)
        assert run_case(runs[0].harness, case, Settings()).verdict is Verdict.PASS
    finally:
        for run in runs:
            run.down()
    assert found == []

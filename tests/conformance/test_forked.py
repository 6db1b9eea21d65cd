"""What the cases catch that fork a process: faults that no reference in memory can have."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import kessel_memory.plugin
import pytest
from kessel_conformance import Harness
from kessel_conformance.outcome import Verdict

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from forked import HANGS, HUNG, RIGHT, WRONG
from running import how_it_ended

from kessel_core.contract import AdapterSpec
from tests.process.sites import ends

CASES = ("reach.works_after_a_fork", "reserve.wakes_across_a_fork")


def ended(
    case: str, spec: AdapterSpec, url: str = "directory://{tmp}/{namespace}", *, forks: bool = True
) -> tuple[Verdict, str]:
    """Run a case on an adapter; return its verdict, and why."""
    return how_it_ended(Harness(spec, url=url, forks=forks), case)


@pytest.mark.parametrize("name", WRONG)
def test_S9_what_is_wrong_in_a_forked_child_fails_its_case(name: str) -> None:
    spec, case, words = WRONG[name]
    verdict, reason = ended(case, spec)
    assert verdict is Verdict.FAIL
    assert re.search(words, reason)


def test_S9_a_call_that_hangs_in_a_forked_child_fails_and_is_named_and_the_child_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(HUNG, str(tmp_path / "hung"))
    monkeypatch.setattr("kessel_conformance.cases.forking._WITHIN", 1.0)
    verdict, reason = ended(CASES[0], HANGS)
    assert verdict is Verdict.FAIL
    assert reason == "S9: enqueue in the forked child did not end within 1 s (contract, rule 7)"
    assert ends(int((tmp_path / "hung").read_text()))


@pytest.mark.parametrize("case", CASES)
def test_S9_what_works_in_a_forked_child_passes(case: str) -> None:
    assert ended(case, RIGHT) == (Verdict.PASS, "")


@pytest.mark.parametrize("case", CASES)
def test_S9_an_adapter_need_not_work_in_a_forked_child(case: str) -> None:
    assert ended(case, RIGHT, forks=False) == (Verdict.SKIP, "for harnesses that say forks")
    verdict, _ = ended(case, kessel_memory.plugin.SPEC, "memory://{namespace}")
    assert verdict is Verdict.SKIP


def test_S9_a_system_without_forks_shows_nothing_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.fork")
    assert ended(CASES[0], RIGHT) == (Verdict.NOT_SHOWN, "processes of this system do not fork")

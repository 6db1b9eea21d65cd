"""`make mutate`: small faults in kessel's own code, and whether the tests notice them."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from coverage import CoverageData

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools" / "mutate"))  # a program, and no package
from copies import a_copy  # noqa: E402
from court import a_court  # noqa: E402
from cover import Cover  # noqa: E402
from faults import Fault, faults_of  # noqa: E402
from judge import code_changes  # noqa: E402
from results import reasons  # noqa: E402

RETRY = "kessel_core/model/retry.py"
TESTS = "tests/unit/test_core_retry.py"


def fault(file: str, what: str) -> Fault:
    (found,) = [one for one in faults_of(file) if one.what == what]
    return found


def test_faults_know_the_lines_of_their_statement_and_have_names_of_their_own() -> None:
    found = faults_of(RETRY)
    assert len({one.name for one in found}) == len(found)
    one = fault(RETRY, "`self.cap < self.base` to `self.cap <= self.base`")
    source = (ROOT / RETRY).read_text("utf-8").splitlines()
    assert source[one.lines[0] - 1].strip() == "if self.cap < self.base:"
    assert one.lines[0] == one.lines[1], "only the head of the block"
    assert one.symbol == "RetryPolicy.__attrs_post_init__"
    changed = one.applied((ROOT / RETRY).read_bytes()).decode().splitlines()
    assert changed[one.lines[0] - 1].strip() == "if self.cap <= self.base:"


def test_what_is_only_words_is_left_alone() -> None:
    whats = [one.what for one in faults_of("kessel_core/runtime/lease.py")]
    assert not [what for what in whats if "debug" in what]
    assert [what for what in whats if what.startswith("without `log.warning")]


def test_every_fault_that_is_listed_as_equivalent_is_there_and_has_a_reason() -> None:
    names: defaultdict[str, set[str]] = defaultdict(set)
    listed = reasons()
    for file in {name.partition(":")[0] for name in listed}:
        names[file] = {one.name for one in faults_of(file)}
    gone = [name for name in listed if name not in names[name.partition(":")[0]]]
    assert gone == [], "the code has changed: take them off the list, or look again"
    assert all(len(reason) > 20 for reason in listed.values())


def test_a_judge_is_ended_in_time_whatever_it_does_then() -> None:
    with pytest.raises(RuntimeError, match="the judge has ended"), a_court([TESTS], time.monotonic() + 0.1):
        pytest.fail("it cannot have collected the tests by then")


def test_a_server_of_another_user_gets_into_the_temporary_folder_of_a_copy() -> None:
    """PostgreSQL does not run as root: all its tests failed there, and noticed nothing."""
    with a_copy() as (_, environment):
        folder = Path(environment["TMPDIR"])
        assert folder.stat().st_mode & 0o777 == 0o711


def test_only_functions_get_new_code_in_place() -> None:
    before = (
        b"LIMIT = 3\n\ndef f(a):\n    return a < LIMIT\n\ndef g(a):\n    return [one for one in a if one]\n"
    )
    (change,) = code_changes(before, before.replace(b"a <", b"a >"), "m.py") or []
    assert (change[0].co_name, change[1].co_name) == ("f", "f")
    names = {old.co_name for old, _ in code_changes(before, before.replace(b"if one]", b"]"), "m.py") or []}
    assert names == {"g", "<listcomp>"} or names == {"g"}  # from 3.12 on it is part of its function
    assert code_changes(before, before.replace(b"LIMIT = 3", b"LIMIT = 4"), "m.py") is None
    assert code_changes(before, before.replace(b"f(a)", b"f(a=1)"), "m.py") is None


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """As a run leaves it: one test of the module, which started a program with it as well, and another."""
    data = CoverageData(str(tmp_path / "coverage"))
    for context, lines in (
        (f"{TESTS}::test_about_it|run", range(1, 60)),
        (f"{TESTS}::test_about_it (call)", [33]),
        (f"{TESTS}::test_beside|run", [33]),
        (f"{TESTS}::test_beside|setup", [34]),
    ):
        data.set_context(context)
        data.add_lines({str(ROOT / RETRY): lines})
    data.set_context(f"{TESTS}::test_beside|run")
    data.add_lines({str(ROOT / "kessel_core/clock.py"): range(1, 50)})
    data.write()
    return tmp_path / "coverage"


def test_tests_that_run_the_line_are_asked_and_first_those_that_are_about_it(record: Path) -> None:
    one = fault(RETRY, "`self.cap < self.base` to `self.cap <= self.base`")
    cover = Cover(record, [one])
    assert TESTS in cover.test_files
    line = Fault(RETRY, one.symbol, one.what, (33, 33), one.start, one.end, one.text)
    assert cover.tests_of(line, {}) == [f"{TESTS}::test_about_it", f"{TESTS}::test_beside"]
    cover.noticed(line, f"{TESTS}::test_beside")
    assert cover.tests_of(line, {})[0] == f"{TESTS}::test_beside"
    assert Cover(record, [one], most=1).tests_of(line, {}) == [f"{TESTS}::test_about_it"]


@pytest.mark.parametrize("where", ["in a function", "outside of functions"])
def test_a_fault_is_judged_by_the_real_tests_in_a_copy(where: str) -> None:
    inside = fault(RETRY, "`self.cap < self.base` to `False`")
    source = (ROOT / RETRY).read_bytes()
    at = source.index(b"import attrs")
    outside = Fault(RETRY, "", "an import that fails", (1, 1), at, at + 12, "import no_such_module")
    harmless = Fault(RETRY, inside.symbol, "nothing", inside.lines, inside.start, inside.start, "")
    needless = Fault(RETRY, "", "one import more", (1, 1), at, at + 12, "import attrs, os")
    wrong = inside if where == "in a function" else outside
    with a_court([TESTS]) as court:
        tests = court.collected[TESTS]
        assert len(tests) > 5
        verdict = court.judge(wrong, tests, 60.0)
        assert verdict["verdict"] == "noticed"
        if wrong is inside:
            assert verdict["by"] == f"{TESTS}::test_a_policy_that_cannot_be_meant_is_refused[2-1]"
            assert court.judge(harmless, tests[-3:], 60.0) == {"verdict": "unnoticed", "by": None, "run": 3}
            assert court.judge(wrong, [], 60.0) == {"verdict": "unnoticed", "by": None, "run": 0}
        else:
            assert court.judge(needless, tests[-3:], 60.0) == {"verdict": "unnoticed", "by": None, "run": 3}
            many = court.judge(needless, tests[-1:] * 251, 60.0)
            assert many == {"verdict": "unfinished", "by": None, "run": 250}, "one more was not asked"
    assert (ROOT / RETRY).read_bytes() == source, "only the copy is changed"

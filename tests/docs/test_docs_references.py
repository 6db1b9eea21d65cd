"""Every number that is cited has a heading: decisions (D, E), faults (F), findings of the review (X)."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "explanation" / "decisions.md"
FAULTS = ROOT / "docs" / "reference" / "faults.md"
#: Where each letter's headings are; a fault has two digits everywhere.
HEADINGS = {"D": DECISIONS, "E": DECISIONS, "F": FAULTS, "X": FAULTS}
FOLDERS = ("kessel_core", "plugins", "tests", "docs", "tools", "benchmarks")
SUFFIXES = {".py", ".md", ".toml", ".tmpl", ".sh"}
#: Cited in prose and comments. Not what stands in code or in a longer name, as `V1` or `N802` would.
IN_TEXT = re.compile(r"(?<![\w/#.\"'\\])([DEX][1-9]\d?|[Ff]\d\d)(?![\w\"'(]|\.\d)")
#: Cited by the name of a test, in capitals or not.
IN_NAMES = re.compile(r"(?<!finding)_([dex][1-9]\d?|f\d\d)(?=_|$)", re.IGNORECASE)
#: Findings have numbers of their own, A1 to D20, and the word before them.
FINDINGS = re.compile(r"[Ff]indings? [A-D]\d+(?:(?:, | and | to )[A-D]\d+)*")
FINDING_IN_NAMES = re.compile(r"_finding_([a-d]\d+)(?=_)")


@cache
def texts() -> dict[str, str]:
    """Every file that people write, by its path; read once."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in [*files, *ROOT.glob("*.md"), ROOT / "pyproject.toml"]
        if path != Path(__file__)
    }


@cache
def names_of_tests() -> dict[str, str]:
    return {
        test: name
        for name, text in texts().items()
        if "/tests/" in f"/{name}"
        for test in re.findall(r"^ *(?:async )?def (test_\w+)", text, re.M)
    }


def headings(letter: str) -> set[str]:
    return set(re.findall(rf"^##+ ({letter}\d+) \S", HEADINGS[letter].read_text(encoding="utf-8"), re.M))


@cache
def cited() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, text in texts().items():
        for number in IN_TEXT.findall(FINDINGS.sub("", text)):
            found.setdefault(number.upper(), []).append(name)
    for test, name in names_of_tests().items():
        for number in IN_NAMES.findall(test):
            found.setdefault(number.upper(), []).append(f"{name}::{test}")
    return found


@pytest.mark.parametrize("letter", HEADINGS)
def test_every_number_that_is_cited_has_a_heading(letter: str) -> None:
    numbers = {number: places for number, places in cited().items() if number[0] == letter}
    assert numbers or letter == "X"
    missing = {number: numbers[number] for number in numbers.keys() - headings(letter)}
    assert missing == {}, f"without a heading in {HEADINGS[letter].relative_to(ROOT)}"


def test_the_numbers_have_no_gaps() -> None:
    expected = {"D": 12, "E": 11, "F": 68, "X": 7}
    for letter, last in expected.items():
        width = 2 if letter == "F" else 1
        assert headings(letter) == {f"{letter}{n:0{width}}" for n in range(1, last + 1)}, letter


def entries(page: Path) -> dict[str, str]:
    """The text under each numbered heading."""
    parts = re.split(r"^##+ ", page.read_text(encoding="utf-8"), flags=re.M)[1:]
    return {part.split()[0]: part for part in parts if re.match(r"[DEFX]\d+ ", part)}


def test_every_fault_and_finding_lists_the_tests_that_cite_it_by_name() -> None:
    listed = entries(FAULTS)
    for test in names_of_tests():
        for number in IN_NAMES.findall(test):
            if number[0] in "fFxX":
                assert f"- `{test}`" in listed[number.upper()], (
                    f"add {test} to {number.upper()} in {FAULTS.name}"
                )


def test_every_finding_lists_the_tests_that_cite_it_by_name() -> None:
    """One line a finding: `- finding A1: what holds now: names of tests`."""
    lines = dict(re.findall(r"^- finding ([A-D]\d+): (.*)$", FAULTS.read_text(encoding="utf-8"), re.M))
    for test in names_of_tests():
        for number in FINDING_IN_NAMES.findall(test):
            assert f"`{test}`" in lines[number.upper()], f"add {test} to finding {number.upper()}"


def test_every_test_that_the_page_of_faults_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", FAULTS.read_text(encoding="utf-8")))
    assert named - names_of_tests().keys() == set()


def test_a_fault_without_a_test_says_why() -> None:
    for number, text in entries(FAULTS).items():
        if number.startswith("F"):
            assert "\n- `" in text or "\nNo test yet: because " in text, number


@pytest.mark.parametrize("page", [DECISIONS], ids=lambda page: page.name)
def test_every_decision_says_why_what_it_costs_and_when_to_open_it_again(page: Path) -> None:
    for number, text in entries(page).items():
        for part in ("*Why.*", "*Costs.*", "*Open again*"):
            assert text.count(part) == 1, f"{number}: {part}"


def test_no_reference_leads_out_of_the_repository() -> None:
    """Such as "design §4": a page that readers of the repository do not have."""
    for name, text in texts().items():
        assert "§" not in text, name

"""The published conformance reports are whole, and of this version and suite (`make conformance`)."""

from __future__ import annotations

import json
import runpy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from kessel_conformance import strength
from kessel_conformance.catalogue import SUITE_VERSION, catalogue_of
from kessel_conformance.page import badge, kind_of, markdown
from kessel_conformance.report import SCHEMA
from kessel_conformance.stores import strength as strength_of_stores

from kessel_core.hooks import sources_of
from kessel_core.plugins.shipped import FORM, NEWEST_SUITE

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "conformance.py"))
#: Package of each adapter -> where its report is in the docs.
PUBLISHED = {package: TOOL["DOCS"] / f"{package.removeprefix('kessel_')}.json" for package in TOOL["WIRINGS"]}


STRENGTHS = {"adapter": strength, "store": strength_of_stores}
#: Adapters that keep a store beside their jobs.
STORED = ["memory", "postgres", "redis", "sqlite"]


def read(package: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = TOOL["reports_in"](PUBLISHED[package])
    return found


def test_every_adapter_and_no_other_has_its_report() -> None:
    backends = ("beanstalk", "memory", "postgres", "redis", "sqlite")
    assert set(PUBLISHED) == {f"kessel_{name}" for name in backends}
    assert set(TOOL["DOCS"].glob("*.json")) == {
        path for report in PUBLISHED.values() for path in (report, report.with_suffix(".badge.json"))
    }


@pytest.mark.parametrize("package", PUBLISHED)
def test_the_store_of_an_adapter_has_a_report_beside_it(package: str) -> None:
    """The cases of adapters look only at what jobs write into it."""
    name = package.removeprefix("kessel_")
    expected = [("adapter", name), *([("store", name)] if name in STORED else [])]
    assert [(kind_of(found), found[kind_of(found)]) for found in read(package)] == expected


@pytest.mark.parametrize("package", PUBLISHED)
def test_report_is_of_this_version_and_of_this_suite(package: str) -> None:
    for found in read(package):
        assert (found["schema"], found["suite"], found["pinned"]) == (SCHEMA, SUITE_VERSION, None)
        assert found["distribution"] == package.replace("_", "-")
        assert found["version"] == version(found["distribution"])
        assert found["budget"] in ("ci", "thorough")
        wanted = sorted(catalogue_of(kind_of(found)).cases())
        for run in found["runs"]:
            assert [entry["id"] for entry in run["cases"]] == wanted, "run make conformance"


@pytest.mark.parametrize("package", PUBLISHED)
def test_report_is_of_these_sources(package: str) -> None:
    """A stale one is never shipped: whoever installs it would be told so by `kessel adapters`."""
    for found in read(package):
        assert (found["package"], found["source"]) == sources_of(package), "run make conformance"


def test_core_reads_the_reports_of_this_suite_and_of_no_newer_one() -> None:
    assert (NEWEST_SUITE, FORM) == (SUITE_VERSION, SCHEMA)


@pytest.mark.parametrize("package", PUBLISHED)
def test_report_declares_no_failure(package: str) -> None:
    for found in read(package):
        assert found["passed"] and found["not_run"] == []
        # What one run could not look at, another one has: see `test_all_that_is_declared_was_looked_at`.
        allowed = {"pass", "skip", "not shown"}
        assert {entry["status"] for run in found["runs"] for entry in run["cases"]} <= allowed
        assert found["totals"]["not shown"] == 0


@pytest.mark.parametrize("package", PUBLISHED)
def test_all_that_is_declared_was_looked_at(package: str) -> None:
    assert [found["not_shown"] for found in read(package)] == [{}] * len(read(package))


@pytest.mark.parametrize("package", PUBLISHED)
def test_report_says_how_many_planted_faults_this_suite_catches(package: str) -> None:
    for found in read(package):
        measured = STRENGTHS[kind_of(found)]
        assert found["mutants"] == {"caught": measured.CAUGHT, "planted": measured.PLANTED}


@pytest.mark.parametrize("package", PUBLISHED)
def test_page_and_badge_say_what_the_report_says(package: str) -> None:
    found, path = read(package), PUBLISHED[package]
    assert path.with_suffix(".md").read_text(encoding="utf-8") == "\n".join(map(markdown, found))
    assert json.loads(path.with_suffix(".badge.json").read_text(encoding="utf-8")) == badge(found)


@pytest.mark.parametrize("package", PUBLISHED)
def test_package_ships_the_published_report(package: str) -> None:
    shipped = ROOT / "plugins" / package / package / "conformance.json"
    assert shipped.read_bytes() == PUBLISHED[package].read_bytes()


@pytest.mark.parametrize("package", PUBLISHED)
def test_report_names_no_place_on_a_machine(package: str) -> None:
    text = PUBLISHED[package].read_text(encoding="utf-8")
    for place in ("/tmp", "/home", "/root", "/Users", "/var", str(ROOT)):
        assert place not in text, place


def test_page_lists_the_reports() -> None:
    assert TOOL["PAGE"].read_text(encoding="utf-8") == TOOL["page"](
        [found for name in PUBLISHED for found in read(name)]
    )

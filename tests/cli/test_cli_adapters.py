"""`kessel adapters`: what can open a queue, its options, and the conformance report that it ships."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

SHELF = """
import attrs
from kessel_core.contract import AdapterSpec
from kessel_core import hookimpl

@attrs.frozen
class Options:
    path: str
    count: "not_importable.Kind" = None

@hookimpl
def kessel_adapters():
    return [AdapterSpec(name="shelf", schemes=("shelf",), options=Options, open=None, summary="a shelf")]
"""

REPORT = {
    "schema": 1,
    "adapter": "shelf",
    "distribution": "shelf-dist",
    "version": "1.0",
    "suite": "1.0",
    "date": "2026-11-24T10:00:00Z",
    "passed": True,
    "totals": {"pass": 60, "expected failure": 1, "skip": 11},
}


@pytest.fixture
def shelf(site: Any, tmp_path: Any) -> Any:
    """Install an adapter as a package with a plugin module; return how to ship a report in it."""
    package = tmp_path / "site" / "plugin_shelf_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(SHELF)
    site.install("shelf", "")
    (tmp_path / "site" / "shelf_dist-1.0.dist-info" / "entry_points.txt").write_text(
        "[kessel.v1]\nshelf = plugin_shelf_package.plugin\n"
    )
    return (package / "conformance.json").write_text


def row(kessel: Any, name: str) -> str:
    return next(line for line in kessel.ok("adapters").out.splitlines() if line.startswith(f"{name} "))


def test_adapters_are_listed_with_their_options(kessel: Any) -> None:
    adapters = {adapter["name"]: adapter for adapter in kessel.ok("adapters", "--json").json}
    assert "sqlite" in adapters["sqlite"]["schemes"]
    assert adapters["sqlite"]["options"]
    assert "sqlite://" in kessel.ok("adapters").out


def test_option_without_default_must_be_given_and_one_of_an_unknown_type_is_shown(
    kessel: Any, shelf: Any
) -> None:
    out = kessel.ok("adapters").out
    assert "path (str), must be given" in out
    assert "count (not_importable.Kind), default null" in out


def test_no_adapter_at_all_says_what_to_install(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel.plugins]\ndisabled = ["beanstalk", "memory", "sqlite"]\n')
    assert kessel.ok("adapters").out == "no adapter is installed; run: pip install kessel-sqlite\n"
    assert kessel.ok("adapters", "--json").json == []


def test_adapter_without_a_report_says_so(kessel: Any, shelf: Any) -> None:
    assert row(kessel, "shelf").split(maxsplit=3) == ["shelf", "shelf-dist", "1.0", "no report"]
    found = {adapter["name"]: adapter for adapter in kessel.ok("adapters", "--json").json}
    assert found["shelf"]["conformance"] == {"report": None, "remarks": ["no report"]}


def test_shipped_report_is_shown(kessel: Any, shelf: Any) -> None:
    shelf(json.dumps(REPORT))
    assert row(kessel, "shelf").split() == [
        *("shelf", "shelf-dist", "1.0"),
        *("2026-11-24", "1.0", "60", "0", "1", "11"),
    ]
    found = {adapter["name"]: adapter for adapter in kessel.ok("adapters", "--json").json}
    report = found["shelf"]["conformance"]["report"]
    assert (report["date"], report["passed"]) == ("2026-11-24T10:00:00Z", True)
    assert report["totals"] == REPORT["totals"]


def test_report_of_another_version_and_a_damaged_one_are_told(kessel: Any, shelf: Any) -> None:
    shelf(json.dumps(REPORT | {"version": "0.9"}))
    assert "the report is of shelf-dist 0.9, installed is shelf-dist 1.0" in row(kessel, "shelf")
    shelf('{"schema": 1, "adapter": "\x1b[31mred')
    assert row(kessel, "shelf").rstrip().endswith("damaged report: it is not JSON")


def test_report_cannot_move_the_cursor(kessel: Any, shelf: Any) -> None:
    shelf(json.dumps(REPORT | {"pinned": "1.0\x1b[2J\n"}))
    assert "\x1b" not in kessel.ok("adapters").out


def test_plugin_that_is_disabled_is_not_imported_for_its_report(kessel: Any, shelf: Any) -> None:
    """D4."""
    shelf(json.dumps(REPORT))
    kessel.write("kessel.toml", '[kessel.plugins]\ndisabled = ["shelf"]\n')
    assert "shelf" not in kessel.ok("adapters").out
    assert "plugin_shelf_package" not in sys.modules

"""The conformance report that an adapter ships: found as data, and never trusted further than it goes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kessel_core.plugins.shipped import FILE_NAME, Shipped, shipped_report
from kessel_core.plugins.status import PluginState, PluginStatus

REPORT: dict[str, Any] = {
    "schema": 1,
    "adapter": "shelf",
    "distribution": "kessel-adapter-shelf",
    "version": "0.1.0",
    "suite": "1.0",
    "pinned": None,
    "date": "2026-11-25T10:00:00Z",
    "passed": True,
    "not_run": [],
    "totals": {"pass": 60, "fail": 0, "skip": 11},
}

Look = Callable[..., Shipped]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """Ship a file beside a plugin, load the plugin, and look for its report."""
    monkeypatch.syspath_prepend(str(tmp_path))
    package = "shelf_with_report"

    def looked(body: bytes | str | None = None, *, owner: str = "0.1.0", **changes: Any) -> Shipped:
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "plugin.py").touch()
        if body is None:
            body = json.dumps(REPORT | changes)
        (folder / FILE_NAME).write_bytes(body if isinstance(body, bytes) else body.encode())
        __import__(f"{package}.plugin")
        return shipped_report("shelf", status(f"{package}.plugin", owner))

    yield looked
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


def status(module: str, version: str = "0.1.0") -> PluginStatus:
    return PluginStatus(
        name="shelf",
        distribution="kessel-adapter-shelf",
        version=version,
        module=module,
        state=PluginState.ACTIVE,
    )


def test_report_beside_the_plugin_is_read(look: Look) -> None:
    shipped = look()
    assert shipped.remarks == ()
    assert shipped.report is not None
    assert (shipped.report.suite, shipped.report.date.year) == ("1.0", 2026)
    assert (shipped.report.count("pass"), shipped.report.count("skip")) == (60, 11)
    assert shipped.report.count("no such status") == 0


@pytest.mark.parametrize("module", ["no_such_module_here", "json", "sys", "<object at 0x7f>", ""])
def test_plugin_without_a_report_says_so_and_nothing_is_imported(module: str) -> None:
    before = set(sys.modules)
    assert shipped_report("shelf", status(module)) == Shipped(remarks=("no report",))
    assert module in before or module not in sys.modules


def test_report_of_another_version_is_told(look: Look) -> None:
    shipped = look(owner="0.2.0")
    assert shipped.report is not None
    assert shipped.remarks == (
        "the report is of kessel-adapter-shelf 0.1.0, installed is kessel-adapter-shelf 0.2.0",
    )


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"distribution": "other"}, "the report is of other 0.1.0, installed is"),
        ({"distribution": None, "version": None}, "the report is of an unknown distribution, installed is"),
        ({"passed": False, "totals": {"fail": 1}}, "it failed"),
        ({"passed": False, "not_run": ["a.b", "c.d"]}, "incomplete: 2 cases were not run"),
        ({"pinned": "0.9"}, "pinned to suite 0.9"),
        ({"totals": {"pass": 1, "disabled": 2}}, "2 disabled"),
    ],
)
def test_what_weakens_a_report_is_told(look: Look, changes: dict[str, Any], remark: str) -> None:
    shipped = look(**changes)
    assert shipped.report is not None
    assert any(text.startswith(remark) for text in shipped.remarks), shipped.remarks


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"7", "it is not a conformance report of form 1"),
        (b"{}", "it is not a conformance report of form 1"),
        (b"[7]", "it is not a conformance report of form 1"),
        (json.dumps(REPORT | {"schema": 0}), "it is not a conformance report of form 1"),
        (json.dumps(REPORT | {"schema": 2}), "its form 2 is newer than this kessel-core reads (1)"),
        (json.dumps(REPORT | {"date": "yesterday"}), "$.date"),
        (json.dumps(REPORT | {"totals": {"pass": "many"}}), "expected a whole number"),
        (json.dumps(REPORT | {"not_run": "none"}), "$.not_run"),
        (json.dumps({"schema": 1, "adapter": "shelf"}), "required field"),
        (b" " * (9 * 1024 * 1024), "longer than"),
    ],
)
def test_damaged_report_is_one_clear_line(look: Look, body: bytes | str, why: str) -> None:
    shipped = look(body)
    assert shipped.report is None
    (remark,) = shipped.remarks
    assert remark.startswith("damaged report: ")
    assert why in remark
    assert "\n" not in remark


def test_folder_in_place_of_the_report_is_damage(look: Look, tmp_path: Path) -> None:
    look()
    (tmp_path / "shelf_with_report" / FILE_NAME).unlink()
    (tmp_path / "shelf_with_report" / FILE_NAME).mkdir()
    shipped = shipped_report("shelf", status("shelf_with_report.plugin"))
    assert shipped.remarks[0].startswith("damaged report: ")


def test_one_file_may_hold_the_reports_of_several_adapters(look: Look) -> None:
    shipped = look(json.dumps([REPORT | {"adapter": "other", "suite": "0.1"}, REPORT]))
    assert shipped.report is not None
    assert shipped.report.suite == "1.0"


def test_report_about_another_adapter_is_none(look: Look) -> None:
    shipped = look(adapter="other")
    assert shipped == Shipped(remarks=("no report: conformance.json is about another adapter",))


def test_fields_of_later_versions_are_left_alone(look: Look) -> None:
    assert look(mood="cheerful").report is not None

"""The conformance report that an adapter ships: found as data, and never trusted further than it goes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kessel_core.hooks import sources_of
from kessel_core.plugins.shipped import FILE_NAME, NEWEST_SUITE, Shipped, shipped_report
from kessel_core.plugins.status import PluginState, PluginStatus

PACKAGE = "shelf_with_report"
REPORT: dict[str, Any] = {
    "schema": 2,
    "adapter": "shelf",
    "distribution": "kessel-adapter-shelf",
    "version": "0.1.0",
    "package": PACKAGE,
    "suite": NEWEST_SUITE,
    "mutants": {"caught": 114, "planted": 115},
    "pinned": None,
    "date": "2026-11-25T10:00:00Z",
    "passed": True,
    "not_run": [],
    "not_shown": {},
    "totals": {"pass": 60, "fail": 0, "skip": 11},
    "runs": [
        {"name": "TestShelf", "clock": "real", "totals": {"pass": 60}, "unproved": {"durability": "power"}}
    ],
}

Look = Callable[..., Shipped]


@pytest.fixture
def look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Look]:
    """Ship a file beside a plugin, load the plugin, and look for its report."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def looked(body: Any = None, *, owner: str = "0.1.0", **changes: Any) -> Shipped:
        folder = tmp_path / PACKAGE
        folder.mkdir()
        (folder / "__init__.py").touch()
        (folder / "plugin.py").touch()
        __import__(f"{PACKAGE}.plugin")
        found = sources_of(PACKAGE)
        assert found is not None
        source = {"source": found[1]}
        if body is None:
            body = json.dumps(REPORT | source | changes)
        elif isinstance(body, list):
            body = json.dumps([one | source for one in body])
        (folder / FILE_NAME).write_bytes(body if isinstance(body, bytes) else body.encode())
        return shipped_report("shelf", status(f"{PACKAGE}.plugin", owner))

    yield looked
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
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
    assert (shipped.error, shipped.remarks) == (None, ())
    assert shipped.report is not None
    assert (shipped.report.suite, shipped.report.date.year) == (NEWEST_SUITE, 2026)
    assert shipped.report.mutants == {"caught": 114, "planted": 115}
    assert [run.name for run in shipped.report.runs] == ["TestShelf"]
    assert (shipped.report.count("pass"), shipped.report.count("skip")) == (60, 11)
    assert shipped.report.count("no such status") == 0


@pytest.mark.parametrize("module", ["no_such_module_here", "json", "sys", "<object at 0x7f>", ""])
def test_plugin_without_a_report_says_so_and_nothing_is_imported(module: str) -> None:
    before = set(sys.modules)
    assert shipped_report("shelf", status(module)) == Shipped.none("no report")
    assert Shipped.none("no report").error == "no report"
    assert module in before or module not in sys.modules


def test_report_of_another_version_is_stale(look: Look) -> None:
    shipped = look(owner="0.2.0")
    assert shipped.report is not None
    assert shipped.remarks == (
        "stale: the report is of kessel-adapter-shelf 0.1.0, installed is kessel-adapter-shelf 0.2.0",
    )
    assert shipped.error == shipped.remarks[0]


def test_report_of_other_sources_is_stale(look: Look, tmp_path: Path) -> None:
    """The version is the same as long as nobody raises it; the sources are not."""
    assert look().error is None
    (tmp_path / PACKAGE / "plugin.py").write_text("# mended")
    shipped = shipped_report("shelf", status(f"{PACKAGE}.plugin"))
    assert shipped.error == f"stale: the sources of {PACKAGE} have changed since"
    assert shipped.report is not None  # it is shown, with the remark


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"distribution": "other"}, "stale: the report is of other 0.1.0, installed is"),
        ({"distribution": None, "version": None}, "stale: the report is of an unknown distribution, install"),
        ({"source": None}, "it does not say of which sources it is"),
        ({"package": None}, "it does not say of which sources it is"),
        ({"package": "no_such_package"}, "stale: the sources of no_such_package have changed since"),
        ({"passed": False, "totals": {"fail": 1}}, "it failed"),
        ({"totals": {"fail": 1}}, "it failed"),
        ({"totals": {"error": 1}}, "it failed"),
        ({"runs": [{"clock": "real", "totals": {"pass": 9, "fail": 1}}]}, "it failed"),
        ({"passed": False, "not_run": ["a.b", "c.d"]}, "incomplete: 2 cases were not run"),
    ],
)
def test_report_that_proves_nothing_about_what_is_installed_is_an_error(
    look: Look, changes: dict[str, Any], error: str
) -> None:
    shipped = look(**changes)
    assert shipped.report is not None
    assert shipped.error is not None and shipped.error.startswith(error), shipped
    assert shipped.remarks[0] in shipped.error


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"pinned": "0.9"}, "pinned to suite 0.9"),
        ({"totals": {"pass": 1, "disabled": 2}}, "2 disabled"),
        ({"totals": {"pass": 1, "advisory": 2}}, "2 advisory"),
        ({"not_shown": {"lease": "it is too long"}}, "declared, but not shown: lease"),
        ({"suite": "0.9"}, f"of suite 0.9; {NEWEST_SUITE} asks for more"),
    ],
)
def test_what_weakens_a_report_is_told(look: Look, changes: dict[str, Any], remark: str) -> None:
    shipped = look(**changes)
    assert shipped.report is not None
    assert (shipped.error, shipped.remarks) == (None, (remark,))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"schema": 3}, "its form 3 is newer than this kessel-core reads (2)"),
        ({"suite": "99.0"}, f"it is of suite 99.0, and this kessel-core knows {NEWEST_SUITE}"),
        ({"suite": f"{NEWEST_SUITE}.1"}, f"it is of suite {NEWEST_SUITE}.1, and this"),
        ({"totals": {"pass": 60, "flaky": 1}}, "it counts 'flaky', which this kessel-core does not know"),
        ({"runs": [{"clock": "real", "totals": {"odd": 1}}]}, "it counts 'odd', which"),
    ],
)
def test_report_of_a_newer_suite_is_one_clear_error_and_no_number_of_it_is_shown(
    look: Look, changes: dict[str, Any], why: str
) -> None:
    shipped = look(**changes)
    assert shipped.report is None
    (remark,) = shipped.remarks
    assert remark == shipped.error
    assert remark.startswith(f"report of a newer suite: {why}")
    assert remark.endswith("; install a newer kessel-core to read it")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"7", "it is not a conformance report of form 2"),
        (b"{}", "it is not a conformance report of form 2"),
        (b"[7]", "it is not a conformance report of form 2"),
        (json.dumps(REPORT | {"schema": 1}), "it is not a conformance report of form 2"),
        (json.dumps(REPORT | {"suite": "newest"}), "'newest' is no suite version"),
        (json.dumps(REPORT | {"date": "yesterday"}), "$.date"),
        (json.dumps(REPORT | {"totals": {"pass": "many"}}), "expected a whole number"),
        (json.dumps(REPORT | {"not_run": "none"}), "$.not_run"),
        (json.dumps({"schema": 2, "adapter": "shelf"}), "required field"),
        (json.dumps(REPORT | {"adapter": None}), "it must name an adapter or a store"),
        (json.dumps(REPORT | {"store": "shelf"}), "it must name an adapter or a store"),
        (b" " * (9 * 1024 * 1024), "longer than"),
    ],
)
def test_damaged_report_is_one_clear_line(look: Look, body: bytes | str, why: str) -> None:
    shipped = look(body)
    assert shipped.report is None
    (remark,) = shipped.remarks
    assert remark.startswith("damaged report: ")
    assert remark == shipped.error
    assert why in remark
    assert "\n" not in remark


def test_folder_in_place_of_the_report_is_damage(look: Look, tmp_path: Path) -> None:
    look()
    (tmp_path / "shelf_with_report" / FILE_NAME).unlink()
    (tmp_path / "shelf_with_report" / FILE_NAME).mkdir()
    shipped = shipped_report("shelf", status("shelf_with_report.plugin"))
    assert shipped.remarks[0].startswith("damaged report: ")


def test_one_file_may_hold_the_reports_of_several_adapters(look: Look) -> None:
    shipped = look([REPORT | {"adapter": "other", "suite": "0.1"}, REPORT])
    assert shipped.report is not None
    assert shipped.report.suite == NEWEST_SUITE


def test_two_reports_about_one_adapter_are_damage(look: Look) -> None:
    """The second may be the red one."""
    shipped = look([REPORT, REPORT | {"passed": False}])
    assert shipped == Shipped.none("damaged report: conformance.json has 2 about this adapter")


OF_STORE: dict[str, Any] = {key: value for key, value in REPORT.items() if key != "adapter"} | {
    "store": "shelf"
}


def test_report_of_the_store_beside_the_jobs_is_found_with_that_of_the_adapter(look: Look) -> None:
    """Both suites were run at once, with one report."""
    shipped = look([OF_STORE | {"store": "other", "passed": False}, OF_STORE, REPORT])
    assert shipped.report is not None
    assert shipped.store is not None
    assert (shipped.report.adapter, shipped.store.store) == ("shelf", "shelf")
    assert (shipped.error, shipped.remarks) == (None, ())


def test_adapter_whose_store_failed_has_no_proof(look: Look) -> None:
    shipped = look([REPORT, OF_STORE | {"passed": False, "not_shown": {"reach": "no second process"}}])
    assert shipped.error == "its store: it failed"
    assert shipped.remarks == ("its store: it failed", "its store: declared, but not shown: reach")


def test_two_reports_about_one_store_are_damage(look: Look) -> None:
    shipped = look([REPORT, OF_STORE, OF_STORE])
    assert shipped == Shipped.none("damaged report: conformance.json has 2 about this store")


def test_report_about_a_store_alone_proves_no_adapter(look: Look) -> None:
    assert look([OF_STORE]) == Shipped.none("no report: conformance.json is about another adapter")


def test_report_about_another_adapter_is_none(look: Look) -> None:
    shipped = look(adapter="other")
    assert shipped == Shipped.none("no report: conformance.json is about another adapter")


def test_fields_of_later_versions_are_left_alone(look: Look) -> None:
    assert look(mood="cheerful").report is not None

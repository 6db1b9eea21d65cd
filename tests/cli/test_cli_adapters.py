"""`kessel adapters`: what can open a queue, its options, and the conformance report that it ships."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from kessel_core.hooks import sources_of
from kessel_core.plugins.shipped import NEWEST_SUITE

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

REPORT: dict[str, Any] = {
    "schema": 2,
    "adapter": "shelf",
    "distribution": "shelf-dist",
    "version": "1.0",
    "package": "plugin_shelf_package",
    "suite": NEWEST_SUITE,
    "mutants": {"caught": 114, "planted": 115},
    "date": "2026-11-24T10:00:00Z",
    "passed": True,
    "not_shown": {"lease": "60 s is too long"},
    "totals": {"pass": 60, "expected failure": 1, "not shown": 2, "skip": 11},
    "runs": [
        {
            "name": "TestShelf",
            "clock": "real",
            "url": "shelf://x",
            "server": "shelfd 3",
            "totals": {"pass": 60},
        },
        {"name": "TestTwo", "clock": "real", "totals": {"pass": 60}, "unproved": {"durability": "power: no"}},
    ],
}


@pytest.fixture
def shelf(site: Any, tmp_path: Any) -> Any:
    """Install an adapter as a package with a plugin module; return how to ship a report in it."""
    package = tmp_path / "site" / "plugin_shelf_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "plugin.py").write_text(SHELF)
    site.install("shelf", "")
    REPORT["package"], REPORT["source"] = sources_of("plugin_shelf_package") or ("", "")
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
    names = '"beanstalk", "memory", "postgres", "redis", "sqlite"'
    kessel.write("kessel.toml", f"[kessel.plugins]\ndisabled = [{names}]\n")
    assert kessel.ok("adapters").out == "no adapter is installed; run: pip install kessel-sqlite\n"
    assert kessel.ok("adapters", "--json").json == []


def test_adapter_without_a_report_says_so(kessel: Any, shelf: Any) -> None:
    assert row(kessel, "shelf").split() == ["shelf", "shelf-dist", "1.0", "no", "report"]
    found = {adapter["name"]: adapter for adapter in kessel.ok("adapters", "--json").json}
    assert found["shelf"]["conformance"] == {
        "report": None,
        "store": None,
        "error": "no report",
        "remarks": ["no report"],
    }


def test_shipped_report_is_shown(kessel: Any, shelf: Any) -> None:
    shelf(json.dumps(REPORT))
    assert row(kessel, "shelf").split() == [
        *("shelf", "shelf-dist", "1.0"),
        *("2026-11-24", NEWEST_SUITE, "60", "0", "1", "2", "11"),
        *("declared,", "but", "not", "shown:", "lease"),
    ]
    found = {adapter["name"]: adapter for adapter in kessel.ok("adapters", "--json").json}
    report = found["shelf"]["conformance"]["report"]
    assert (report["date"], report["passed"]) == ("2026-11-24T10:00:00Z", True)
    assert report["totals"] == REPORT["totals"]
    assert [run["name"] for run in report["runs"]] == ["TestShelf", "TestTwo"]


def test_cases_whose_server_failed_count_as_failed(kessel: Any, shelf: Any) -> None:
    """They keep a report from passing, so a row that says `it failed` does not say 0 beside it."""
    shelf(json.dumps(REPORT | {"passed": False, "totals": {"pass": 60, "fail": 1, "error": 2}}))
    columns = row(kessel, "shelf").split()
    assert columns[5:10] == ["60", "3", "0", "0", "0"]
    assert columns[10:12] == ["it", "failed;"]


def test_what_a_report_proves_is_said_below_the_table(kessel: Any, shelf: Any) -> None:
    shelf(json.dumps(REPORT))
    out = kessel.ok("adapters", "shelf").out
    assert out.index("shelf: a shelf") < out.index("report:")
    for line in (
        f"suite {NEWEST_SUITE} catches 114 of 115 planted faults",
        "TestShelf: on a real clock, shelf://x, shelfd 3",
        "TestTwo: on a real clock",
        "not shown: lease: 60 s is too long",
        "not to be shown by any run of this suite: durability: power: no",
    ):
        assert line in out, line
    assert "sqlite" not in out


def test_what_a_report_proves_of_the_store_beside_the_jobs_is_said(kessel: Any, shelf: Any) -> None:
    """Then it is no longer what the cases of adapters cannot show."""
    of_adapter = REPORT | {"runs": [REPORT["runs"][0] | {"unproved": {"store": "look elsewhere"}}]}
    of_store = {key: value for key, value in REPORT.items() if key != "adapter"} | {
        "store": "shelf",
        "mutants": {"caught": 85, "planted": 86},
        "totals": {"pass": 70, "fail": 0, "error": 0},
        "not_shown": {},
    }
    shelf(json.dumps(of_adapter))
    assert "not to be shown by any run of this suite: store: look elsewhere" in kessel.ok("adapters").out
    shelf(json.dumps([of_adapter, of_store]))
    out = kessel.ok("adapters", "shelf").out
    assert "look elsewhere" not in out
    assert "its store, 2026-11-24: 70 passed, 0 failed" in out
    assert f"its store: suite {NEWEST_SUITE} catches 85 of 86 planted faults" in out
    assert "its store: TestTwo: on a real clock" in out
    (found,) = (one for one in kessel.ok("adapters", "--json").json if one["name"] == "shelf")
    assert found["conformance"]["store"]["date"] == "2026-11-24T10:00:00Z"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, None),
        ({"version": "0.9"}, "stale: the report is of shelf-dist 0.9, installed is shelf-dist 1.0"),
        ({"source": "sha256:0"}, "stale: the sources of plugin_shelf_package have changed since"),
        ({"passed": False, "totals": {"fail": 1}}, "it failed"),
        ({"suite": "99.0"}, "report of a newer suite: it is of suite 99.0"),
        ({"schema": 99}, "report of a newer suite: its form 99 is newer"),
        ({"adapter": "other"}, "no report: conformance.json is about another adapter"),
    ],
)
def test_check_is_exit_code_1_where_the_report_proves_nothing(
    kessel: Any, shelf: Any, changes: dict[str, Any], error: str | None
) -> None:
    shelf(json.dumps(REPORT | changes))
    done = kessel("adapters", "--check", "shelf")
    if error is None:
        assert (done.code, done.err) == (0, "")
        return
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith(f"error: adapter shelf: {error}")
    assert kessel("adapters", "--check").code == 1  # it is one of all
    assert kessel.ok("adapters", "shelf").err == ""


def test_unknown_adapter_is_one_error(kessel: Any) -> None:
    done = kessel("adapters", "nosuch", "--check")
    assert (done.code, done.out) == (3, "")
    assert "no adapter 'nosuch' is usable" in done.err


def test_stale_report_and_a_damaged_one_are_told(kessel: Any, shelf: Any) -> None:
    shelf(json.dumps(REPORT | {"version": "0.9"}))
    assert "stale: the report is of shelf-dist 0.9, installed is shelf-dist 1.0" in row(kessel, "shelf")
    shelf('{"schema": 2, "adapter": "\x1b[31mred')
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


def test_choices_of_an_option_that_may_be_left_out_are_listed(kessel: Any) -> None:
    """As `durability` of Redis: the name of a class says nothing to whoever writes a configuration."""
    options = {one["name"]: one["options"] for one in kessel.ok("adapters", "--json").json}
    assert options["redis"]["durability"]["type"] == '"none" | "process-crash" | "power" | None'

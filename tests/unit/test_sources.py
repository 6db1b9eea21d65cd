"""The digest of a package's sources: the same on every machine, and another after any change."""

from __future__ import annotations

from pathlib import Path

import pytest

from kessel_core.hooks import sources_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kessel_digested"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "inner" / "script.lua").write_text("return 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def digest() -> str:
    found = sources_of("kessel_digested")
    assert found is not None and found[0] == "kessel_digested"
    return found[1]


def test_digest_changes_with_any_source_and_any_name(package: Path) -> None:
    before = digest()
    assert before.startswith("sha256:")
    (package / "inner" / "script.lua").write_text("return 2")
    changed = digest()
    (package / "inner" / "script.lua").rename(package / "inner" / "other.lua")
    renamed = digest()
    (package / "new.py").touch()
    assert len({before, changed, renamed, digest()}) == 4


def test_digest_is_not_of_what_is_made_of_sources_nor_of_a_report(package: Path) -> None:
    before = digest()
    (package / "__pycache__").mkdir()
    for name in (
        *("conformance.json", "conformance.md", "conformance.badge.json", ".swp", "a.pyc", "b.so", "c.pyd"),
        "__pycache__/x.py",
    ):
        (package / name).write_text("x")
    assert digest() == before
    (package / "conformance.py").touch()
    assert digest() != before


def test_sources_are_those_of_the_outermost_package_and_nothing_is_imported(package: Path) -> None:
    found = sources_of("kessel_core.hooks.specs")
    assert found is not None and found[0] == "kessel_core"
    assert sources_of("kessel_core") == found
    (package / "__init__.py").write_text("raise SystemExit")
    assert digest()


def test_package_of_a_namespace_is_one_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other distributions put theirs beside it."""
    inner = tmp_path / "kessel_space" / "mine"
    inner.mkdir(parents=True)
    (inner / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("kessel_space.mine")
    found = sources_of("kessel_space.mine")
    assert found is not None and found[0] == "kessel_space.mine"


@pytest.mark.parametrize("module", ["kessel_no_such_package", "no.such", "", "sys", "."])
def test_what_has_no_files_has_no_digest(module: str) -> None:
    assert sources_of(module) is None

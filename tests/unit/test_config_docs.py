"""The reference page of the configuration is what the classes say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from kessel_core import load_config

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "docs_configuration", DOCS.parent / "tools" / "docs_configuration.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_page_is_up_to_date(generator: ModuleType) -> None:
    """Otherwise run `python tools/docs_configuration.py`."""
    page = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert page == generator.page()


def test_every_option_is_documented(generator: ModuleType, tmp_path: Path) -> None:
    page = generator.page()
    for path in load_config(environ={}, directory=tmp_path).origins:
        assert f"| `{path}` |" in page


def test_example_of_the_page_is_a_valid_file(generator: ModuleType, tmp_path: Path) -> None:
    example = generator.HEAD.partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "kessel.toml").write_text(example)
    assert load_config(environ={}, directory=tmp_path).config.worker.slots == 4

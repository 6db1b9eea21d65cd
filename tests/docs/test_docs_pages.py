"""The reference pages say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import attrs
import pytest

import kessel_core
from kessel_core import JobRequest, JobResult, errors

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")])


def names_in(page: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", (DOCS / page).read_text(encoding="utf-8")))


def test_api_page_names_every_public_name_and_no_other() -> None:
    offered = set(kessel_core.__all__)
    listed = names_in("reference/api.md")
    assert offered <= listed
    assert {name for name in listed if not hasattr(kessel_core, name)} <= {"kessel_core"}


def test_every_public_name_exists_and_is_documented() -> None:
    for name in kessel_core.__all__:
        assert getattr(kessel_core, name).__doc__ or name == "JsonValue", name


def test_model_page_names_every_field() -> None:
    listed = names_in("reference/model.md")
    for model in (JobRequest, JobResult):
        assert {field.name for field in attrs.fields(model)} <= listed


def test_errors_page_names_every_error() -> None:
    leaves = {
        name
        for name in errors.__all__
        if isinstance(kind := getattr(errors, name), type)
        and issubclass(kind, Exception)
        and not kind.__subclasses__()
    }
    assert leaves - names_in("reference/errors.md") - {"Transient", "Fatal"} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_hooks_page_is_what_the_docstrings_say() -> None:
    script = DOCS.parent / "tools" / "docs_hooks.py"
    space = runpy.run_path(str(script))
    assert space["PAGE"].read_text(encoding="utf-8") == space["page"](), f"run {script.name}"

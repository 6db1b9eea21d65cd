"""The reference pages say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import attrs
import kessel_conformance
import pytest

import kessel_core
import kessel_core.contract
import kessel_core.hooks
import kessel_core.testing
from kessel_core import JobRequest, JobResult, build_plugins, errors
from kessel_core.hooks.specs import HOOKS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md"), *DOCS.parent.glob("[pe]*/*/README.md")])


def names_in(page: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", (DOCS / page).read_text(encoding="utf-8")))


def headings(page: str, level: int, section: str = "") -> list[str]:
    """Names that have a heading of a level on a reference page, perhaps only in one section of it."""
    text = (DOCS / "reference" / f"{page}.md").read_text(encoding="utf-8")
    if section:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^{'#' * level} (\w+)", text, re.M)


def test_the_reference_lists_exactly_what_applications_import() -> None:
    """E3; the names of `kessel_core.testing` and of other modules stand in sections of their own."""
    subjects = re.findall(r"^## ([A-Z].*)$", (DOCS / "reference" / "api.md").read_text("utf-8"), re.M)
    listed = [name for subject in subjects for name in headings("api", 3, subject)]
    assert sorted(listed) == sorted(kessel_core.__all__)


def test_the_reference_lists_exactly_what_tests_of_applications_import() -> None:
    """E3."""
    assert headings("api", 3, "kessel_core.testing") == sorted(kessel_core.testing.__all__)


def test_the_reference_lists_exactly_what_authors_of_adapters_import() -> None:
    """E3."""
    assert headings("contract", 2) == kessel_core.contract.__all__


def test_the_reference_lists_exactly_what_authors_of_plugins_import() -> None:
    """E3; the hooks themselves are found by their names."""
    listed = headings("hooks", 2)
    assert [name for name in listed if name not in HOOKS] == kessel_core.hooks.__all__
    assert sorted(set(listed) & HOOKS) == sorted(HOOKS)


def test_the_reference_lists_exactly_what_authors_of_suites_import() -> None:
    """E3; the sections before the names say how it is used."""
    sections = re.findall(r"^## (.*)$", (DOCS / "reference" / "suite.md").read_text("utf-8"), re.M)
    listed = [name for name in sections if name in kessel_conformance.__all__]
    assert listed == kessel_conformance.__all__
    assert [name for name in sections if name not in listed] == [
        "Wire an adapter",
        "Run it",
        "How a case ends",
    ]


def test_every_public_name_exists_and_is_documented() -> None:
    for name in kessel_core.__all__:
        assert getattr(kessel_core, name).__doc__ or name in ("JsonInput", "JsonValue"), name


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
    assert leaves - names_in("reference/errors.md") - {"Transient", "Snooze", "Fatal"} == set()


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            linked = page.parent / name if name else page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def test_every_address_in_the_docs_is_one_that_its_adapter_takes() -> None:
    """With its options; nothing is opened."""
    plugins = build_plugins()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        schemes = "beanstalk|memory|postgresql|rediss?|sqlite|valkeys?"
        for url in re.findall(rf"\b(?:{schemes})://[^\s`'\")|\\]*", text):
            if "{" not in url:  # a pattern of the conformance suite
                plugins.chosen_adapter(url.rstrip(".,;:"), {})


def test_the_index_leads_to_every_page_and_the_readme_to_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        name = page.relative_to(DOCS).as_posix()
        # Reports of single adapters are led to by their own page.
        if name != "README.md" and not name.startswith("reference/conformance/"):
            assert index.count(f"]({name})") == 1, name
    assert "](docs/README.md)" in (DOCS.parent / "README.md").read_text(encoding="utf-8")


def test_api_pages_are_what_the_docstrings_say() -> None:
    script = DOCS.parent / "tools" / "docs_api.py"
    for page, text in runpy.run_path(str(script))["pages"]().items():
        assert page.read_text(encoding="utf-8") == text, f"run {script.name}"


@pytest.mark.parametrize("page", ["api", "contract", "hooks", "suite"])
def test_every_public_field_and_value_is_described(page: str) -> None:
    text = (DOCS / "reference" / f"{page}.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `.*\|  \|$", text, re.M) == []

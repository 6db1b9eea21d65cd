"""The page of the lifecycle is drawn from the table that workers look up (D7)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from kessel_core.model.lifecycle import TRANSITIONS
from kessel_core.model.result import Status
from kessel_core.model.states import JobState

ROOT = Path(__file__).parents[2]


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_lifecycle", ROOT / "tools" / "docs_lifecycle.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current() -> None:
    written = (ROOT / "docs" / "explanation" / "lifecycle.md").read_text("utf-8")
    assert written == tool().page(), "run: python tools/docs_lifecycle.py"


def test_every_transition_and_every_status_is_on_the_page() -> None:
    page = tool().page()
    assert page.count(" --> ") == len(TRANSITIONS)
    assert all(f"| {status} |" in page for status in Status)
    assert all(str(state) in page for state in JobState)

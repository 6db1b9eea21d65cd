"""The tool of `make check` that finds circles of imports (E1)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_imports.py"
TYPING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import B\n"


def checked(folder: Path, **modules: str) -> tuple[int, list[str]]:
    package = folder / "p"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__", "inner/__init__", "a", "b", "inner/c"):
        (package / f"{name}.py").write_text(modules.get(name.replace("/", "_"), ""))
    done = subprocess.run(
        [sys.executable, str(TOOL), str(package)], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("modules", "circle"),
    [
        ({"a": "import p.b", "b": "import p.a"}, "p.a -> p.b -> p.a"),
        ({"a": TYPING, "b": "from p.a import A"}, "p.a -> p.b -> p.a"),
        ({"a": "def late():\n    from p import b", "b": "from . import a"}, "p.a -> p.b -> p.a"),
        ({"a": "from p.inner.c import C", "inner_c": "from ..a import A"}, "p.a -> p.inner.c -> p.a"),
        ({"__init__": "from p.a import A", "a": "from p import A"}, "p -> p.a -> p"),
        (
            {"a": "import p.b", "b": "from p.inner import c", "inner_c": "import p.a"},
            "p.a -> p.b -> p.inner.c -> p.a",
        ),
    ],
)
def test_every_kind_of_import_can_close_a_circle(
    tmp_path: Path, modules: dict[str, str], circle: str
) -> None:
    assert checked(tmp_path, **modules) == (1, [circle])


def test_imports_that_lead_one_way_only_are_no_circle(tmp_path: Path) -> None:
    clean = {
        "__init__": "from p.a import A",
        "a": "from p import b\nimport json",
        "b": "from .inner import c",
    }
    assert checked(tmp_path, **clean) == (0, ["No import circles."])

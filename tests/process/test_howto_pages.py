"""The `sh` examples of the how-to pages run, each page from an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
#: The pages about the command; pages about backends have tests of their own.
PAGES = [
    HOWTO / f"{name}.md"
    for name in (
        "configure",
        "find-out-what-is-wrong",
        "look-at-plugins",
        "mend-buried-jobs",
        "purge-a-queue",
        "request-jobs",
        "run-workers",
        "start-a-plugin",
        "watch-queues",
        "why-a-job-does-not-run",
    )
]


def examples(page: Path) -> str:
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("KESSEL_")}
    script = f'kessel() {{ "{sys.executable}" -m kessel_core.cli "$@"; }}\n{examples(page)}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

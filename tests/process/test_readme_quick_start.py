"""The two terminals of the README's quick start, typed as they stand there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_finding_c8_the_quick_start_does_what_it_says_and_shows_the_result(tmp_path: Path) -> None:
    section = README.read_text("utf-8").partition("## Quick start")[2].partition("\n## ")[0]
    install, first, second = re.findall(r"^```\n(.*?)^```", section, re.M | re.S)
    assert install.startswith("pip install . ")
    assert first.strip() == "KESSEL_RESULTS_KEEP=1h kessel worker"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KESSEL_")}
    environment["KESSEL_RESULTS_KEEP"] = "1h"
    script = f'kessel() {{ "{sys.executable}" -m kessel_core.cli "$@"; }}\n{second}'
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "kessel_core.cli", "worker"], cwd=tmp_path, env=environment, stderr=log
        ) as worker,
    ):
        try:
            typed = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert typed.returncode == 0, typed.stderr
            end = time.monotonic() + 60
            while "addition success" not in (tmp_path / "log").read_text():
                assert time.monotonic() < end
                time.sleep(0.05)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(60) == 0
        finally:
            worker.kill()
    assert typed.stdout.splitlines()[0] == "3"
    assert typed.stdout.count("requested ") == 1
    assert re.search(r"^default +\d+ +1 ", typed.stdout, re.M), "one job is delayed"
    assert (tmp_path / "kessel.db").exists()

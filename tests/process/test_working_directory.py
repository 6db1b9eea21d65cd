"""Nothing is imported from the working directory by accident (finding D9)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LONG = 60.0

TRAP = "open('trapped', 'a').write(__name__ + '\\n')\nraise RuntimeError('trapped')\n"


@pytest.mark.parametrize("processes", ["1", "2"])
def test_finding_d9_a_worker_imports_no_module_of_the_working_directory_by_accident(
    tmp_path: Path, processes: str
) -> None:
    for name in ("random", "click", "attrs", "logging", "kessel_core"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    # A distribution that lies there is no plugin, either.
    info = tmp_path / "trap-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: trap\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[kessel.v1]\ntrap = trap_plugin\n")
    (tmp_path / "trap_plugin.py").write_text(TRAP)
    (tmp_path / "myhandlers.py").write_text(
        "import pathlib, kessel_core\n"
        "@kessel_core.handler('note')\ndef note(payload):\n    pathlib.Path('noted').write_text('x')\n"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("KESSEL_") and name != "PYTHONPATH"
    }
    kessel = str(Path(sys.executable).with_name("kessel"))

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [kessel, *arguments], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
        )

    _, err = (request := start("request", "note")).communicate(timeout=LONG)
    assert request.returncode == 0, err
    worker = start("worker", "--handlers", "myhandlers", "--processes", processes)
    try:
        end = time.monotonic() + LONG
        while not (tmp_path / "noted").exists() and worker.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.02)
        worker.send_signal(signal.SIGTERM)
        _, err = worker.communicate(timeout=LONG)
    finally:
        worker.kill()
    assert not (tmp_path / "trapped").exists(), err
    assert (tmp_path / "noted").exists(), err
    assert worker.returncode == 0, err

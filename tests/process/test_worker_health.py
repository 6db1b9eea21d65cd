"""`kessel worker --health` and `--health-file` as probes see them: real processes and signals (S38)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.until import until

LONG = 60.0

HANDLERS = """
import os, pathlib, time
while pathlib.Path("import slowly").exists():
    time.sleep(0.01)

def slow(payload):
    pathlib.Path("started").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.01)

def die(payload):
    os._exit(9)
"""


class Place:
    """A directory with a worker, and a probe of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("KESSEL_")}
        self.environment["PYTHONPATH"] = str(directory)
        (directory / "handlers.py").write_text(HANDLERS)
        (directory / "kessel.toml").write_text(
            '[kessel.handlers]\nslow = "handlers:slow"\ndie = "handlers:die"\n'
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "kessel_core.cli", *arguments]

    @contextmanager
    def worker(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            self.command("worker", *arguments), cwd=self.directory, env=self.environment
        )
        try:
            yield process
        finally:
            (self.directory / "go").touch()
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                assert process.wait(LONG) == 0
            finally:
                process.kill()

    def request(self, kind: str) -> None:
        command = self.command("request", kind)
        subprocess.run(command, cwd=self.directory, env=self.environment, check=True, timeout=LONG)

    def said(self, path: str) -> tuple[int, dict[str, Any]]:
        """Return status and body; (0, {}): nobody listens."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=LONG) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, json.load(exc)
        except OSError:
            return 0, {}

    def is_ready(self) -> bool:
        return self.said("/readyz")[0] == 200


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_s38_a_worker_is_probed_from_its_start_to_its_end(place: Place) -> None:
    (place.directory / "import slowly").touch()
    with place.worker("--health", place.address) as process:
        until(lambda: place.said("/livez")[0] == 200)
        assert place.said("/readyz") == (
            503,
            {"live": True, "ready": False, "reasons": ["the worker has not begun"]},
        )
        (place.directory / "import slowly").unlink()
        until(place.is_ready)
        assert place.said("/livez") == (200, {"live": True, "ready": True, "reasons": []})
        place.request("slow")
        until((place.directory / "started").exists)
        process.send_signal(signal.SIGTERM)
        until(lambda: not place.is_ready())
        stops = {"live": True, "ready": False, "reasons": ["the worker stops"]}
        assert (place.said("/livez"), place.said("/readyz")) == ((200, stops), (503, stops))
        (place.directory / "go").touch()
        assert process.wait(LONG) == 0
    assert place.said("/livez") == (0, {})


def test_s38_one_address_answers_for_all_processes_and_survives_each(place: Place) -> None:
    file = place.directory / "health"
    with place.worker("--health", place.address, "--processes", "2", "--health-file", str(file)) as process:
        until(place.is_ready)
        place.request("die")
        until(lambda: not place.is_ready())
        status, said = place.said("/livez")
        assert (status, said["live"]) == (200, True)
        until(place.is_ready)
        until(lambda: file.exists() and json.loads(file.read_bytes())["ready"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0
    assert not file.exists()


def test_s38_the_file_is_renewed_while_it_is_alive_and_gone_after_the_end(place: Place) -> None:
    file = place.directory / "health"
    with place.worker("--health-file", "health"):
        until(file.exists)
        first = file.stat().st_mtime
        time.sleep(0.01)  # so that the renewed one is later by the clock of the file system
        until(lambda: file.stat().st_mtime > first)
        assert json.loads(file.read_bytes()) == {"live": True, "ready": True, "reasons": []}
    assert not file.exists()
    assert not [*place.directory.glob("health*")]

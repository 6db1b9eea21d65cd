"""docs/howto/an-operators-night.md as typed, on SQLite and on beanstalkd: 5,000 buried jobs, three causes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "an-operators-night.md").read_text("utf-8")
ID = re.compile(r"\b01a21d[0-9a-f-]{30}\b")
#: What is the same in every night: sentences that begin so, without ids.
SENTENCE = re.compile(r"^(?:kicked|deleted|paused|resumed|\d+ success|[\d,]+ of [\d,]+)")


@attrs.frozen
class Shell:
    """A directory in which `kessel` is typed."""

    directory: Path
    adapter: str

    def __call__(self, line: str) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KESSEL_")}
        done = subprocess.run(
            [
                "bash",
                "-euo",
                "pipefail",
                "-c",
                f'kessel() {{ "{sys.executable}" -m kessel_core.cli "$@"; }}\n{line}',
            ],
            cwd=self.directory,
            env=environment | {"KESSEL_ADAPTER": self.adapter},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(params=["sqlite", "beanstalk"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    if request.param == "sqlite":  # a loss of power is not what is tried here, and costs a minute
        yield Shell(tmp_path, "sqlite:///night.db?durability=process-crash")
        return
    testing = pytest.importorskip("kessel_beanstalk.testing")
    if shutil.which(os.environ.get("BEANSTALKD", "beanstalkd")) is None:
        pytest.skip("no beanstalkd")
    server = testing.Beanstalkd()
    server.start()
    try:
        yield Shell(tmp_path, f"beanstalk://127.0.0.1:{server.port}")
    finally:
        server.kill()


def typed() -> list[tuple[str, list[str]]]:
    """Each command of the page, with the lines that the page shows below it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


def test_an_operators_night_goes_as_the_page_says(shell: Shell) -> None:
    (setting,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    shell(setting)
    ids: dict[str, str] = {}  # of the page -> of this night
    for command, shown in typed():
        for told in ID.findall(command):
            command = command.replace(told, ids[told])
        out = shell(command)
        for line in shown:
            if SENTENCE.match(line):
                assert ID.sub("ID", line) in re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b", "ID", out), command
        listed = re.findall(r"^([0-9a-f]{8}-[0-9a-f-]{27}) ", out, re.M)
        ids.update(zip([line[:36] for line in shown if ID.match(line)], listed, strict=False))
    (cause,) = json.loads(shell("kessel buried --json"))
    assert (cause["type"], cause["count"]) == ("card.charge", 999)

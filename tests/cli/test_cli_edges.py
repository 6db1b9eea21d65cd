"""Files, numbers, streams and bodies that are not as they should be: one clear error each, or none at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kessel_core.clock import SystemClock
from kessel_core.contract import AdapterContext, Message
from kessel_core.plugins.loading import build_plugins

DIGITS = "9" * 5000


@pytest.fixture
def store(kessel: Any) -> Callable[[bytes], None]:
    """Store bytes that no request of kessel has, and let them be buried."""

    def put(body: bytes) -> None:
        adapter = (
            build_plugins().chosen_adapter("sqlite:///kessel.db").open(AdapterContext(clock=SystemClock()))
        )
        adapter.enqueue(Message("00000000-odd", "default", body, 1, None))
        adapter.close()
        kessel.ok("drain")

    return put


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "x", "payload": NaN}',
        b'{"type": "x", "payload": 1e999}',
        b'{"type": "x", "payload": -Infinity}',
        b'{"type": "x", "payload": ' + DIGITS.encode() + b"}",
        b'{"type": "x", "payload": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"type": "x", "payload": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"type": "x", "type": "y"}',
        b"\xff\xfe\x00",
        b'{"payload": "\\ud800"}',
        b"",
    ],
)
def test_finding_d15_json_is_json_whatever_was_stored(
    kessel: Any, store: Callable[[bytes], None], body: bytes
) -> None:
    def refused(text: str) -> None:
        raise AssertionError(text)

    store(body)
    for words in ("buried list", "buried show 00000000-odd", "show 00000000-odd", "buried"):
        out = kessel.ok(*words.split(), "--json").out
        json.loads(out, parse_constant=refused)
        kessel.ok(*words.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[kessel.worker]\nslots = {DIGITS}", "kessel.toml: has a number of too many digits"),
        (f"[kessel.worker]\nslots = 0x{'f' * 6000}", "worker.slots"),
        (f"[kessel.worker]\ngrace = {'9' * 400}", "worker.grace"),
        (f"[kessel.worker]\ngrace = '{DIGITS}'", "worker.grace"),
        (f"[kessel.{'.'.join('a' * 2000)}]\nx = 1", "kessel.toml: is nested too deeply"),
        ("[kessel.adapter_options]\nx = " + "[" * 2000 + "]" * 2000, "kessel.toml: is nested too deeply"),
        (f"[kessel]\nadapter = 'sqlite:///{'x' * 300}'", "too long"),
        (f"[kessel]\nqueues = ['{'q' * 300}']", "queues[0]"),
    ],
    ids=["digits", "hex", "int span", "text span", "tables", "lists", "name", "queue"],
)
def test_finding_d17_a_file_of_the_absurd_is_one_clear_error(kessel: Any, text: str, said: str) -> None:
    kessel.write("kessel.toml", text)
    done = kessel("stats")
    assert done.code in (1, 2)
    assert said.lower() in done.err.lower()
    assert len(done.err) < 1000
    assert "Traceback" not in done.err


@pytest.mark.parametrize("depth", [60, 900, 100_000])
def test_finding_d17_json_of_the_environment_that_is_nested_is_one_clear_error(
    kessel: Any, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    deep = '{"a": ' * depth + "1" + "}" * depth
    monkeypatch.setenv("KESSEL_ADAPTER_OPTIONS", deep)
    done = kessel("config")
    assert done.code == 2
    assert "KESSEL_ADAPTER_OPTIONS" in done.err
    assert len(done.err) < 1000


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _nowhere(path: Path) -> None:
    path.symlink_to("is-not-there.toml")


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_fifo, _nowhere, _circle, _folder])
@pytest.mark.parametrize("named", [True, False])
def test_finding_d17_what_is_no_file_is_an_error_and_not_a_default(
    kessel: Any, make: Callable[[Path], None], named: bool
) -> None:
    make(kessel.directory / "kessel.toml")
    done = kessel("config", *(["--config", "kessel.toml"] if named else []))
    assert done.code == 2
    assert "kessel.toml" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "none/kessel.toml", "/"])
def test_finding_d17_a_name_that_cannot_be_is_one_clear_error(kessel: Any, name: str) -> None:
    done = kessel("config", "--config", name)
    assert done.code == 2
    assert done.err.startswith("error: ")


def test_finding_d17_a_directory_that_may_not_be_entered_is_said(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "lstat", refused)
    done = kessel("config")
    assert done.code == 2
    assert "kessel.toml: it cannot be read: Permission denied" in done.err


@pytest.mark.parametrize("words", ["buried list", "peek", "find --type x", "buried kick"])
@pytest.mark.parametrize("limit", [str(2**63), DIGITS, "0", "-1", "1e3"])
def test_finding_d17_a_limit_beyond_reason_is_wrong_usage(kessel: Any, words: str, limit: str) -> None:
    kessel.ok("request", "x")
    done = kessel(*words.split(), "--limit", limit)
    assert done.code == 2
    assert "--limit" in done.err


def test_finding_c15_a_byte_order_mark_is_read_over(kessel: Any) -> None:
    (kessel.directory / "kessel.toml").write_bytes(b"\xef\xbb\xbf[kessel]\nqueues = ['mail']\n")
    assert kessel.ok("config", "--json").json["options"]["queues"]["value"] == ["mail"]


# --- streams -----------------------------------------------------------------------------------


def command(directory: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell in which `kessel` is this kessel."""
    own = f'"{sys.executable}" -P -m kessel_core.cli'
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KESSEL_")}
    return subprocess.run(
        ["sh", "-c", line.replace("kessel ", f"{own} ")],
        cwd=directory,
        env=inherited | environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )


def test_finding_c11_closed_streams_are_no_error_and_reach_no_file(tmp_path: Path) -> None:
    for line in (
        "kessel request x >&-",
        "kessel request x 2>&-",
        "kessel request x <&- >&- 2>&-",
        "kessel drain 2>&-",
        "kessel stats >&-",
        "kessel buried list >&- 2>&-",
    ):
        assert command(tmp_path, line).returncode == 0, line
    assert (tmp_path / "kessel.db").read_bytes().startswith(b"SQLite format 3\0")
    stats = json.loads(command(tmp_path, "kessel stats --json").stdout)
    assert [(queue["ready"], queue["buried"]) for queue in stats] == [(0, 3)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "line", ["kessel stats", "kessel stats --json", "kessel request x", "kessel config", "kessel --help"]
)
def test_an_output_that_takes_nothing_is_one_error_and_the_deed_is_done(tmp_path: Path, line: str) -> None:
    command(tmp_path, "kessel request x")
    done = command(tmp_path, f"{line} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1:] == [
        "error: standard output: No space left on device; what was done is done, and not told"
    ]
    assert "Traceback" not in done.stderr
    (stats,) = json.loads(command(tmp_path, "kessel stats --json").stdout)
    assert stats["ready"] == 1 + ("request" in line)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_finding_c11_a_terminal_of_few_characters_shows_the_others_by_number(
    tmp_path: Path, encoding: str
) -> None:
    command(tmp_path, "kessel request grüße.€ '\"日本 😀\"'; kessel drain")
    for line in ("kessel buried list", "kessel buried", "kessel buried list --json", "kessel stats"):
        done = command(tmp_path, line, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    shown = command(tmp_path, "kessel buried list", PYTHONIOENCODING=encoding, PYTHONUTF8="0").stdout
    assert "\\u20ac" in shown

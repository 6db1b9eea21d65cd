"""What `kessel worker` says of a wrong address or file for its health, before anything is opened (S38)."""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from kessel_core.cli import health
from kessel_core.runtime.health_http import Answer
from kessel_core.runtime.health_pages import LIVE


def refused(kessel: Any, *arguments: str) -> str:
    done = kessel("worker", *arguments)
    assert done.code == 2
    assert done.err.startswith("error: invalid configuration: ")
    (line,) = done.err.splitlines()
    assert "Traceback" not in done.err
    assert not Path(kessel.directory, "kessel.db").exists()
    return str(line.removeprefix("error: invalid configuration: "))


def test_s38_what_is_no_address_is_refused(kessel: Any) -> None:
    assert refused(kessel, "--health", "8086") == (
        "--health: expected HOST:PORT, as 127.0.0.1:8086 or [::1]:8086, got '8086'"
    )


@pytest.mark.parametrize("processes", ["1", "2"])
def test_s38_a_port_that_is_taken_is_one_error(kessel: Any, processes: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        why = refused(kessel, "--health", address, "--processes", processes)
    assert why.startswith(f"--health: cannot listen at {address}: Address already in use; choose")


def test_s38_an_address_of_another_machine_or_of_none_is_one_error(kessel: Any) -> None:
    assert "--health: cannot listen at 192.0.2.1:8086: " in refused(kessel, "--health", "192.0.2.1:8086")
    assert "cannot listen at no-such-host.invalid:80" in refused(
        kessel, "--health", "no-such-host.invalid:80"
    )
    assert "cannot listen at " + "x" * 70 in refused(kessel, "--health", "x" * 70 + ":80")


def test_s38_a_wrong_address_in_the_file_is_said_to_be_there(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel.worker]\nhealth_address = "192.0.2.1:8086"\n')
    assert refused(kessel).startswith("kessel.toml: worker.health_address: cannot listen at")


def test_s38_a_file_that_cannot_be_written_is_one_error_and_leaves_nothing(kessel: Any) -> None:
    assert refused(kessel, "--health-file", "nowhere/health").endswith(
        "nowhere/health: No such file or directory"
    )
    Path(kessel.directory, "folder").mkdir()
    assert "folder: Is a directory" in refused(kessel, "--health-file", "folder")
    assert "cannot write /: " in refused(kessel, "--health-file", "/")
    assert [path.name for path in Path(kessel.directory).iterdir()] == ["folder"]


def test_s38_before_a_worker_is_alive_its_file_is_never_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment, to see whether it can be written, and not that of a worker that was killed."""
    file, moved = tmp_path / "health", []
    file.write_text("of before")
    monkeypatch.setattr(Path, "replace", lambda *names: moved.append(names))
    assert health._writable(None, file) == file  # type: ignore[arg-type]  # no error is to be told
    assert [*tmp_path.iterdir()] == []
    assert moved == []


def test_s38_the_file_is_there_only_while_the_worker_is_alive_and_the_log_says_once_that_it_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A probe may look whether there is a file, and not how old it is."""
    file = tmp_path / "health"
    for is_alive in (True, True, False, False, True):
        status = HTTPStatus.OK if is_alive else HTTPStatus.SERVICE_UNAVAILABLE
        answer = Answer.plain(status, f"alive: {is_alive}")
        health._renew(file, {LIVE: answer}.__getitem__)
        assert [path.name for path in tmp_path.iterdir()] == ["health"] * is_alive
    assert file.read_bytes() == b"alive: True\n"
    assert [record.getMessage() for record in caplog.records] == ["not alive: alive: False"]


def test_s38_nobody_reads_half_of_the_file_and_a_full_disk_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file, write, is_full = tmp_path / "health", Path.write_bytes, True

    def written(path: Path, body: bytes) -> int:
        write(path, body[:1])
        assert file.read_bytes() == b"before"
        if is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, body)

    write(file, b"before")
    monkeypatch.setattr(Path, "write_bytes", written)
    alive = Answer.plain(HTTPStatus.OK, "alive")
    health._renew(file, {LIVE: alive}.__getitem__)
    assert file.read_bytes() == b"before"
    (record,) = caplog.records
    assert record.getMessage().startswith("the health file could not be renewed: [Errno 28] No space")
    is_full = False
    health._renew(file, {LIVE: alive}.__getitem__)
    assert file.read_bytes() == alive.body
    assert [*tmp_path.iterdir()] == [file]


def test_s38_after_the_end_the_file_is_gone_although_it_was_just_being_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed before its thread has ended it would be written once more, and say that a worker is alive."""
    file = tmp_path / "health"
    begun, ends, removed = threading.Event(), threading.Event(), threading.Event()

    def renew(path: Path, answer: object) -> None:
        begun.set()
        assert ends.wait(10)
        removed.wait(0.2)
        path.write_text("alive")

    def remove(path: Path) -> None:
        path.unlink(missing_ok=True)
        removed.set()

    monkeypatch.setattr(health, "_renew", renew)
    monkeypatch.setattr(health, "_remove", remove)
    with ExitStack() as stack:
        health.Telling(True, stack).renew(file)
        assert begun.wait(10)
        stack.callback(ends.set)
    assert removed.is_set()
    assert not file.exists()


def test_s38_a_socket_that_is_none_is_wrong_usage(kessel: Any) -> None:
    reading, writing = os.pipe()
    for descriptor in (reading, 9999):
        assert kessel("worker", "--health-fd", str(descriptor)).code == 2
    os.close(writing)

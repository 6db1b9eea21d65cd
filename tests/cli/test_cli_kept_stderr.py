"""The log of a worker goes where standard error went at its start, whatever jobs do to descriptors (F45)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kessel_core.cli.streams import kept_stderr

PROGRAM = """
import os, sys
from kessel_core.cli.streams import kept_stderr
stream = kept_stderr()
(kept,) = [n for n in range(3, 50) if os.path.exists(f"/dev/fd/{n}") and os.path.sameopenfile(n, 2)]
stream.write("one\\n")
other = os.open(sys.argv[2], os.O_RDWR | os.O_CREAT)
for number in {"both": (2, kept), "standard": (2,), "kept": (kept,), "none": ()}[sys.argv[1]]:
    os.dup2(other, number)
stream.write("two\\u20ac\\n")
os.close(kept)
stream.write("three\\n")
stream.flush()
"""


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ("none", "one\ntwo\\u20ac\nthree\n"),
        ("standard", "one\ntwo\\u20ac\n"),
        ("kept", "one\ntwo\\u20ac\nthree\n"),
        ("both", "one\n"),
    ],
)
def test_f45_what_takes_the_numbers_of_standard_error_gets_no_log_line(
    tmp_path: Path, replaced: str, said: str
) -> None:
    other = tmp_path / "other"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, replaced, str(other)],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, said)
    assert other.read_bytes() == b""


def test_f45_a_standard_error_that_is_no_file_stays_what_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept_stderr() is sys.stderr
    kept_stderr().write("said")
    assert capsys.readouterr().err == "said"

"""What is opened gets no number of a closed standard stream (F45)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, resource
from kessel_core.runtime.descriptors import Descriptors
from kessel_core.values.streams import keep_standard_numbers

told = os.dup(1)
before = sorted(os.listdir("/dev/fd"))
keep_standard_numbers()
assert sorted(os.listdir("/dev/fd")) == before, "what is open stays as it is"
os.close(1)
keep_standard_numbers()
os.closerange(0, 3)
keep_standard_numbers()
assert os.open(os.devnull, os.O_RDONLY) > 2
os.closerange(0, 3)
watching = Descriptors(lambda: None)
watching.open()
os.dup2(told, 0)
os.dup2(told, 1)
os.dup2(told, 2)
assert watching.check(), "what a worker watches is no stream, either"
os.closerange(0, 3)
keep_standard_numbers()
assert all(os.fstat(n).st_rdev == os.stat(os.devnull).st_rdev for n in range(3))
os.closerange(0, 3)
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
keep_standard_numbers()  # none is left
os.write(told, b"well")
"""


def test_f45_closed_standard_streams_are_opened_onto_nothing_and_others_are_left_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, timeout=60, check=False, text=True
    )
    assert done.stdout == "well"


OPENED = """
import os, sys
from kessel_core.values.streams import opened_above

os.close(1)
brief = os.open(sys.executable, os.O_RDONLY)  # another thread has a file open, for a moment
assert brief == 1
made = []

def make():
    if not made:
        os.close(brief)
    made.append(os.open(sys.argv[0], os.O_RDONLY | os.O_CLOEXEC))
    return made[-1]

assert opened_above(make, os.close) > 2, made
assert made[0] == 1
assert os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev, "the first one was not closed"
"""


def test_f45_what_is_opened_gets_no_number_that_a_brief_file_had_just_then(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(OPENED, encoding="utf-8")
    subprocess.run([sys.executable, str(script)], stdin=subprocess.DEVNULL, timeout=60, check=True)

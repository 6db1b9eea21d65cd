"""What is opened gets no number of a closed standard stream (F45)."""

from __future__ import annotations

import subprocess
import sys

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

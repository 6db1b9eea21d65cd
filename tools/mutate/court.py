"""A pytest that judges faults in a copy of the repository; the other side of `judge.py`."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from copies import a_copy
from faults import ROOT, Fault

__all__ = ["Court", "a_court"]

PYTEST: Final = (sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider")


@dataclass
class Court:
    """Judges one fault at a time."""

    #: The tests of each file.
    collected: defaultdict[str, list[str]]
    _talk: TextIO
    _log: Path

    def judge(self, fault: Fault, tests: Sequence[str], seconds: float) -> dict[str, Any]:
        """Return the verdict, who noticed it, and how many tests were run; see `judge.py`.

        Raises:
            RuntimeError: The judge has ended.
        """
        text = fault.applied((ROOT / fault.file).read_bytes()).decode()
        order = {"file": fault.file, "text": text, "tests": list(tests), "seconds": seconds}
        print(json.dumps(order), file=self._talk, flush=True)
        verdict: dict[str, Any] = self.heard()
        return verdict

    def heard(self) -> Any:
        """Return the next thing that the judge says."""
        line = self._talk.readline()
        if not line:
            raise RuntimeError(f"the judge has ended: {self._log.read_text(errors='replace')[-3000:]}")
        return json.loads(line)


@contextmanager
def a_court(files: Sequence[str], end: float = math.inf) -> Iterator[Court]:
    """Start a judge that knows the tests of these files, and end it and all that it left running.

    It is ended at the moment `end` of the monotonic clock, whatever it does then.
    """
    ours, theirs = socket.socketpair()
    with a_copy() as (copy, environment), ours, ours.makefile("rw") as talk:
        log = copy.parent / "judge.log"
        environment["KESSEL_JUDGE_LOG"] = str(copy.parent / "cold.log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*PYTEST, "-p", "judge", "-n0", "--tb=no", "--hypothesis-seed=0", *files],
                cwd=copy, env={**environment, "KESSEL_JUDGE_FD": str(theirs.fileno())},
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        theirs.close()
        ending = threading.Timer(end - time.monotonic(), process.terminate)
        if end < math.inf:
            ending.start()
        try:
            court = Court(defaultdict(list), talk, log)
            for name in court.heard():
                court.collected[name.partition("::")[0]].append(name)
            yield court
        finally:
            ending.cancel()
            process.terminate()
            process.wait()

"""Runs the conformance suite on a changed copy of an adapter, in a process of its own, see `trial_run.py`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import attrs
from mutation import Mutant
from ports import share_ports
from standing import lent

ROOT: Final = Path(__file__).parents[2]
PLANS: Final = "model.any_plan"
PROGRAM: Final = Path(__file__).with_name("trial_run.py")
#: The harness does not come up: kessel would not even open the adapter.
OPENING: Final = "(opening)"
#: The run did not end in time.
HUNG: Final = "(hung)"


@attrs.frozen
class Failure:
    """A case that a mutant failed."""

    case: str
    text: str

    @property
    def clause(self) -> str:
        """The clause that it names; empty if it names none."""
        head = self.text.partition(": ")[0]
        return head if head[:1] == "S" and head[1:].isdigit() else ""


@attrs.frozen(kw_only=True)
class Subject:
    """An adapter to be changed: its package, and the test module that wires the suite."""

    name: str
    package: Path
    wiring: Path
    #: What its mutants are generated from: names of files of the package.
    files: tuple[str, ...]
    #: Functions in these that the suite of adapters does not see.
    without: frozenset[str] = frozenset()
    #: The kind of server that stands for its mutants, see `standing`; None: each run brings its own.
    standing: str | None = None


def tried(
    subject: Subject, package: Path, file: str, source: str, *options: str, limit: float = 180.0
) -> list[Failure]:
    """Run the suite on a copy of a package with one changed file.

    Args:
        subject: Whose suite runs.
        package: What is copied: the subject's own package, or the core.
        file: The changed file, relative to the package.
        source: Its content.
        options: `--all`: every failure, and not only the first; `--naming=S7`: until one names that clause.
        limit: Seconds; a run that takes longer counts as a failure.

    Raises:
        RuntimeError: The run itself failed, not the adapter.
    """
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="kessel-mutant-"))
        folder = Path(name)
        share_ports(folder)
        copy = folder / "first" / package.name
        shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / file).write_text(source, encoding="utf-8")
        found = [str(folder / "first"), str(subject.package.parent), os.environ.get("PYTHONPATH", "")]
        server: dict[str, str] = {}
        if subject.standing is not None:
            server = stack.enter_context(lent(subject.standing, str(file)))
            found += [str(subject.wiring.parent), str(subject.package.parent / "tests")]
        environment = {
            **os.environ,
            **server,
            "PYTHONPATH": os.pathsep.join(filter(None, found)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": name,
        }
        process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), str(subject.wiring), *options],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that the servers which it started can be ended with it
        )
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return [Failure(HUNG, f"no end within {limit:g} s")]
        finally:
            _end_group(process)
    try:
        lines = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError) as exc:
        raise RuntimeError(f"{subject.name}: the run itself failed\n{out[-3000:]}{err[-3000:]}") from exc
    return [Failure(case, text) for case, text in lines]


def tried_mutant(subject: Subject, mutant: Mutant, *options: str) -> list[Failure]:
    """Run the suite on a generated mutant."""
    return tried(subject, subject.package, mutant.file, mutant.source, *options)


def _end_group(process: subprocess.Popen[str]) -> None:
    """End the process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

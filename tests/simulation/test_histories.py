"""The same seed and the same code give the same history (S43)."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from kessel_core.model import ids
from kessel_core.testing import Seed
from tests.simulation.scenarios import shop

ROOT: Final = Path(__file__).resolve().parents[2]
#: One of each weather that brings something.
NUMBERS: Final = (1, 2, 3, 4, 5)


def digests() -> list[str]:
    found = []
    for number in NUMBERS:
        with shop(Seed(number)) as (_, simulation):
            pass
        found.append(simulation.digest)
    return found


def of_another_process(python: str, hash_seed: str) -> list[str]:
    # The packages of this environment: another Python need not have them, and they are Python all through.
    paths = [*map(str, (ROOT, *(ROOT / "plugins").glob("kessel_*"))), *filter(None, sys.path)]
    paths = [path for path in paths if Path(path).is_dir() and "lib-dynload" not in path]
    paths = [path for path in paths if Path(path).name == "site-packages" or Path(path).is_relative_to(ROOT)]
    environ = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(paths)}
    run = subprocess.run(
        [python, str(Path(__file__))], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_the_same_seed_gives_the_same_history_and_another_one_another() -> None:
    first = digests()
    assert digests() == first
    assert len(set(first)) == len(NUMBERS)


def test_the_history_does_not_depend_on_hashes_nor_on_what_ran_before() -> None:
    random.random()
    ids._random.random()
    assert of_another_process(sys.executable, "1") == of_another_process(sys.executable, "2") == digests()


def other_pythons() -> list[str]:
    """Every CPython from 3.11 up that is installed, one of each version."""
    found: dict[str, str] = {}
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    for folder in [*places, *(home / "versions").glob("3.*/bin")]:
        for version in ("3.11", "3.12", "3.13", "3.14"):
            program = str(folder / f"python{version}")
            if version not in found and shutil.which(program) is not None:
                answer = subprocess.run([program, "-c", "print('works')"], capture_output=True, check=False)
                if b"works" in answer.stdout:
                    found[version] = program
    return list(found.values())


def test_every_python_that_is_installed_gives_the_same_history() -> None:
    expected = digests()
    for python in other_pythons():
        assert of_another_process(python, "3") == expected, python


if __name__ == "__main__":
    print(*digests())

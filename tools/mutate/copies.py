"""Copies of the repository, in which files can be changed under the eyes of the tests."""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from faults import ROOT
from ports import share_ports

__all__ = ["a_copy"]


@contextmanager
def a_copy() -> Iterator[tuple[Path, dict[str, str]]]:
    """Copy what git knows or would know, and yield the copy, with an environment that imports from it."""
    with tempfile.TemporaryDirectory(prefix="kessel-mutate-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # a server that tests start as another user has its folder in it
        copy = Path(folder).resolve() / "kessel"
        share_ports(copy.parent)
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        for name in listed.stdout.decode().split("\0"):
            if name and (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        packages = [copy / "kessel_core", *copy.glob("plugins/*/kessel_*")]
        for package in packages:
            # Compared by content, because changes within a second would be missed.
            mode = py_compile.PycInvalidationMode.CHECKED_HASH
            compileall.compile_dir(package, quiet=2, invalidation_mode=mode)
        yield (
            copy,
            {
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    [*(str(package.parent) for package in packages), str(Path(__file__).parent)]
                ),
                "PYTHONDONTWRITEBYTECODE": "1",
                "HYPOTHESIS_STORAGE_DIRECTORY": str(copy.parent / "hypothesis"),
                "TMPDIR": str(copy.parent),
            },
        )

"""Runs cases on adapters over a directory, for the tests of the suite."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import attrs
from kessel_adapter_directory.adapter import DirectoryAdapter
from kessel_adapter_directory.plugin import SPEC, DirectoryOptions
from kessel_conformance import Harness
from kessel_conformance.outcome import Verdict

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from running import how_it_ended

__all__ = ["ended"]


def ended(
    kind: type[DirectoryAdapter], case: str, **fields: Callable[[DirectoryOptions], str | None]
) -> tuple[Verdict, str]:
    """Run a case on an adapter; return its verdict, and why."""
    spec = attrs.evolve(SPEC, open=kind, **fields)
    return how_it_ended(Harness(spec, url="directory://{tmp}/{namespace}"), case)

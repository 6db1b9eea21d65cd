"""How many planted faults this version of the suite catches, for every report.

Each fault is the reference adapter with one rule broken; docs/reference/conformance-matrix.md lists them.
Written by `python tests/conformance/test_mutants.py`, which counts; a test compares.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CAUGHT", "PLANTED", "SUITE"]

#: The version of the suite that was counted.
SUITE: Final = "1.0"
#: How many adapters with one fault there are.
PLANTED: Final = 573
#: How many of them fail the suite at the quick budget.
CAUGHT: Final = 573

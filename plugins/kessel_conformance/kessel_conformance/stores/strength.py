"""How many planted faults the suite for stores catches, for every report.

Each fault is a store with one rule broken; docs/reference/conformance-matrix-stores.md lists them.
Written by `python tests/conformance/test_store_mutants.py`, which counts; a test compares.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CAUGHT", "PLANTED", "SUITE"]

#: The version of the suite that was counted.
SUITE: Final = "1.0"
#: How many stores with one fault there are.
PLANTED: Final = 89
#: How many of them fail the suite at the quick budget.
CAUGHT: Final = 89

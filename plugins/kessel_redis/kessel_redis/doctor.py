"""The checks of `kessel doctor` for a namespace of jobs, and for the server that it is on."""

from __future__ import annotations

from kessel_core.contract import DoctorContext, Finding

__all__ = ["examine"]


def examine(operations: object, context: DoctorContext) -> list[Finding]:
    """Return the findings; raises nothing."""
    return []

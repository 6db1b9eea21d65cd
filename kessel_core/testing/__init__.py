"""Tools for tests of applications: a virtual clock, and running jobs to their end without waiting.

Hypothesis strategies for requests are in `kessel_core.testing.strategies`, which needs `hypothesis`.
Nothing else in kessel imports this package.
"""

from __future__ import annotations

from kessel_core.testing.clock import VirtualClock
from kessel_core.testing.delivery import run_delivery
from kessel_core.testing.idle import NeverIdle, run_until_idle

__all__ = ["NeverIdle", "VirtualClock", "run_delivery", "run_until_idle"]

"""Tools for tests of applications: a virtual clock, running jobs to their end without waiting, a simulation.

Hypothesis strategies for requests are in `kessel_core.testing.strategies`, which needs `hypothesis`.
Nothing else in kessel imports this package.
"""

from __future__ import annotations

from kessel_core.testing.clock import VirtualClock
from kessel_core.testing.delivery import run_delivery
from kessel_core.testing.frames import innermost_frames
from kessel_core.testing.idle import NeverIdle, run_until_idle
from kessel_core.testing.ports import free_port
from kessel_core.testing.simulation import Event, Seed, Simulation, Stuck, Totals, Violation, for_each_seed

__all__ = [
    # one thread
    "NeverIdle",
    "VirtualClock",
    "innermost_frames",
    "run_delivery",
    "run_until_idle",
    # servers of tests
    "free_port",
    # all workers, from one seed
    "Event",
    "Seed",
    "Simulation",
    "Stuck",
    "Totals",
    "Violation",
    "for_each_seed",
]

"""A simulation of whole applications: real workers, virtual time, one seed (S43)."""

from kessel_core.testing.simulation.history import Event, Violation
from kessel_core.testing.simulation.search import Totals, for_each_seed
from kessel_core.testing.simulation.seeds import Seed
from kessel_core.testing.simulation.simulation import Simulation
from kessel_core.testing.simulation.strand import Stuck

__all__ = ["Event", "Seed", "Simulation", "Stuck", "Totals", "Violation", "for_each_seed"]

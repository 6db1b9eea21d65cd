"""What the parts of one open adapter share, so that none of them refers to the adapter."""

from __future__ import annotations

import attrs

from kessel_beanstalk.attempts import Suspects
from kessel_beanstalk.names import Names
from kessel_beanstalk.options import BeanstalkOptions
from kessel_beanstalk.server import Server
from kessel_beanstalk.sidetubes import SideTubes
from kessel_core import Clock

__all__ = ["Shared"]


@attrs.frozen(kw_only=True, eq=False)
class Shared:
    """The shared parts; each is thread-safe."""

    options: BeanstalkOptions
    clock: Clock
    server: Server
    #: Jobs that are known to have been delivered before.
    suspects: Suspects
    #: Names of jobs.
    names: Names
    #: Records of burials and snoozes.
    side_tubes: SideTubes

    @classmethod
    def of(cls, options: BeanstalkOptions, clock: Clock) -> Shared:
        """Create the parts; does not connect."""
        server, names, suspects = Server(options), Names(), Suspects()
        side_tubes = SideTubes(server, names)

        def forget() -> None:
            suspects.clear()
            names.clear()
            side_tubes.clear()

        server.on_restart = forget
        return cls(
            options=options, clock=clock, server=server, suspects=suspects, names=names, side_tubes=side_tubes
        )

    @property
    def largest_body(self) -> int:
        """The largest body in bytes that is accepted and survives a restart, by the server's latest facts."""
        limit = self.server.facts.max_job_size - 2
        most = self.options.max_body_bytes
        return limit if most is None else min(limit, most)

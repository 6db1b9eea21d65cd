"""Where jobs of a type go unless their request says otherwise: queue and priority, declared once."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = ["NO_ROUTE", "Route"]


@attrs.frozen(kw_only=True)
class Route:
    """What requests of one type need not say."""

    #: Name of the queue; None: `default`.
    queue: str | None = None
    #: 0 (most urgent) to 4294967295; None: 65536.
    priority: int | None = None

    def over(self, other: Route | None) -> Route:
        """Return this route, with what it leaves open taken from another."""
        if other is None:
            return self
        return Route(
            queue=other.queue if self.queue is None else self.queue,
            priority=other.priority if self.priority is None else self.priority,
        )


#: Nothing is declared.
NO_ROUTE: Final = Route()

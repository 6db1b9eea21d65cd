"""Writes metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

__all__ = ["written"]


@attrs.frozen(eq=False)
class _Given(Collector):
    families: list[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def written(families: Iterable[Metric]) -> bytes:
    """Return the page with these metrics; those without a value are left out."""
    return generate_latest(_Given([one for one in families if one.samples]))

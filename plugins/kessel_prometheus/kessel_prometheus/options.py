"""The options of `[kessel.prometheus]`."""

from __future__ import annotations

import attrs

__all__ = ["PrometheusOptions"]


@attrs.frozen
class PrometheusOptions:
    """None so far: a table with anything in it is a mistake that is reported."""

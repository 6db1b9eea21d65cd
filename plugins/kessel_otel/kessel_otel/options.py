"""The options of the middleware `otel`."""

from __future__ import annotations

from typing import Literal

import attrs

__all__ = ["OtelOptions"]


@attrs.frozen(kw_only=True)
class OtelOptions:
    """The table `[kessel.middleware_options.otel]`."""

    #: How the span of an attempt is related to that of its request. `child`: it is in the same trace, below
    #: it. `link`: it begins a trace of its own. `auto`: child for the first attempt at a job that was
    #: requested without delay, link for the others. In each case it has a link to it.
    relation: Literal["auto", "link", "child"] = "auto"

"""Tracing never fails a job: what OpenTelemetry, an SDK or a propagator raises ends here."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from kessel_core.hooks import get_logger

__all__ = ["guarded"]

log = get_logger("kessel.otel")

P = ParamSpec("P")
T = TypeVar("T")

#: What was reported already: a broken exporter or sampler fails for every job.
_reported: set[str] = set()


def guarded(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Call a function; if it raises, log that once for each kind of error, and return None."""
    try:
        return function(*args, **kwargs)
    except Exception as exc:
        kind = f"{function.__qualname__}: {type(exc).__name__}"
        if kind not in _reported:
            _reported.add(kind)
            log.exception("tracing failed, the jobs go on; said once: %s", kind)
        return None

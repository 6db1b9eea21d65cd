"""The plugin: the middleware `otel`. OpenTelemetry is imported where it is configured, and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kessel_core import hookimpl
from kessel_core.hooks import Middleware

if TYPE_CHECKING:
    from kessel_otel.middleware import Otel
    from kessel_otel.options import OtelOptions

__all__ = ["kessel_middleware"]


def _made(options: OtelOptions) -> Otel:
    from kessel_otel.middleware import Otel

    return Otel(options)


@hookimpl
def kessel_middleware() -> list[Middleware]:
    """Offer the middleware `otel`; its option is `relation`."""
    from kessel_otel.options import OtelOptions

    return [Middleware(name="otel", factory=_made, options=OtelOptions, for_requests=True)]

"""The plugin: the section `[kessel.prometheus]`, which counts and offers `/metrics`; `kessel exporter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kessel_core import hookimpl
from kessel_core.hooks import Section, SectionContext

if TYPE_CHECKING:
    import click

    from kessel_prometheus.metrics import Metrics
    from kessel_prometheus.options import PrometheusOptions

__all__ = ["kessel_cli", "kessel_sections"]


def _made(options: PrometheusOptions, context: SectionContext) -> Metrics | None:
    if not context.shows_pages:
        return None  # nobody could read what it counts, and a watcher costs time for each job
    from kessel_prometheus.metrics import Metrics

    return Metrics(context.clock)


@hookimpl
def kessel_sections() -> list[Section]:
    """Offer the section `prometheus`; what it makes watches the jobs of the application."""
    from kessel_prometheus.options import PrometheusOptions

    return [Section(name="prometheus", options=PrometheusOptions, factory=_made)]


@hookimpl
def kessel_cli(group: click.Group) -> None:
    """Add `kessel exporter`."""
    from kessel_prometheus.command import exporter

    group.add_command(exporter)

"""`kessel exporter`: what the queues hold, for Prometheus; one for each installation.

`kessel --help` loads this module, so what the command needs is imported when it runs.
"""

from __future__ import annotations

import click

from kessel_core import QueueCounts, serve_pages, with_queue
from kessel_core.hooks import Page

__all__ = ["exporter"]


@click.command()
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8087",
    show_default=True,
    help="Where /metrics is served.",
)
@with_queue
def exporter(counts: QueueCounts, listen: str) -> None:
    """Serve what the queues hold as metrics for Prometheus, until told to stop.

    The queues are asked whenever Prometheus asks. One for each installation is enough; what workers
    do is on the address of `kessel worker --health`.
    """
    from kessel_prometheus.families import of_exporter
    from kessel_prometheus.merging import merged
    from kessel_prometheus.metrics import PATH, TEXT
    from kessel_prometheus.text import written

    adapter = counts.adapter

    def show() -> bytes:
        return written(of_exporter(counts.all, adapter))

    serve_pages(listen, {PATH: Page(show=show, merge=merged, content_type=TEXT)}, "--listen")

"""Jobs through worker processes while PostgreSQL and workers are killed; see `tests/outages.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kessel_postgres.testing import Postgres

from tests.outages import no_acknowledged_job_is_lost_and_none_is_early


def test_chaos_no_acknowledged_job_is_lost_and_none_is_early(
    servers: Callable[..., Postgres], tmp_path: Path
) -> None:
    """S4, S9, S14, S20."""
    server = servers()
    server.install()
    no_acknowledged_job_is_lost_and_none_is_early(server, tmp_path)

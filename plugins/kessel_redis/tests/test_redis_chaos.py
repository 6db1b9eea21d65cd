"""Jobs through worker processes while Redis and workers are killed; see `tests/outages.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kessel_redis.testing import Redis

from tests.outages import no_acknowledged_job_is_lost_and_none_is_early


@pytest.mark.parametrize("appendfsync", ["always", "no"])
def test_chaos_no_acknowledged_job_is_lost_and_none_is_early(
    servers: Callable[..., Redis], tmp_path: Path, appendfsync: str
) -> None:
    """S4, S9, S14, S20."""
    no_acknowledged_job_is_lost_and_none_is_early(servers(appendfsync=appendfsync), tmp_path)

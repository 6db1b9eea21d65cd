"""The example of docs/howto/postgresql.md runs as it stands there, with another address."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import psycopg
from kessel_postgres.testing import Postgres

from kessel_core import JobManager

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "postgresql.md"


def test_a_job_is_stored_in_the_transaction_of_the_order(server: Postgres, schema: str) -> None:
    with closing(psycopg.connect(server.url(), autocommit=True)) as connection:
        connection.execute("CREATE TABLE orders (id text PRIMARY KEY)")
    [example] = re.findall(r"^```py\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    address = server.url(f"schema={schema}")
    exec(example, {"address": address, "address_of_data": server.url()})
    with JobManager(address) as manager:
        assert manager.adapter.stats("default").ready == 1

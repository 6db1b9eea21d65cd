"""D5: what is installed and not used costs little."""

from __future__ import annotations

import subprocess
import sys

import pytest


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import kessel_http.plugin",
        "import click, kessel_http.plugin as p; p.kessel_cli(click.Group())",
        "from kessel_core import JobManager\n"
        "with JobManager('memory://', only_requests=True) as m: m.request('a')",
    ],
)
def test_help_and_requests_load_no_part_of_the_delivery(code: str) -> None:
    assert not {"kessel_http.delivery", "kessel_http.options", "ssl", "http.client"} & modules_after(code)


_ENDPOINT = """
from kessel_core import Config, JobManager
billing = {"url": "https://hooks.example.org/", "secrets": ["whsec_" + "bmV3" * 8]}
config = Config(sections={"http": {"endpoints": {"billing": billing}}})
"""


def test_a_worker_with_an_endpoint_has_loaded_what_deliveries_need_before_the_first_one() -> None:
    """One that is out of descriptors can import nothing any more."""
    found = modules_after(f"{_ENDPOINT}with JobManager('memory://', config=config): pass")
    assert {
        "ssl",
        "http.client",
        "kessel_http.exchange",
        "encodings.idna",
        "hmac",
        "hashlib",
        "uuid",
    } <= found


def test_a_process_that_only_requests_loads_neither_tls_nor_http_for_its_endpoints() -> None:
    found = modules_after(f"{_ENDPOINT}with JobManager('memory://', config=config, only_requests=True): pass")
    assert not {"ssl", "http.client", "kessel_http.exchange"} & found


def test_a_worker_that_delivers_nothing_loads_neither_tls_nor_http() -> None:
    code = "from kessel_core import JobManager\nwith JobManager('memory://') as m: m.worker().drain()"
    found = modules_after(code)
    assert "kessel_http.delivery" in found
    assert not {"ssl", "http.client", "kessel_http.exchange"} & found

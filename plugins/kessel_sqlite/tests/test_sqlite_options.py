"""Options and URLs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kessel_sqlite.options import SqliteOptions, sqlite_url_options
from kessel_sqlite.plugin import SPEC, kessel_adapters

from kessel_core import InvalidConfig, SystemClock
from kessel_core.contract import AdapterContext, Durability
from kessel_core.values.options import structure_options


def options(url: str) -> SqliteOptions:
    found = structure_options(SqliteOptions, dict(sqlite_url_options(urlsplit(url))), url)
    assert isinstance(found, SqliteOptions)
    return found


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite://", "kessel.db"),
        ("sqlite:///", "kessel.db"),
        ("sqlite:///jobs.db", "jobs.db"),
        ("sqlite:///some/jobs.db", "some/jobs.db"),
        ("sqlite:////var/jobs.db", "/var/jobs.db"),
        ("sqlite:///a%20b.db", "a b.db"),
        ("sqlite:///a b.db", "a b.db"),
        ("sqlite:///a%23b%3Fc%25.db", "a#b?c%.db"),
        ("sqlite:///%C3%A4.db", "ä.db"),
        ("SQLITE:///jobs.db", "jobs.db"),
    ],
)
def test_path_of_a_url(url: str, path: str) -> None:
    assert options(url).path == Path(path)


def test_every_option_is_read_from_a_url() -> None:
    found = options("sqlite:///j.db?durability=process-crash&lease=5s&timeout=500ms&max_body_bytes=9")
    assert found == SqliteOptions(
        path=Path("j.db"),
        durability=Durability.PROCESS_CRASH,
        lease=timedelta(seconds=5),
        timeout=timedelta(milliseconds=500),
        max_body_bytes=9,
    )


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://host/jobs.db",
        "sqlite://user:pass@/jobs.db",
        "sqlite:///j.db?lease=0s",
        "sqlite:///j.db?timeout=-1s",
        "sqlite:///j.db?durability=none",
        "sqlite:///j.db?max_body_bytes=2000000000",
        "sqlite:///j.db?colour=red",
        "sqlite://:memory:",
        "sqlite:///:memory:",
        "sqlite://jobs.db",
        "sqlite:///j.db?path=k.db",
        "sqlite:///j.db?lease=1m&lease=2m",
        "sqlite:///j.db#part",
        "sqlite:///%00.db",
    ],
)
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidConfig):
        options(url)


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("lease", ["10ms", "36500d"], ["9ms", "36501d", "999999999d"]),
        ("timeout", ["1ms", "36500d"], ["0s", "36501d", "999999999d"]),
        ("max_body_bytes", ["1", "999000000"], ["0", "999000001"]),
    ],
)
def test_options_have_bounds(name: str, taken: list[str], refused: list[str]) -> None:
    """An absurd lease was an overflow at the first job, and an absurd timeout one at the first wait."""
    for value in taken:
        options(f"sqlite:///j.db?{name}={value}")
    for value in refused:
        with pytest.raises(InvalidConfig, match=name):
            options(f"sqlite:///j.db?{name}={value}")


def test_plugin_offers_an_adapter_that_opens(tmp_path: Path) -> None:
    assert list(kessel_adapters()) == [SPEC]
    adapter = SPEC.open(SqliteOptions(path=tmp_path / "j.db"), AdapterContext(clock=SystemClock()))
    assert adapter.name == SPEC.name == "sqlite"
    adapter.close()
    adapter.close()

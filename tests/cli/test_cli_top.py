"""`kessel top` where there is no terminal, and what it says of wrong options."""

from __future__ import annotations

from typing import Any

import pytest

from kessel_core.cli.top.command import pause_after

Kessel = Any


@pytest.fixture
def buried(kessel: Kessel) -> Kessel:
    kessel.ok("request", "shop.unheard-of", "--ref", "order 7")
    kessel.ok("drain")
    kessel.ok("request", "addition", '{"operands": [1, 2]}', "--queue", "mail")
    return kessel


@pytest.mark.parametrize("arguments", [(), ("--once",), ("--once", "--read-only")])
def test_one_picture_is_printed_where_there_is_no_terminal(
    buried: Kessel, arguments: tuple[str, ...]
) -> None:
    done = buried.ok("top", *arguments)
    lines = done.out.splitlines()
    assert str(buried.directory / "kessel.db") in lines[0]
    assert any(line.split()[:5] == ["default", "0", "0", "0", "1"] for line in lines)
    assert any(line.split()[:5] == ["mail", "1", "0", "0", "0"] for line in lines)
    (burial,) = [line for line in lines if "no-handler" in line]
    assert "shop.unheard-of" in burial
    assert burial.rstrip().endswith("order 7")
    assert "\x1b" not in done.out
    assert done.err == ""


def test_queues_are_named_as_arguments_or_options(buried: Kessel) -> None:
    for arguments in (("mail",), ("--queue", "mail"), ("-q", "mail", "mail")):
        out = buried.ok("top", "--once", *arguments).out
        assert "QUEUES 1 " in out
        assert "no-handler" not in out
    assert "must" in buried("top", "--once", "no good").err
    assert buried("top", "--once", "no good").code == 2


def test_looking_makes_nothing(kessel: Kessel) -> None:
    done = kessel("top", "--once")
    assert done.code == 1
    assert "nothing was made" in done.err
    assert not list(kessel.directory.glob("kessel.db*"))


def test_a_store_that_is_not_there_is_named_and_the_rest_is_shown(buried: Kessel) -> None:
    """S17."""
    buried.write("kessel.toml", '[kessel]\nstore = "sqlite:///other.db"\n')
    out = buried.ok("top", "--once").out
    assert out.count("'store' is missing") == 2
    assert "other.db" in out
    assert "no-handler" in out
    assert not list(buried.directory.glob("other.db*"))


def test_a_queue_that_cannot_be_reached_is_an_error(kessel: Kessel, site: Any) -> None:
    source = """
import attrs
from kessel_memory.adapter import MemoryAdapter
from kessel_memory.options import MemoryOptions
from kessel_core import AdapterUnavailable, hookimpl
from kessel_core.contract import AdapterSpec

class Moon(MemoryAdapter):
    name = "moon"

    def queues(self):
        raise AdapterUnavailable("nobody answers at base:1")

@hookimpl
def kessel_adapters():
    return [AdapterSpec(name="moon", schemes=("moon",), options=MemoryOptions, open=Moon)]
"""
    site.install("moon", source)
    done = kessel("top", "--once", "-a", "moon://")
    assert done.code == 1
    assert "error: nobody answers at base:1" in done.err
    assert "not seen since" in done.out


@pytest.mark.parametrize(
    ("took", "interval", "pause"),
    [(0.1, 2.0, 1.9), (0.5, 2.0, 5.0), (60.0, 2.0, 10.0), (60.0, 3600.0, 3540.0)],
)
def test_looking_takes_a_tenth_of_the_time_and_a_queue_that_was_away_is_asked_again_soon(
    took: float, interval: float, pause: float
) -> None:
    assert pause_after(took, interval) == pytest.approx(pause)


@pytest.mark.parametrize(
    ("interval", "why"), [("0s", "must be"), ("100ms", "must be 200ms to 1h"), ("2h", "must be"), ("x", "x")]
)
def test_an_interval_out_of_range_is_refused(kessel: Kessel, interval: str, why: str) -> None:
    done = kessel("top", "--interval", interval)
    assert done.code == 2
    assert why in done.err

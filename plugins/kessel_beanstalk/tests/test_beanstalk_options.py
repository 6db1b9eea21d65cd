"""What the options may be, and how they name the server; nothing is opened."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from kessel_beanstalk.options import MAX_NUMBER, BeanstalkOptions

from kessel_core.contract import InvalidConfig

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"host": ""}, "host"),
        ({"host": "  "}, "host"),
        ({"port": 0}, "port"),
        ({"port": 65536}, "port"),
        ({"ttr": 1.9 * SECOND}, "ttr"),
        ({"ttr": (MAX_NUMBER + 1) * SECOND}, "ttr"),
        ({"connect_timeout": timedelta(milliseconds=9)}, "connect_timeout"),
        ({"connect_timeout": 3601 * SECOND}, "connect_timeout"),
        ({"timeout": timedelta(milliseconds=9)}, "timeout"),
        ({"timeout": 3601 * SECOND}, "timeout"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
    ],
    ids=str,
)
def test_each_wrong_option_is_told_alone(given: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        BeanstalkOptions(**given)
    assert [problem.where[0] for problem in caught.value.problems] == [name]


def test_all_wrong_options_are_told_together() -> None:
    with pytest.raises(InvalidConfig) as caught:
        BeanstalkOptions(host="", port=0, ttr=SECOND, timeout=timedelta(0), max_body_bytes=-1)
    names = [problem.where[0] for problem in caught.value.problems]
    assert names == ["host", "port", "ttr", "timeout", "max_body_bytes"]


@pytest.mark.parametrize(
    "given",
    [
        {"port": 1, "ttr": 2 * SECOND, "max_body_bytes": 1},
        {"port": 65535, "ttr": MAX_NUMBER * SECOND},
        {"connect_timeout": timedelta(milliseconds=10), "timeout": timedelta(hours=1)},
        {"connect_timeout": timedelta(hours=1), "timeout": timedelta(milliseconds=10)},
    ],
    ids=str,
)
def test_options_at_their_bounds_are_taken(given: dict[str, Any]) -> None:
    BeanstalkOptions(**given)


def test_s17_address_is_for_people_and_shows_no_secret() -> None:
    assert BeanstalkOptions().address == "localhost:11300"
    assert BeanstalkOptions(host="::1", port=7).address == "[::1]:7"
    assert "hush" not in BeanstalkOptions(host="beanstalk://u:hush@h").address

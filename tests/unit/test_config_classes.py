"""The classes of the configuration, as an application builds them by hand."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kessel_core import Config, InvalidConfig, JobsConfig, PluginsConfig, WorkerConfig
from kessel_core.config.options import options
from kessel_core.values.durations import duration_text, parse_duration


def test_defaults_are_a_usable_configuration() -> None:
    assert Config().queues == ("default",)


def test_all_problems_of_all_sections_are_listed_together() -> None:
    with pytest.raises(InvalidConfig) as error:
        Config(
            queues=(),
            worker=WorkerConfig(slots=0, grace=timedelta(seconds=-1)),
            jobs=JobsConfig(retry_base=timedelta(hours=1), retry_cap=timedelta(seconds=1)),
            plugins=PluginsConfig(required=("x",), disabled=("x",)),
        )
    assert [problem.path for problem in error.value.problems] == [
        "queues",
        "worker.slots",
        "worker.grace",
        "jobs.retry_cap",
        "plugins.required",
    ]


def test_a_list_that_cannot_be_hashed_hides_nothing() -> None:
    odd: Any = ([], {})
    with pytest.raises(InvalidConfig) as error:
        Config(worker=WorkerConfig(slots=0), plugins=PluginsConfig(disabled=odd, required=odd))
    assert [problem.path for problem in error.value.problems] == [
        "worker.slots",
        "plugins.disabled[0]",
        "plugins.disabled[1]",
        "plugins.required[0]",
        "plugins.required[1]",
    ]


def test_a_long_list_of_names_is_checked_in_one_pass() -> None:
    """With a search for each name this would take hours."""
    names = [f"q{number}" for number in range(100_000)]
    assert len(Config(queues=tuple(names)).queues) == len(names)
    with pytest.raises(InvalidConfig, match="'q7' given more than once"):
        Config(queues=(*names, "q7"))


@pytest.mark.parametrize(
    "wrong",
    [
        WorkerConfig(slots=True),
        WorkerConfig(slots=1.0),  # type: ignore[arg-type]
        WorkerConfig(grace="30s"),  # type: ignore[arg-type]
        WorkerConfig(heartbeat=5),  # type: ignore[arg-type]
    ],
)
def test_values_given_by_hand_are_taken_as_they_are(wrong: WorkerConfig) -> None:
    with pytest.raises(InvalidConfig):
        Config(worker=wrong)


def test_configuration_does_not_change_with_the_callers_table() -> None:
    handlers = {"a": "m:f"}
    config = Config(handlers=handlers)
    handlers["b"] = "m:g"
    assert config.handlers == {"a": "m:f"}


def test_configuration_is_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config().adapter = "x"  # type: ignore[misc]


def test_classes_need_none_of_the_commands_libraries() -> None:
    code = (
        "import sys, kessel_core.config.options, kessel_core.cli.logs\n"
        "print({'click', 'rich', 'cattrs'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("90s", timedelta(seconds=90)),
        ("90", timedelta(seconds=90)),
        (" 1.5 h ", timedelta(minutes=90)),
        ("5m", timedelta(minutes=5)),
        ("7d", timedelta(days=7)),
    ],
)
def test_duration_is_read(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "soon", "-1s", "1y", "1e3s", "nan", "1s1s", "٣s", "999999999999d", "1" * 40]
)
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(0, 10**15))
def test_duration_text_is_read_back_equal(microseconds: int) -> None:
    span = timedelta(microseconds=microseconds)
    assert parse_duration(duration_text(span)) == span


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(microseconds=1), "0.001ms"),
        (timedelta(microseconds=1500), "1.5ms"),
        (timedelta(milliseconds=1001), "1001ms"),
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=120), "2h"),
        (timedelta(hours=36), "36h"),
        (timedelta(days=7), "7d"),
    ],
)
def test_a_duration_is_written_in_the_largest_unit_of_which_it_is_a_whole_number(
    span: timedelta, text: str
) -> None:
    assert duration_text(span) == text


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:8086", "[::1]:8086", "localhost:0", "0.0.0.0:65535", " worker-1.example:80 "],
)
def test_s38_an_address_to_listen_at_is_a_host_and_a_port(text: str) -> None:
    assert WorkerConfig(health_address=text).health_address == text
    assert list(options()["worker.health_address"].problems(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "8086", ":8086", "127.0.0.1", "127.0.0.1:", "::1:8086", "[]:80", "a b:80", "x:65536", "x:-1"),
        *(
            "x:8_0",
            "http://x:80",
            "x:80/livez",
            "me@x:80",
            "x:\N{ARABIC-INDIC DIGIT THREE}",
            "x:" + "9" * 5000,
            "x:0000099999",
            "x:" + "0" * 5000,
        ),
    ],
)
def test_s38_anything_else_is_no_address_to_listen_at(text: str) -> None:
    with pytest.raises(
        InvalidConfig, match=r"worker\.health_address: expected HOST:PORT, as 127\.0\.0\.1:8086"
    ):
        Config(worker=WorkerConfig(health_address=text))


def test_s38_times_and_files_of_the_health_have_bounds() -> None:
    with pytest.raises(InvalidConfig) as error:
        Config(worker=WorkerConfig(health_file=" ", deaf_after=timedelta(seconds=4)))
    assert [str(problem) for problem in error.value.problems] == [
        "worker.health_file: must not be blank",
        "worker.deaf_after: expected 5s or more, got 4s",
    ]

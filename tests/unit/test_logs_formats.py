"""How log records look: text for people, JSON lines for programs."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import kessel_core
from kessel_core.cli.logs import TRACE, HumanFormatter, JsonFormatter, configure


def record(message: str, *args: object, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.getLogger("kessel.test").makeRecord(
        "kessel.test", level, __file__, 1, message, args, None, extra=extra or None
    )
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    fields: dict[str, Any] = json.loads(line)
    return fields


def test_json_line_has_time_level_logger_message_and_the_extras() -> None:
    fields = as_json(record("done %d", 3, id="x", ms=1.5))
    assert fields.pop("time").endswith("Z")
    assert (fields.pop("pid"), fields.pop("host")) == (os.getpid(), socket.gethostname())
    assert fields == {"level": "info", "logger": "kessel.test", "message": "done 3", "id": "x", "ms": 1.5}


def test_json_line_writes_what_json_does_not_know_as_text() -> None:
    assert as_json(record("x", span=timedelta(seconds=1)))["span"] == "0:00:01"


class Unshown:
    def __str__(self) -> str:
        raise ValueError("not here")

    __repr__ = __str__


def test_json_line_hides_secrets_wherever_they_are_in_an_extra() -> None:
    url = "redis://u:geheim@h/0"
    fields = as_json(record("m", cfg={"url": url, url: 1}, urls=[url, (url,)], text=url))
    assert "geheim" not in json.dumps(fields)
    assert fields["cfg"]["url"] == fields["urls"][0] == fields["text"] != url


@pytest.mark.parametrize("formatter", [HumanFormatter(), JsonFormatter()])
def test_no_extra_costs_its_line(formatter: logging.Formatter) -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    odd = {
        "per_day": {datetime(2026, 1, 5, tzinfo=UTC): 3, (1, 2): 4, None: 5},
        "rates": {"x": float("nan"), "y": [float("inf")]},
        "endless": endless,
        "unshown": Unshown(),
        "inside": [{"a": Unshown()}],
        "large": 10**5000,
        "set": {1},
        "truth": True,
    }
    line = formatter.format(record("m", **odd))
    assert "\n" not in line
    assert "that cannot be shown" in line
    if isinstance(formatter, JsonFormatter):
        fields = json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
        assert fields["per_day"]["None"] == 5
        assert fields["rates"] == {"x": "nan", "y": ["inf"]}
        assert (fields["set"], fields["truth"]) == ([1], True)


def test_extra_cannot_pass_for_the_level_or_the_time() -> None:
    fields = as_json(record("x", time="never", logger="other"))
    assert fields["logger"] == "kessel.test"
    assert fields["time_"] == "never"
    assert fields["logger_"] == "other"


def test_trace_is_below_debug_and_has_its_name() -> None:
    assert TRACE < logging.DEBUG
    assert as_json(record("x", level=TRACE))["level"] == "trace"


def test_human_line_shows_the_extras_and_quotes_what_could_be_misread() -> None:
    line = HumanFormatter().format(record("done", id="x", text="a b", empty="", pid=1))
    assert line.endswith("INFO    kessel.test: done id=x text='a b' empty='' pid=1")


def test_human_line_does_not_say_twice_what_the_message_says() -> None:
    line = HumanFormatter().format(
        record("job 0123-abc done", job_id="0123-abc", reason=None, attempt=1, ms=2)
    )
    assert line.endswith(f"job 0123-abc done attempt=1 pid={os.getpid()}")


def test_text_of_a_job_cannot_start_a_line_or_move_the_cursor() -> None:
    line = HumanFormatter().format(record("a\nb\x1b[2J", id="c\nd"))
    assert "\n" not in line
    assert "\x1b" not in line


@pytest.mark.parametrize("formatter", [HumanFormatter(), JsonFormatter()])
def test_exception_and_stack_are_shown(formatter: logging.Formatter) -> None:
    made = record("x")
    try:
        raise ValueError("boom")
    except ValueError:
        made.exc_info = sys.exc_info()
    made.stack_info = "Stack (most recent call last): here"
    line = formatter.format(made)
    assert "ValueError: boom" in line
    assert "here" in line


@pytest.mark.parametrize("formatter", [HumanFormatter(), JsonFormatter()])
def test_wrong_format_string_does_not_cost_the_line(formatter: logging.Formatter) -> None:
    assert "cannot be formatted" in formatter.format(record("%d", "x"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_gets_colours_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    configure(stream=stream)
    logging.getLogger("kessel.test").warning("x")
    assert "\x1b[33m" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure(stream=stream)
    logging.getLogger("kessel.test").warning("x")
    assert "\x1b" not in stream.getvalue()


def test_second_configuration_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("debug", stream=first)
    configure("trace", json=True, stream=second)
    logging.getLogger("kessel.test").log(TRACE, "x")
    assert first.getvalue() == ""
    assert json.loads(second.getvalue())["message"] == "x"


def test_other_libraries_are_printed_but_not_below_info() -> None:
    stream = io.StringIO()
    configure("trace", json=True, stream=stream)
    other = logging.getLogger("otherlibrary")
    other.debug("hidden")
    other.info("shown")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["shown"]


def test_every_line_about_a_job_carries_its_id_as_a_field() -> None:
    """So that an operator finds all of a job in JSON lines; looked up in the sources."""
    without: list[str] = []
    for path in sorted(Path(kessel_core.__file__).parent.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            match call:
                case ast.Call(
                    func=ast.Attribute(attr="info" | "warning" | "error" | "exception"),
                    args=[ast.Constant(value=str(text)), *_],
                ) if "job %s" in text and "job_id" not in ast.unparse(call):
                    without.append(f"{path.name}:{call.lineno}")
    assert without == []


def test_finding_c13_lines_have_a_zone_the_process_and_the_slot() -> None:
    made = record("done")
    made.threadName = "kessel-slot-7"
    fields = as_json(made)
    assert (fields["slot"], fields["pid"], fields["host"]) == ("7", os.getpid(), socket.gethostname())
    line = HumanFormatter().format(made)
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3}[+-]\d{4} INFO ", line)
    assert line.endswith(f"done slot=7 pid={os.getpid()}")


def test_finding_c13_a_field_of_the_record_goes_before_the_process_that_wrote_it() -> None:
    assert as_json(record("worker process died", pid=4711))["pid"] == 4711

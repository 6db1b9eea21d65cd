"""A log line never changes a job, whatever the logging of the application does (finding D16)."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kessel_core import JobContext, JobManager, JobsConfig, Transient, hookimpl
from kessel_core.contract import get_logger
from kessel_core.testing import run_until_idle

App = Callable[..., JobManager]


class Broken(Exception):
    """What a part of the logging raises."""


class RaisingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise Broken


class RaisingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        raise Broken


class RaisingStream(io.StringIO):
    def write(self, text: str) -> int:
        raise Broken


def raising_filter(record: logging.LogRecord) -> bool:
    raise Broken


def with_filter(log: logging.Logger, handler: logging.Handler) -> None:
    log.addFilter(raising_filter)


def with_handler(log: logging.Logger, handler: logging.Handler) -> None:
    log.addHandler(RaisingHandler())


def with_filter_of_a_handler(log: logging.Logger, handler: logging.Handler) -> None:
    handler.addFilter(raising_filter)


def with_formatter(log: logging.Logger, handler: logging.Handler) -> None:
    handler.setFormatter(RaisingFormatter())


def with_stream(log: logging.Logger, handler: logging.Handler) -> None:
    log.addHandler(logging.StreamHandler(RaisingStream()))


def with_closed_streams(log: logging.Logger, handler: logging.Handler) -> None:
    closed = io.StringIO()
    closed.close()
    log.addHandler(logging.StreamHandler(closed))
    sys.stderr = closed  # `logging` itself complains here, and fails again


BREAKS = [
    with_filter,
    with_handler,
    with_filter_of_a_handler,
    with_formatter,
    with_stream,
    with_closed_streams,
]
LOGGERS = ("kessel.jobs", "kessel.pipeline", "kessel.worker", "kessel.handlers.a", "kessel.handlers.b")


@pytest.fixture
def broken() -> Iterator[Callable[..., None]]:
    """Breaks the logging of the runtime; everything is logged, down to the last level."""
    added = [(logging.getLogger(name), logging.StreamHandler(io.StringIO())) for name in LOGGERS]
    before = [(log, log.level, log.handlers[:], log.filters[:]) for log, _ in added]
    stderr = sys.stderr

    def break_(how: Callable[[logging.Logger, logging.Handler], None]) -> None:
        for log, handler in added:
            log.setLevel(1)
            log.addHandler(handler)
            how(log, handler)

    yield break_
    sys.stderr = stderr
    for log, level, handlers, filters in before:
        log.setLevel(level)
        log.handlers[:], log.filters[:] = handlers, filters


def succeed(payload: Any, job: JobContext) -> str:
    job.logger.info("said by the handler")
    return "done"


def fail(payload: Any) -> None:
    raise ValueError("no")


def fail_for_now(payload: Any) -> None:
    raise Transient("not yet")


@pytest.mark.parametrize("how", BREAKS)
def test_finding_d16_a_log_line_never_changes_a_job(
    app: App, broken: Callable[..., None], how: Callable[..., None]
) -> None:
    """Success stays success, a burial keeps its reason, and a retry stays a retry; all slots live on."""
    broken(how)
    settled: list[tuple[str, str | None]] = []

    class Watcher:
        @hookimpl
        def kessel_job_settled(self, result: Any, settlement: Any) -> None:
            settled.append((str(result.status), result.reason))

    rules = JobsConfig(max_attempts=1)
    manager = app({"a": succeed, "b": fail, "c": fail_for_now}, plugin=Watcher(), jobs=rules)
    for kind in ("a", "b", "c", "nobody"):
        manager.request(kind)
    run_until_idle(manager)
    assert settled == [
        ("success", None),
        ("failed", "error"),
        ("failed", "retries-exhausted"),
        ("failed", "no-handler"),
    ]


def test_finding_d16_broken_logging_is_told_once_on_standard_error(
    broken: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken(with_handler)
    log = get_logger("kessel.handlers.a")
    from kessel_core.values import logs

    monkeypatch.setattr(logs, "_complained", set())
    for _ in range(3):
        log.info("a line")
    text = capsys.readouterr().err
    assert text.count("could not be written") == 1
    assert "Broken" in text


def test_finding_d16_a_level_that_is_none_costs_the_line_and_not_the_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kessel_core.values import logs

    monkeypatch.setattr(logs, "_complained", set())
    wrong: Any = "INFO"
    get_logger("kessel.handlers.a").log(wrong, "a line")
    assert "kessel.handlers.a: TypeError could not be written" in capsys.readouterr().err


def test_finding_d16_an_interrupt_of_the_user_goes_through(broken: Callable[..., None]) -> None:
    def interrupted(record: logging.LogRecord) -> bool:
        raise KeyboardInterrupt

    log = get_logger("kessel.handlers.a")
    broken(lambda logger, handler: logger.addFilter(interrupted))
    with pytest.raises(KeyboardInterrupt):
        log.info("a line")


def test_a_record_names_the_place_that_logged_it(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("kessel.test").warning("here")
    assert caplog.records[0].funcName == "test_a_record_names_the_place_that_logged_it"


def test_finding_d8_what_is_logged_of_a_job_is_escaped_for_every_formatter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    try:
        raise ValueError("x\nforged \x1b[2J beanstalk://me:hunter2@host" + "y" * 10_000_000)
    except ValueError as exc:
        get_logger("kessel.test").exception("job %s: %s", "a\nb", exc)
    (record,) = caplog.records
    text = logging.Formatter("%(message)s").format(record)
    assert len(text) < 50_000
    assert "\x1b" not in text
    assert "hunter2" not in text
    first, *rest = text.split("\n")
    assert first.startswith(r"job a\nb: x\nforged")
    assert all(line.startswith("  | ") for line in rest)

"""`add_log_fields` adds fields to log records, which are never lost or changed by it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping

import pytest

from kessel_core import JobManager
from kessel_core.cli.logs import configure
from kessel_core.hooks import add_log_fields, get_logger
from kessel_core.values import logs


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_sources", ())


@pytest.fixture
def lines() -> Callable[[], list[dict[str, object]]]:
    """What the command prints as JSON."""
    stream = io.StringIO()
    configure("info", json=True, stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_fields_are_on_the_records_of_kessel_and_of_jobs_and_in_the_command_on_all(
    lines: Callable[[], list[dict[str, object]]],
) -> None:
    moments = iter(range(100))
    add_log_fields(lambda: {"moment": next(moments)})
    get_logger("kessel.tests").info("one")
    logging.getLogger("another.library").warning("two")
    with JobManager("memory://", handlers={"t": lambda payload, job: job.logger.info("three")}) as manager:
        manager.process_single_job("t")
    found = [(line["message"], "moment" in line) for line in lines()]
    assert found[:3] == [("one", True), ("two", True), ("three", True)]
    assert len({line["moment"] for line in lines()}) == len(lines()), "asked for each record"


def test_a_field_of_the_record_itself_goes_before(caplog: pytest.LogCaptureFixture) -> None:
    add_log_fields(lambda: {"job_id": "theirs", "message": "theirs", "tenant": "north"})
    with caplog.at_level(logging.INFO, "kessel"):
        get_logger("kessel.tests").info("hello %s", "you", extra={"job_id": "mine"})
    (record,) = caplog.records
    assert (record.getMessage(), record.job_id, record.tenant) == (  # type: ignore[attr-defined]  # extras
        "hello you",
        "mine",
        "north",
    )


def test_a_source_that_raises_costs_its_fields_and_no_line(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Mapping[str, object]:
        raise RuntimeError("broken")

    add_log_fields(broken)
    add_log_fields(lambda: {"tenant": "north"})
    with caplog.at_level(logging.INFO, "kessel"):
        get_logger("kessel.tests").info("hello")
    assert [record.tenant for record in caplog.records] == ["north"]  # type: ignore[attr-defined]  # an extra


def test_a_source_is_asked_once_however_often_it_is_added(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[int] = []

    def source() -> Mapping[str, object]:
        asked.append(1)
        return {}

    add_log_fields(source)
    add_log_fields(source)
    with caplog.at_level(logging.INFO, "kessel"):
        get_logger("kessel.tests").info("hello")
    assert asked == [1]

"""The example handlers, run as a worker would run them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import kessel_memory.plugin
import pytest
from kessel_handlers_example import plugin
from kessel_handlers_example.tables import shipped

from kessel_core import JobManager, JobResult, Reason, Status, build_plugins
from kessel_core.testing import VirtualClock, run_until_idle


@pytest.fixture
def manager() -> Any:
    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "example": plugin}, distributions=[])
    with JobManager("memory://", plugins=plugins) as manager:
        yield manager


def value_of(result: JobResult) -> Any:
    assert result.status is Status.SUCCESS, result.message
    return result.value


@pytest.mark.parametrize(("kind", "expected"), [("addition", 5), ("multiplication", 6)])
def test_arithmetic_keeps_whole_numbers_whole(manager: JobManager, kind: str, expected: int) -> None:
    value = value_of(manager.process_single_job(kind, {"operands": [2, 3]}))
    assert value == expected
    assert isinstance(value, int)


@pytest.mark.parametrize("operands", [[1], [1, 2, 3], [1, "2"], [True, 1], "ab", None])
def test_wrong_operands_are_a_bad_payload(manager: JobManager, operands: Any) -> None:
    result = manager.process_single_job("addition", {"operands": operands})
    assert (result.status, result.reason) == (Status.FAILED, Reason.BAD_PAYLOAD)
    assert "operand" in result.message


@pytest.mark.parametrize(
    ("kind", "operands"), [("multiplication", [1e308, 10]), ("addition", [10**400, 0.5])]
)
def test_result_out_of_range_is_fatal_and_says_so(manager: JobManager, kind: str, operands: Any) -> None:
    result = manager.process_single_job(kind, {"operands": operands})
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)
    assert "out of range" in result.message


ITEM = {"sku": "cup", "quantity": 2, "price": "4.50"}


def test_order_is_charged_and_picked(manager: JobManager) -> None:
    order: Any = {"order_id": "A1", "items": [ITEM, {"sku": "pot", "quantity": 1, "price": "19.99"}]}
    value = value_of(manager.process_single_job("order.process", order))
    assert value["total"] == "28.99"
    assert value["pick_list"] == ["1 x pot", "2 x cup"]


def test_busy_payment_service_is_a_transient_failure(manager: JobManager) -> None:
    order: Any = {"order_id": "A1", "items": [ITEM], "payment": "busy-once"}
    assert manager.process_single_job("order.process", order).status is Status.TRANSIENT


def test_declined_payment_is_fatal(manager: JobManager) -> None:
    order: Any = {"order_id": "A1", "items": [ITEM], "payment": "declined"}
    result = manager.process_single_job("order.process", order)
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)
    assert "declined" in result.message


def test_order_whose_payment_was_busy_is_charged_at_the_second_attempt() -> None:
    plugins = build_plugins(extra={"memory": kessel_memory.plugin, "example": plugin}, distributions=[])
    clock = VirtualClock()
    with JobManager("memory://", plugins=plugins, clock=clock) as manager:
        results: list[JobResult] = []
        order: Any = {"order_id": "A1", "items": [ITEM], "payment": "busy-once"}
        manager.request("order.process", order, callback=results.append)
        run_until_idle(manager)
    assert [(result.status, result.attempt) for result in results] == [(Status.SUCCESS, 2)]


@pytest.mark.parametrize("price", ["free", "-1", "NaN", "1e999999"])
def test_price_is_a_decimal_number_within_bounds(manager: JobManager, price: str) -> None:
    order: Any = {"order_id": "A1", "items": [{**ITEM, "price": price}]}
    result = manager.process_single_job("order.process", order)
    assert result.reason is Reason.BAD_PAYLOAD
    assert "price must be" in result.message


def test_importing_the_plugin_loads_no_handler_module() -> None:
    """D5."""
    code = "import sys, kessel_handlers_example.plugin; print([m for m in sys.modules if 'example.' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['kessel_handlers_example.plugin']"


def test_bad_order_names_the_wrong_field(manager: JobManager) -> None:
    order: Any = {"order_id": "A1", "items": [ITEM, {"sku": "pot", "quantity": "1", "price": "x"}]}
    result = manager.process_single_job("order.process", order)
    assert result.reason is Reason.BAD_PAYLOAD
    assert "$.items[1].quantity" in result.message


@pytest.mark.parametrize(
    ("order", "passes", "severities"),
    [
        ({"ordered": ["Aspirin"], "taking": ["warfarin"]}, True, ["major"]),
        ({"ordered": ["sildenafil"], "taking": ["nitroglycerin"]}, False, ["contraindicated"]),
        ({"ordered": ["amoxicillin"], "allergies": ["Penicillins"]}, False, ["allergy"]),
        ({"ordered": ["metformin"], "taking": ["warfarin", "aspirin"]}, True, []),
    ],
)
def test_medication_is_checked_against_the_tables(
    manager: JobManager, order: Any, passes: bool, severities: list[str]
) -> None:
    value = value_of(manager.process_single_job("medication.check", {"patient": "p1", **order}))
    assert value["passes"] is passes
    assert [finding["severity"] for finding in value["findings"]] == severities


def test_medication_order_of_blanks_is_fatal(manager: JobManager) -> None:
    result = manager.process_single_job("medication.check", {"patient": "p1", "ordered": [" "]})
    assert (result.status, result.reason) == (Status.FAILED, Reason.ERROR)


def test_report_counts_every_row_that_ships(manager: JobManager) -> None:
    value = value_of(manager.process_single_job("report.derive", {}))
    assert value["observations"] == len(shipped("weather.csv")) == 2922
    assert [(row["location"], row["period"]) for row in value["rows"]][:2] == [
        ("New York", "2012"),
        ("New York", "2013"),
    ]


def test_report_agrees_with_data_worked_out_by_hand(manager: JobManager) -> None:
    raw = "location,date,load\nhere,2026-01-01,1\nhere,2026-01-02,3\nthere,2026-01-01,7\n"
    order: Any = {"raw": raw, "metric": "load", "by": "month", "location": "here"}
    value = value_of(manager.process_single_job("report.derive", order))
    assert value["rows"] == [
        {
            "location": "here",
            "period": "2026-01",
            "count": 2,
            "mean": 2.0,
            "lowest": 1.0,
            "median": 2.0,
            "p95": 2.9,
            "highest": 3.0,
        }
    ]


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"metric": "humidity"}, "humidity"),
        ({"location": "Atlantis"}, "Atlantis"),
        ({"metric": "weather"}, "not a number"),
        ({"raw": "location,date,load\nhere,2026-01-01,nan\n", "metric": "load"}, "not a number"),
        ({"raw": "location,date,load\nhere,yesterday,1\n", "metric": "load"}, "line 2: date"),
        ({"raw": "location,load\nhere,1\n", "metric": "load"}, "has no column date"),
        ({"raw": "location,date,load\n" + "x" * 200_000, "metric": "load"}, "not CSV"),
        ({"raw": ""}, "no observations"),
    ],
)
def test_report_that_cannot_be_derived_is_fatal_and_says_why(
    manager: JobManager, order: Any, says: str
) -> None:
    result = manager.process_single_job("report.derive", order)
    assert result.status is Status.FAILED
    assert says in result.message

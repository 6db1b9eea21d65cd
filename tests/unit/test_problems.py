"""A problem carries its place and its origin as data (E5); nobody has to parse what it says."""

from __future__ import annotations

import pytest

from kessel_core import EnqueueRejected, EnqueueUnknown, Problem
from kessel_core.errors import UnusablePlugin


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ((), ""),
        (("$",), "$"),
        (("$", "payload", "operands", 1), "$.payload.operands[1]"),
        (("$", "headers", "a.b"), "$.headers['a.b']"),
        (("worker", "slots"), "worker.slots"),
        ((1,), "[1]"),
    ],
)
def test_a_place_is_written_as_people_write_it(where: tuple[str | int, ...], path: str) -> None:
    assert Problem(where, "is wrong").path == path


def test_what_a_problem_says_begins_with_its_origin_and_its_place() -> None:
    assert (
        str(Problem(("worker", "slots"), "is wrong", "kessel.toml")) == "kessel.toml: worker.slots: is wrong"
    )
    assert str(Problem((), "is wrong", "--slots")) == "--slots: is wrong"
    assert str(Problem(("worker", "slots"), "is wrong")) == "worker.slots: is wrong"


def test_a_problem_of_options_can_be_put_under_what_they_belong_to() -> None:
    placed = Problem(("level",), "is wrong").under("middleware_options", "logging")
    assert placed.where == ("middleware_options", "logging", "level")


def test_an_origin_that_stands_for_an_option_takes_its_place() -> None:
    """A variable is the whole option; what lies inside of it is left, with the URL that it holds."""
    problem = UnusablePlugin(("adapter", "leese"), "is unknown", "x://h?leese=1")
    given = problem.given_by("KESSEL_ADAPTER", parts=1)
    assert (given.origin, given.where) == ("KESSEL_ADAPTER: x://h?leese=1", ("leese",))
    assert isinstance(given, UnusablePlugin)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EnqueueRejected("j", "the queue is full", "full"), "job j: not stored, the queue is full"),
        (
            EnqueueUnknown("j", "the connection was lost"),
            "job j: may or may not be stored, the connection was lost",
        ),
    ],
)
def test_an_enqueue_error_keeps_its_reason_apart_from_what_is_known(
    error: EnqueueRejected | EnqueueUnknown, text: str
) -> None:
    assert str(error) == text
    assert error.why in text
    assert "stored" not in error.why

"""What an adapter declares: nonsense is refused when it is declared, and at the latest when it is opened."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from kessel_conformance import Harness
from kessel_conformance.inprocess import NoQueue

from kessel_core import InvalidConfig, SystemClock, build_plugins, hookimpl
from kessel_core.contract import AdapterContext, AdapterSpec, Capabilities, LeaseReturn, Reach

NOTHING = timedelta(0)


@pytest.mark.parametrize(
    ("declared", "name", "text"),
    [
        ({"lease": NOTHING}, "lease", "expected more than zero, got 0 s"),
        ({"lease": timedelta(seconds=-1)}, "lease", "expected more than zero, got -1 s"),
        ({"delay_granularity": NOTHING}, "delay_granularity", "expected more than zero"),
        ({"delay_granularity": timedelta(1), "longest_delay": NOTHING}, "longest_delay", "more than zero"),
        ({"longest_delay": timedelta(1)}, "longest_delay", "is declared without delay_granularity"),
        ({"lease_return": LeaseReturn.LEASE_END}, "lease_return", "no lease is declared"),
        ({"max_body_bytes": 0}, "max_body_bytes", "expected 1 or more, got 0"),
        ({"priorities": (5, 5)}, "priorities", "got 5 and 5"),
        ({"priorities": (-1, 5)}, "priorities", "got -1 and 5"),
        ({"priorities": (0, 2**32)}, "priorities", "expected two numbers from 0 to 4294967295"),
    ],
)
def test_capability_that_promises_nothing_is_refused_by_name(
    declared: dict[str, Any], name: str, text: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        Capabilities(reach=Reach.HOST, **declared)
    (problem,) = caught.value.problems
    assert problem.where == ("capabilities", name)
    assert text in problem.message


def test_every_nonsense_is_told_at_once() -> None:
    with pytest.raises(InvalidConfig, match="declares what cannot be, 3 problems"):
        Capabilities(reach=Reach.HOST, lease=NOTHING, max_body_bytes=0, priorities=(9, 3))


def test_least_that_can_be_meant_is_accepted() -> None:
    tick = timedelta(microseconds=1)
    Capabilities(
        reach=Reach.PROCESS,
        lease=tick,
        lease_return=LeaseReturn.LEASE_END,
        delay_granularity=tick,
        longest_delay=tick,
        max_body_bytes=1,
        priorities=(0, 1),
    )
    Capabilities(reach=Reach.PROCESS, lease_return=LeaseReturn.AT_ONCE)


class Nonsense(NoQueue):
    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(reach=Reach.PROCESS, lease=NOTHING)


@attrs.frozen
class Options:
    host: str = ""


SPEC = AdapterSpec(name="odd", schemes=("odd",), options=Options, open=lambda options, context: Nonsense())


def test_adapter_that_declares_a_lease_of_zero_is_refused_when_it_is_opened() -> None:
    """It would be accepted, and each of its jobs would run again and again."""
    offers = SimpleNamespace(kessel_adapters=hookimpl(lambda: [SPEC]))
    plugins = build_plugins(distributions=(), extra={"odd": offers})
    with pytest.raises(InvalidConfig, match=r"capabilities\.lease: expected more than zero"):
        plugins.chosen_adapter("odd").open(AdapterContext(clock=SystemClock()))


def test_adapter_that_is_refused_for_what_it_declares_does_not_stay_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And is refused for that, also if it fails when it is closed."""
    closed: list[Nonsense] = []

    def close(adapter: Nonsense) -> None:
        closed.append(adapter)
        raise OSError("it was never connected")

    monkeypatch.setattr(Nonsense, "close", close)
    offers = SimpleNamespace(kessel_adapters=hookimpl(lambda: [SPEC]))
    plugins = build_plugins(distributions=(), extra={"odd": offers})
    with pytest.raises(InvalidConfig):
        plugins.chosen_adapter("odd").open(AdapterContext(clock=SystemClock()))
    assert len(closed) == 1


def test_harness_of_such_an_adapter_does_not_come_up() -> None:
    with pytest.raises(InvalidConfig, match=r"capabilities\.lease: expected more than zero"):
        Harness(SPEC, "odd://").up()

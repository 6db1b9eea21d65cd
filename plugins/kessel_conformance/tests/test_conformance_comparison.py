"""Generated plans judge what a holder may do the right way round (S7)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from kessel_conformance import Violation
from kessel_conformance.comparison import Comparison
from kessel_conformance.model import Broken, Model, Span
from kessel_memory.plugin import SPEC

from kessel_core import LeaseLost
from kessel_core.contract import AdapterContext, Capabilities, JobState, Message, Reach
from kessel_core.testing import VirtualClock

REFUSED = "refused although its lease surely holds"
ACCEPTED = "accepted although the lease had ended"


def answered() -> str:
    return "answer"


def refused() -> str:
    raise LeaseLost("job-1", "it ended")


@pytest.mark.parametrize(
    ("holds", "call", "wrong"),
    [
        (True, answered, None),
        (True, refused, REFUSED),
        (False, answered, ACCEPTED),
        (False, refused, None),
        # On a real clock the end of a lease may fall into the call: then either is right.
        (None, answered, None),
        (None, refused, None),
    ],
)
def test_call_of_a_holder_is_judged_by_what_is_sure_of_its_lease(holds, call, wrong, monkeypatch) -> None:
    clock = VirtualClock()
    adapter = SPEC.open(SPEC.options(), AdapterContext(clock=clock))
    both = Comparison(adapter, clock, "main", 2e-6)
    message = Message("id-1", "main", b"body", 0)
    at = Span(0.0, 0.0)
    job = both.model.enqueued(message, "job-1", None, at)
    monkeypatch.setattr(both.model, "holds", lambda *_: holds)
    try:
        if wrong is not None:
            with pytest.raises(Violation, match=wrong) as caught:
                both.judged(both.workers[0], job, "worker A commits job-1", call)
            assert caught.value.clause == "S7"
        else:
            found = both.judged(both.workers[0], job, "worker A commits job-1", call)
            assert found == (None if call is refused else ("answer", at))
    finally:
        both.close()
        adapter.close()


@pytest.mark.parametrize(
    ("grain", "apart", "is_wrong"),
    [(1.0, 1.5, False), (1.0, 2.5, True), (0.001, 0.5, True), (0.001, 0.0, False)],
)
def test_order_of_delayed_jobs_is_judged_no_finer_than_delays_are_kept(
    grain: float, apart: float, is_wrong: bool
) -> None:
    """beanstalkd tells what is left in whole seconds; a plan at a bad moment called it wrong."""
    declared = Capabilities(reach=Reach.NETWORK, delay_granularity=timedelta(seconds=grain))
    model, at = Model(declared, 0.25), Span(0.0, 0.0)
    model.enqueued(Message("id-1", "main", b"later", 0), "job-1", 10.0 + apart, at)
    model.enqueued(Message("id-2", "main", b"sooner", 0), "job-2", 10.0, at)
    model.shown(JobState.DELAYED, [b"sooner", b"later"], at)
    if is_wrong:
        with pytest.raises(Broken, match="job-1 is shown before job-2, which comes first"):
            model.shown(JobState.DELAYED, [b"later", b"sooner"], at)
    else:
        model.shown(JobState.DELAYED, [b"later", b"sooner"], at)

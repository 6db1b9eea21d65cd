"""Generated plans judge what a holder may do the right way round (S7)."""

from __future__ import annotations

import pytest
from kessel_conformance import Violation
from kessel_conformance.comparison import Comparison
from kessel_conformance.model import Span
from kessel_memory.plugin import SPEC

from kessel_core import LeaseLost
from kessel_core.contract import AdapterContext, Message
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

"""What answers is not the expected backend, or does not let us in: that is told, and nothing believed."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast
from urllib.parse import unquote

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.faults import ANSWER_WITHIN, Answer, Apart
from kessel_conformance.job_calls import OF_ENQUEUE
from kessel_conformance.places import REFUSES_A_PASSWORD
from kessel_conformance.requirements import CONNECTION
from kessel_conformance.strangers import STRANGERS, Kind, Stranger
from kessel_core import AdapterUnavailable, ProtocolError
from kessel_core.contract import NO_PAUSE, QueueAdapter, split_url

#: How a call ends on a server that is not the expected one.
_REFUSED: Final = (AdapterUnavailable, ProtocolError)
#: Seconds; several calls may wait for their time-outs, one after the other.
_SIDE_BY_SIDE: Final = 6 * ANSWER_WITHIN
#: Seconds after which no more calls are made, of which each waits for a time-out.
_LONG: Final = 2.0


@case(
    "lost.strangers",
    "S9",
    "S14",
    needs=(CONNECTION,),
    waits=True,
    why="A port is mistyped, and something else answers: a worker hangs, believes in an empty queue, or ends"
    " with an error of some codec.",
)
def strangers(bench: Bench) -> None:
    meetings = [_Meeting(bench, kind) for kind in STRANGERS]
    bench.side_by_side([meeting.take_place for meeting in meetings], _SIDE_BY_SIDE)
    # Some stranger may look like a server that is slow, or that has gone away; not all of them do.
    bench.check(
        any(meeting.was_recognized for meeting in meetings),
        "no stranger was told as one by a ProtocolError, but each as a server that cannot be reached",
    )


def _only_one(outcomes: Sequence[Exception | None]) -> None:
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


class _Meeting:
    """An adapter that is opened on a server of some kind."""

    def __init__(self, bench: Bench, kind: Kind) -> None:
        self.bench = bench
        self._kind = kind
        self._apart = Apart()
        #: Whether it was told that somebody else answers.
        self.was_recognized = False

    def take_place(self) -> None:
        """Open the adapter, and make calls if it does not connect before."""
        bench = self.bench
        with Stranger(self._kind) as stranger:
            harness = bench.harness.through(stranger.port)
            opened = self._asked("open", lambda: harness.open(bench.clock, bench.namespace))
            if opened.error is None:
                self._calls(cast("QueueAdapter", opened.value))
            else:
                self._is_one_of(_REFUSED, "open", opened.error)
        self._apart.close()

    def _calls(self, adapter: QueueAdapter) -> None:
        message = self.bench.message()
        consumer = adapter.consumer([self.bench.queue])
        begun = time.monotonic()
        for what, call, kinds in (
            ("stats", lambda: adapter.stats(self.bench.queue), ()),
            ("reserve", lambda: consumer.reserve(NO_PAUSE), ()),
            ("enqueue", lambda: adapter.enqueue(message), OF_ENQUEUE),
            ("enqueue_many of 1", lambda: _only_one(adapter.enqueue_many([message])), OF_ENQUEUE),
            ("queues", adapter.queues, ()),
        ):
            self._is_one_of((*_REFUSED, *kinds), what, self._asked(what, call).error)
            if time.monotonic() - begun > _LONG:
                break
        for what, close in (("close of a consumer", consumer.close), ("close", adapter.close)):
            self._is_one_of((type(None),), what, self._asked(what, close).error)

    def _is_one_of(self, kinds: tuple[type, ...], what: str, error: Exception | None) -> None:
        ended = "returned" if error is None else f"raised {type(error).__name__}: {error}"
        allowed = ", ".join(dict.fromkeys(kind.__name__ for kind in kinds))
        where = f"on a server {self._kind.label}"
        self.bench.check(isinstance(error, kinds), f"{what} {ended}, {where}; expected {allowed}")

    def _asked(self, what: str, call: Callable[[], object]) -> Answer:
        where = f"on a server {self._kind.label}"
        answer = self._apart.call(call)
        if answer is None:
            self.bench.broken(f"{what} did not end within {ANSWER_WITHIN:g} s, {where} (contract, rule 7)")
        self.was_recognized |= isinstance(answer.error, ProtocolError)
        answer.noted(self.bench.history, f"{what}, {where}", self.bench.text_of)
        return answer


@case(
    "options.password_refused",
    "S9",
    needs=(REFUSES_A_PASSWORD,),
    waits=True,
    why="A password was changed, and a worker tries again for ever, works without it, or writes it into the"
    " log.",
)
def password_refused(bench: Bench) -> None:
    harness, apart = bench.harness, Apart()
    address, _ = harness.address(harness.refused_url, bench.namespace)
    password = split_url(address or "").password or ""

    def opens() -> None:
        adapter = cast("QueueAdapter", harness.open_url(harness.refused_url, bench.clock, bench.namespace))
        try:
            adapter.stats(bench.queue)  # it may connect only now
        finally:
            adapter.close()

    answer = apart.call(opens)
    apart.close()
    if answer is None:
        bench.broken(f"opening with a password that is refused did not end within {ANSWER_WITHIN:g} s")
    error = answer.error
    what = "nothing was raised" if error is None else f"{type(error).__name__} was raised"
    bench.check(
        isinstance(error, ProtocolError), f"{what} for a password that is refused, expected ProtocolError"
    )
    shown = " ".join(_texts(error))
    is_shown = any(text in shown for text in (password, unquote(password)) if text)
    bench.check(not is_shown, "the error, or what led to it, shows the password that was refused")


def _texts(error: BaseException | None) -> Iterator[str]:
    """Yield what is shown of an error, and of those that led to it."""
    while error is not None:
        yield from (str(error), repr(error), *getattr(error, "__notes__", ()))
        error = error.__cause__ or error.__context__

"""A connection that breaks: no write is told as done that was not, or as not done that was (S19)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
from collections.abc import Callable
from typing import Final

from kessel_conformance.catalogue import STORES
from kessel_conformance.faults import GARBLED, HALF_OPEN, NO_FAULT, Answer, Fault, faults_of
from kessel_conformance.near import Near
from kessel_conformance.proxy import Traffic
from kessel_conformance.stores.bench import StoreBench
from kessel_conformance.stores.requirements import CONNECTION
from kessel_conformance.together import one_may_fail
from kessel_core import AdapterError, AdapterUnavailable, StoreUnknown
from kessel_core.contract import Entry, Store

case = STORES.case

#: Connections of a pool that were broken, and that nobody has noticed yet.
_STALE: Final = 3


@case(
    "lost.write",
    "S19",
    needs=(CONNECTION,),
    waits=True,
    why="A write that was lost is told as done, or one that was done as not; a lost look sees nothing.",
)
def write(bench: StoreBench) -> None:
    with _near_store(bench) as near:
        trials = _Trials(near)
        trials.puts()
        trials.deletes()
        trials.looks()


@case(
    "lost.all_connections_at_once",
    "S19",
    needs=(CONNECTION,),
    waits=True,
    why="A server was restarted, and each connection that a store has had idle fails one more call.",
)
def all_connections_at_once(bench: StoreBench) -> None:
    calls: dict[str, Callable[[Store], object]] = {
        "get": lambda store: store.get(bench.space, "none"),
        "scan": lambda store: store.scan(bench.space),
        "put": lambda store: store.put(bench.space, "kept", b"v"),
        "delete": lambda store: store.delete(bench.space, "none"),
    }
    for what, call in calls.items():
        with _near_store(bench) as near:
            store, usual = near.opened, (AdapterUnavailable, StoreUnknown)
            one_may_fail(near, what, lambda _, store=store, call=call: call(store), usual)  # type: ignore[misc]


def _near_store(bench: StoreBench) -> Near[StoreBench, Store]:
    def opens(port: int) -> tuple[Store, Callable[[], object]]:
        harness = bench.harness.through(port)
        store = harness.open(bench.clock, bench.namespace)
        return store, lambda: harness.close(store)

    return Near(bench, opens)


class _Trials:
    """Calls of a store whose connection breaks."""

    def __init__(self, near: Near[StoreBench, Store]) -> None:
        self.near = near
        self.bench, self.proxy, self.store = near.bench, near.proxy, near.opened
        self.cuts = self.bench.settings.amounts.cuts

    def puts(self) -> None:
        """Put new entries while the connection breaks."""
        space = self.bench.space

        def put(key: str) -> object:
            return self.store.put(space, key, b"v", expect=0)

        traffic = self._passed(lambda: put("healthy"))
        for number, fault in enumerate([*faults_of(traffic, self.cuts), HALF_OPEN]):
            key = f"put{number}"
            answer = self._asked("put", fault, lambda key=key: put(key))  # type: ignore[misc]  # bound here
            self._judge("put", fault, answer, is_done=self.bench.get(key) is not None)

    def deletes(self) -> None:
        """Delete entries while the connection breaks."""
        space = self.bench.space
        self.bench.put("healthy")
        traffic = self._passed(lambda: self.store.delete(space, "healthy"))
        for number, fault in enumerate(faults_of(traffic, self.cuts)):
            key = f"delete{number}"
            self.bench.put(key)
            answer = self._asked("delete", fault, lambda key=key: self.store.delete(space, key))  # type: ignore[misc]
            self._judge("delete", fault, answer, is_done=self.bench.get(key) is None)

    def looks(self) -> None:
        """Read what is there while the connection breaks."""
        space, store = self.bench.space, self.store
        self.bench.put("look")
        looks: dict[str, Callable[[], Entry | list[Entry] | None]] = {
            "get": lambda: store.get(space, "look"),
            "scan": lambda: store.scan(space, prefix="look"),
        }
        for what, look in looks.items():
            for fault in faults_of(self._passed(look), min(self.cuts, 10)):
                answer = self._asked(what, fault, look)
                usual = AdapterError if fault is GARBLED else AdapterUnavailable
                is_right = isinstance(answer.error, usual) if answer.error else answer.value
                said = repr(answer.error) if answer.error is not None else "nothing is there"
                self.bench.check(
                    bool(is_right), f"{what}, while {fault.label}: {said}, of an entry that is there"
                )

    def _passed(self, call: Callable[[], object]) -> Traffic:
        """Return what a call sends and receives while nothing is broken."""
        before = self.proxy.traffic
        answer = self._asked("a call", NO_FAULT, call)
        self.bench.check(answer.error is None, f"nothing is broken, but a call raised {answer.error!r}")
        return self.proxy.traffic - before

    def _asked(self, what: str, fault: Fault, call: Callable[[], object]) -> Answer:
        """Make a call under a fault, and another one after it, which must work."""
        fault.begin(self.proxy)
        answer = self.near.asked(self.bench.history, f"{what}, while {fault.label}", call)
        self.proxy.end_faults()
        for _ in range(_STALE):
            after = self.near.asked(
                self.bench.history,
                "get, when nothing is broken",
                lambda: self.store.get(self.bench.space, "none"),
            )
            if not isinstance(after.error, AdapterUnavailable):
                break
        self.bench.check(after.error is None, f"get, after {what} while {fault.label}: {after.error!r}")
        return answer

    def _judge(self, what: str, fault: Fault, answer: Answer, *, is_done: bool) -> None:
        """Compare what a write said with what became of it."""
        error, when = answer.error, f"{what}, while {fault.label},"
        if error is None:
            self.bench.check(is_done, f"{when} returned, but was not done")
        elif isinstance(error, AdapterUnavailable):
            self.bench.check(not is_done, f"{when} raised AdapterUnavailable, though it was done")
        else:
            self.bench.check(
                isinstance(error, StoreUnknown), f"{when} raised {type(error).__name__}: {error}"
            )

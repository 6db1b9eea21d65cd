"""Another process that has the same store open, and does there what a case asks for.

Requests and answers are pickles on its standard input and output; both ends are this suite.
"""

from __future__ import annotations

# ruff: noqa: S301  # what is unpickled was pickled by the other end of a pipe of our own
import os
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any, BinaryIO, Final

import attrs

from kessel_core import KesselError, StoreConflict, SystemClock
from kessel_core.contract import AdapterContext, QueueAdapter, Store, need, split_url

__all__ = ["Opening", "add", "answer", "serve"]

#: Goes on until somebody ends it, and reports each step.
ENDLESS: Final = 1 << 60


@attrs.frozen
class Opening:
    """How a process opens a store; can be pickled if its options can."""

    #: `adapter` or `store`: what the URL opens; an adapter's store is a facet.
    kind: str
    #: `module:name` of the spec; None: the installed plugins are asked.
    spec: str | None
    url: str | None
    options: Mapping[str, Any]

    def open(self) -> Store:
        """Open the store, on the machine's clock."""
        context = AdapterContext(clock=SystemClock())
        if self.spec is None:
            from kessel_core import build_plugins

            assert self.url is not None
            if self.kind == "store":
                return build_plugins().chosen_store(self.url).open(context)
            return need(build_plugins().chosen_adapter(self.url, self.options).open(context), Store)
        from kessel_core.values.options import structure_options

        module, _, name = self.spec.partition(":")
        spec = getattr(import_module(module), name)
        given = dict(spec.from_url(split_url(self.url))) if self.url is not None else {}
        opened = spec.open(structure_options(spec.options, {**given, **self.options}, "options"), context)
        return need(opened, Store) if isinstance(opened, QueueAdapter) else opened


def add(store: Store, space: str, key: str, times: int) -> int:
    """Add one to a number, that often, by compare-and-set; return how often somebody else was faster.

    What a conflict says is there is used for the next try, so it has to be true.
    """
    conflicts, entry = 0, store.get(space, key)
    version, number = (0, 0) if entry is None else (entry.version, int(entry.value))
    for _ in range(times):
        while True:
            try:
                version = store.put(space, key, b"%d" % (number + 1), expect=version)
            except StoreConflict as exc:
                conflicts += 1
                version, number = exc.version, int(exc.value or b"0")
            else:
                number += 1
                break
    return conflicts


def answer(
    store: Store, space: str, own: str, others: str, begins: bool, turns: int, patience: timedelta
) -> str | None:
    """Answer somebody who does the same: each waits for the other's entry, and then writes its own.

    Args:
        store: Open here.
        space: Of both entries.
        own: Key that is written here.
        others: Key that is waited for.
        begins: Whether to write first.
        turns: How often.
        patience: Longest wait; one that takes all of it was not woken.

    Returns:
        Which wake-up was lost, or None.
    """
    seen = 0
    for turn in range(turns):
        if begins or turn:
            store.put(space, own, b"%d" % turn)
        start = time.monotonic()
        entry = store.wait(space, others, seen=seen, timeout=patience)
        if entry is None or entry.version == seen or time.monotonic() - start >= patience.total_seconds():
            return f"wake-up {turn} of {turns} for {others!r} was lost"
        seen = entry.version
    if not begins:
        store.put(space, own, b"last")
    return None


def serve() -> None:
    """Answer requests until the input ends. The first one is an `Opening`."""
    answers, requests = os.fdopen(os.dup(1), "wb"), sys.stdin.buffer
    os.dup2(2, 1)  # what a plugin prints is no answer
    store = _answered(answers, lambda: pickle.load(requests).open(), silent=True)
    while store is not None:
        try:
            name, arguments, named = pickle.load(requests)
        except EOFError:
            return
        if name == "put_many":
            _put_many(store, answers, *arguments)
        elif name in _ERRANDS:
            _answered(answers, partial(_ERRANDS[name], store, *arguments))
        else:
            _answered(answers, partial(getattr(store, name), *arguments, **named))


_ERRANDS: Final[Mapping[str, Callable[..., Any]]] = {"add": add, "answer": answer}


def _put_many(store: Store, answers: BinaryIO, space: str) -> None:
    """Put one entry after another, each acknowledged, until the process is killed."""

    def put(number: int) -> tuple[int, int]:
        return number, store.put(space, str(number), b"%d" % number)

    for number in range(ENDLESS):
        _answered(answers, partial(put, number))


def _answered(answers: BinaryIO, call: Callable[[], Any], *, silent: bool = False) -> Any:
    """Call, and write what it returned or raised."""
    found: Any = None
    try:
        found = call()
        body = pickle.dumps((None if silent else found, None))
    except KesselError as exc:
        body = pickle.dumps((None, exc))
    except Exception as exc:
        body = pickle.dumps((None, RuntimeError(f"{type(exc).__name__}: {exc}")))
    answers.write(body)
    answers.flush()
    return found

"""Trace one request and one job through the running code: which files are entered, in which order.

Usage: python tools/trace_job.py [URL]   (memory:// without one)

Every call of a Python function counts. Consecutive calls in one file are one stay; a return is a stay in a
file that was entered before. Each path is run once before it is traced, so that lazy imports do not count.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import attrs

from kessel_core import Fatal, JobManager, Transient
from kessel_core.contract import NO_PAUSE
from kessel_core.runtime.lease import Lease

ROOT = Path(__file__).resolve().parents[1]


@attrs.frozen(kw_only=True)
class Trace:
    """One path through the code."""

    #: The files in the order of the stays; paths are relative to the core or the plugin.
    stays: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Each file once, in the order of its first stay."""
        return tuple(dict.fromkeys(self.stays))

    @property
    def rooms(self) -> tuple[str, ...]:
        """Each folder once, in the order of its first stay."""
        return tuple(dict.fromkeys(file.rpartition("/")[0] for file in self.stays))

    @property
    def returns(self) -> int:
        """How often a file was entered again."""
        return len(self.stays) - len(self.files)


def traced(act: Callable[[], object]) -> Trace:
    """Call `act`, and record which files of kessel its calls are in."""
    stays: list[str] = []

    def note(frame: object, event: str, _: object) -> None:
        if event != "call":
            return
        path = Path(frame.f_code.co_filename)  # type: ignore[attr-defined]  # a frame
        if not path.is_relative_to(ROOT) or ".venv" in path.parts or path == Path(__file__):
            return
        name = path.relative_to(ROOT).as_posix()
        name = name.split("/", 2)[2] if name.startswith("plugins/") else name
        if not stays or stays[-1] != name:
            stays.append(name)

    gc.collect()
    gc.disable()  # what it collects may have finalizers, which are no part of the path
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
        gc.enable()
    return Trace(stays=tuple(stays))


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing: what formats the lines is no part of the path."""
    log = logging.getLogger("kessel")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def traces(url: str) -> dict[str, Trace]:
    """Trace a request, and a running job: success, retry, burial."""

    def handle(how: str) -> str:
        if how == "retry":
            raise Transient("later", after=timedelta(days=1))
        if how == "burial":
            raise Fatal("no")
        return how

    found: dict[str, Trace] = {}
    with quiet(), JobManager(url, handlers={"t": handle}) as manager:
        adapter, pipeline, clock = manager.adapter, manager.pipeline, manager.clock
        consumer = adapter.consumer(["default"])

        def work() -> None:
            # The same calls as in a slot.
            reservation = consumer.reserve(NO_PAUSE)
            assert reservation is not None
            pipeline.run(Lease(adapter, consumer, reservation, clock), take_next=True)

        for _ in range(2):
            for how in ("success", "retry", "burial"):
                found["request"] = traced(lambda how=how: manager.request("t", how))  # type: ignore[misc]  # bound
                found[how] = traced(work)
        consumer.close()
    return found


def main() -> None:
    """Print the traces of one adapter."""
    threading.excepthook = lambda _: None
    url = sys.argv[1] if len(sys.argv) > 1 else "memory://"
    for name, trace in traces(url).items():
        print(
            f"{name}: {len(trace.stays)} stays, {len(trace.files)} files, {len(trace.rooms)} rooms, "
            f"{trace.returns} returns"
        )
        for file in trace.files:
            print(f"    {file}")


if __name__ == "__main__":
    main()

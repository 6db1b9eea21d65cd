"""Before an adapter is open: what its spec says of its place, and a place where something else is (S9)."""

from __future__ import annotations

# ruff: noqa: D103  # what a case is for stands in its `why`
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import case
from kessel_conformance.harness import Harness
from kessel_conformance.places import FILES
from kessel_core import AdapterError, AdapterUnavailable, InvalidConfig, ProtocolError
from kessel_core.contract import NO_PAUSE, Browse, Durability, JobState, QueueAdapter, Reach, need


@case(
    "adapter.absent_only_looks",
    "S9",
    why="A command that only looks makes an empty queue, or says of one with jobs that there is none.",
)
def absent_only_looks(bench: Bench) -> None:
    if bench.harness.chosen(bench.namespace) is None:
        return  # the harness opens in a way of its own
    lasts = (
        bench.capabilities.reach is not Reach.PROCESS or bench.capabilities.durability is not Durability.NONE
    )
    bench.equal(_absent(bench, bench.harness, bench.namespace), None, "absent while it is open")
    message = bench.put()
    bench.equal(_absent(bench, bench.harness, bench.namespace), None, "absent while it has a job")
    with bench.closed():
        answer = _absent(bench, bench.harness, bench.namespace)
        bench.check(not lasts or answer is None, f"absent says {answer!r} of what has a job, and is closed")
    if lasts:
        consumer = bench.consumer()
        bench.settle(consumer, bench.gets(consumer, message, "the job, after all that was looked at"))
    with tempfile.TemporaryDirectory(dir=bench.harness.folder) as top:
        for folder in (top, f"{top}/missing"):
            harness = bench.harness.in_folder(folder)
            new = harness.namespace()
            answers = [_absent(bench, harness, new) for _ in range(2)]
            bench.equal(answers[1], answers[0], "absent, asked again of a namespace that is new")
            made = sorted(str(path.relative_to(top)) for path in Path(top).rglob("*"))
            bench.equal(made, [], "files that were made by looking")


def _absent(bench: Bench, harness: Harness, namespace: str) -> str | None:
    """Ask whether there is a queue, and where it is; only the first may know about jobs."""
    found = harness.chosen(namespace)
    assert found is not None
    spec, options = found
    for what, ask in (("place", spec.place), ("absent", spec.absent)):
        answer = bench.call(f"{what} of {namespace}", partial(ask, options), "None")
        is_text = isinstance(answer, str) and answer.strip() != ""
        bench.check(answer is None or is_text, f"{what} returns {answer!r}, neither None nor a text")
    return answer


def _no_folder(place: Path) -> None:
    shutil.rmtree(place)
    place.write_bytes(b"not a folder\n")


def _missing(place: Path) -> None:
    shutil.rmtree(place)


def _other_kind(place: Path) -> None:
    for path in sorted(place.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
            path.write_bytes(b"not a folder\n")
        else:
            path.unlink()
            path.mkdir()


def _other_content(place: Path) -> None:
    for path in sorted(place.rglob("*")):  # in folders of folders, too
        if path.is_file():
            path.write_bytes(b"\0this is something else\n" * 1000)


def _loop(place: Path) -> None:
    shutil.rmtree(place)
    place.symlink_to(place.name)


#: What there is in the place of a queue that had a job.
_SPOILT: Final[dict[str, Callable[[Path], None]]] = {
    "a file where its folder was": _no_folder,
    "nothing where its folder was": _missing,
    "a folder for each file, and a file for each folder": _other_kind,
    "something else in its files": _other_content,
    "a link to itself where its folder was": _loop,
}


@case(
    "files.of_another_kind",
    "S9",
    needs=(FILES,),
    why="A path is typed wrong, and what the system says about it ends the program, past every layer.",
)
def of_another_kind(bench: Bench) -> None:
    with tempfile.TemporaryDirectory(dir=bench.harness.folder) as top:
        for number, (what, spoil) in enumerate(_SPOILT.items()):
            place = Path(top) / str(number)
            place.mkdir()
            harness = bench.harness.in_folder(str(place))
            opens = partial(harness.open, bench.clock, harness.namespace())
            first = bench.call("open, with files of its own", opens)
            bench.call("enqueue", partial(first.enqueue, bench.message()))
            bench.call("close", first.close)
            spoil(place)
            _opens_or_refuses(bench, what, opens)


def _opens_or_refuses(bench: Bench, what: str, opens: Callable[[], QueueAdapter]) -> None:
    """Open, and call what is open: it works, or each call says what is wrong in an error of the contract."""
    history = bench.history
    try:
        adapter = opens()
    except (AdapterUnavailable, ProtocolError, InvalidConfig) as exc:
        history.add(f"open, with {what} -> {type(exc).__name__}: {exc}")
        return
    except Exception as exc:
        bench.broken(f"open, with {what}, raised {type(exc).__name__}: {exc}")
    queue = bench.queue
    consumer = adapter.consumer([queue])
    calls: dict[str, Callable[[], object]] = {
        "enqueue": lambda: adapter.enqueue(bench.message()),
        "queues": adapter.queues,
        "stats": lambda: adapter.stats(queue),
        "reserve": lambda: consumer.reserve(NO_PAUSE),
        "close of the consumer": consumer.close,
    }
    if bench.has(Browse):
        calls["peek"] = lambda: need(adapter, Browse).peek(queue, JobState.READY)
    calls["close"] = adapter.close
    for name, call in calls.items():
        try:
            answer = call()
        except AdapterError as exc:
            history.add(f"{name}, with {what} -> {type(exc).__name__}: {exc}")
        except Exception as exc:
            bench.broken(f"{name}, with {what}, raised {type(exc).__name__}: {exc}")
        else:
            history.add(f"{name}, with {what} -> {bench.text_of(answer)}")

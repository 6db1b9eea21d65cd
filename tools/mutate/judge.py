"""A pytest plugin that collects the tests once, and then judges one fault after another.

For each fault a forked copy of this process gets the changed code, runs the tests that it was told, the
likeliest first, and ends with the first that fails. Functions get new code in place, so nothing is imported
anew; the file is changed as well, for programs that the tests start. A fault outside of functions is met when
the module is imported, so that takes a pytest of its own.

It talks over the descriptor `KESSEL_JUDGE_FD`, in lines of JSON. First it lists the tests that it knows. Then
`{"file", "text", "tests", "seconds"}` is answered by `{"verdict", "by", "run"}`; the verdict is `noticed`,
`unnoticed`, or `unfinished` when the seconds were over before the tests, or there are too many of them for a
pytest of its own. `court.py` is the other side.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final

import coverage
import pytest

#: A test that takes so much longer than before, in seconds and times, hangs.
HANGS: Final = (6.0, 10.0)
#: Most tests of one pytest of its own, and the seconds that it may take.
COLD_TESTS: Final = 250
COLD_SECONDS: Final = 120.0

_IS_OPTIMIZED: Final = 0x01  # of a function, and not of a module or a class


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """For the record: what runs from now on is run by this test."""
    recorder = coverage.Coverage.current()
    if recorder is not None:
        recorder.switch_context(item.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """For the record: how long each test takes."""
    if (file := os.environ.get("KESSEL_JUDGE_TIMES")) and "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(file).open("a") as out:
            print(json.dumps([report.nodeid, report.duration, report.failed]), file=out)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    descriptor = os.environ.get("KESSEL_JUDGE_FD")
    if descriptor is None or session.config.option.collectonly:
        return None
    judge = Judge(session.items)
    signal.signal(signal.SIGTERM, _end)
    with socket.socket(fileno=int(descriptor)) as line, line.makefile("rw") as talk:
        print(json.dumps([item.nodeid for item in session.items]), file=talk, flush=True)
        for order in talk:
            print(json.dumps(judge.judge(**json.loads(order))), file=talk, flush=True)
    return True


class Judge:
    """Runs tests in copies of this process."""

    def __init__(self, items: list[pytest.Item]) -> None:
        self._items = {item.nodeid: item for item in items}
        #: How long each test took here, in seconds.
        self._took: dict[str, float] = {}
        #: Whether each test that noticed something passes without a fault here.
        self._passes: dict[str, bool] = {}
        #: The functions of each file.
        self._functions: dict[str, list[FunctionType]] = defaultdict(list)
        gc.unfreeze()  # what `conftest.py` has frozen is not among the objects
        for thing in gc.get_objects():
            if type(thing) is FunctionType:
                self._functions[thing.__code__.co_filename].append(thing)
        gc.collect()
        gc.freeze()  # so that a copy of this process shares its memory for long
        _adopt_orphans()

    def judge(self, file: str, text: str, tests: list[str], seconds: float) -> dict[str, Any]:
        """Judge one fault."""
        path = Path.cwd() / file
        before = path.read_bytes()
        known = [name for name in tests if name in self._items]
        changes = code_changes(before, text.encode(), str(path))
        while True:
            path.write_bytes(text.encode())
            try:
                if changes is None:
                    answer = self._cold(known)
                else:
                    answer = self._forked(known, seconds, lambda: _swap(changes, self._functions[str(path)]))
                    if answer["verdict"] == "cold":
                        answer = self._cold(known)
            finally:
                path.write_bytes(before)
            by = answer["by"]
            if answer["verdict"] != "noticed" or self._is_sound(by):
                return answer
            known.remove(by)

    def _is_sound(self, name: str) -> bool:
        """Whether a test passes without the fault, here and now."""
        if name not in self._items:  # a program that did not even start the tests
            return True
        if name not in self._passes:
            self._passes[name] = self._forked([name], 300.0, lambda: None)["verdict"] == "unnoticed"
        return self._passes[name]

    def _forked(self, names: list[str], seconds: float, prepare: Callable[[], None]) -> dict[str, Any]:
        reads, writes = os.pipe()
        child = os.fork()
        if child == 0:
            _run_tests([self._items[name] for name in names], prepare, writes)
        os.close(writes)
        with contextlib.closing(_Lines(reads)) as lines:
            answer = self._follow(names, lines, time.monotonic() + seconds)
        _kill_children()
        return answer

    def _follow(self, names: list[str], lines: _Lines, end: float) -> dict[str, Any]:
        for count, name in enumerate(names):
            began = time.monotonic()
            if began > end:
                return {"verdict": "unfinished", "by": None, "run": count}
            match lines.next(HANGS[0] + HANGS[1] * self._took.get(name, 0.5)):
                case "pass":
                    self._took[name] = time.monotonic() - began
                case "cold":
                    return {"verdict": "cold", "by": None, "run": count}
                case _:  # it failed, hangs, or took the process with it
                    return {"verdict": "noticed", "by": name, "run": count + 1}
        return {"verdict": "unnoticed", "by": None, "run": len(names)}

    def _cold(self, known: list[str]) -> dict[str, Any]:
        names = known[:COLD_TESTS]
        if not names:
            return {"verdict": "unnoticed", "by": None, "run": 0}
        log = Path(os.environ["KESSEL_JUDGE_LOG"])
        environment = {key: value for key, value in os.environ.items() if key != "KESSEL_JUDGE_FD"}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:randomly",
                 "-p", "no:cacheprovider", "-n0", *names],
                env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
            try:
                code = process.wait(COLD_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = None
        _kill_children()
        if code == 0:
            verdict = "unnoticed" if len(names) == len(known) else "unfinished"
            return {"verdict": verdict, "by": None, "run": len(names)}
        marks = ("FAILED ", "ERROR ")
        failed = [
            text.removeprefix(mark).partition(" - ")[0].strip()
            for text in log.read_text(errors="replace").splitlines()
            for mark in marks
            if text.startswith(mark)
        ]
        return {"verdict": "noticed", "by": failed[0] if failed else f"exit code {code}", "run": len(names)}


def _run_tests(items: list[pytest.Item], prepare: Callable[[], None], writes: int) -> None:
    """Run the tests in this copy of the process, tell how each ended, and end the process."""
    os.setsid()
    try:
        try:
            prepare()
        except ValueError:
            os.write(writes, b"cold\n")
            os._exit(0)
        failed: list[str] = []
        if items:
            items[0].config.pluginmanager.register(_Reports(failed))
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            os.write(writes, b"fail\n" if failed else b"pass\n")
            if failed:
                item.session._setupstate.teardown_exact(None)
                break
    finally:
        os._exit(0)


class _Reports:
    def __init__(self, failed: list[str]) -> None:
        self._failed = failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)


class _Lines:
    """Lines from a pipe, each waited for within its time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""

    def next(self, seconds: float) -> str | None:
        """Return the next line; None: there is none (any more)."""
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))
            if not ready or not (data := os.read(self._descriptor, 65536)):
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        os.close(self._descriptor)


# --- new code in place --------------------------------------------------------------------------------


def code_changes(before: bytes, after: bytes, name: str) -> list[tuple[CodeType, CodeType]] | None:
    """Return the code of each function that differs, old and new; None: something else differs, too."""
    old, new = (dict(_codes(compile(text, name, "exec", dont_inherit=True))) for text in (before, after))
    for key, code in old.items():
        if not code.co_flags & _IS_OPTIMIZED and (key not in new or _own(code) != _own(new[key])):
            return None
    return [
        (code, new[key])
        for key, code in old.items()
        if code.co_flags & _IS_OPTIMIZED and key in new and code != new[key]
    ]


def _codes(code: CodeType, seen: Counter[str] | None = None) -> Iterator[tuple[tuple[str, int], CodeType]]:
    seen = Counter() if seen is None else seen
    seen[code.co_qualname] += 1  # such as two lambdas
    yield (code.co_qualname, seen[code.co_qualname]), code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant, seen)


def _own(code: CodeType) -> tuple[Any, ...]:
    """Return what a module or class does itself, without the code of its functions."""
    constants = tuple(
        c.co_qualname if isinstance(c, CodeType) else (type(c), repr(c)) for c in code.co_consts
    )
    return code.co_code, code.co_names, code.co_varnames, constants


def _swap(changes: list[tuple[CodeType, CodeType]], functions: list[FunctionType]) -> None:
    """Give every function that has one of the old codes the new one.

    Raises:
        ValueError: There is no such function, or it is a closure that would have other variables.
    """
    by_place = {_place(old): new for old, new in changes}
    fitting = [function for function in functions if _place(function.__code__) in by_place]
    if not fitting:
        raise ValueError("nothing to change")
    for function in fitting:
        function.__code__ = by_place[_place(function.__code__)]


def _place(code: CodeType) -> tuple[object, ...]:
    # Not the code itself: that of a function that has been called differs by its caches.
    return code.co_qualname, code.co_firstlineno, code.co_names, code.co_varnames


# --- processes ----------------------------------------------------------------------------------------


def _adopt_orphans() -> None:
    """Become the parent of what tests leave running, so that it can be ended; Linux only."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _end(number: int, frame: object) -> None:
    _kill_children()
    os._exit(1)


def _kill_children() -> None:
    """End every process below this one."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if ended:
            continue
        with contextlib.suppress(OSError):
            for task in Path("/proc/self/task").iterdir():
                for child in (task / "children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)
        time.sleep(0.005)

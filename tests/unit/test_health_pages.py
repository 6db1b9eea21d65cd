"""`/livez`, `/readyz` and the pages of plugins: of one worker, and summed over several processes (S38)."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import pytest

import kessel_core.runtime.health_pages as health_pages
from kessel_core import Health, JobManager, build_plugins, hookimpl
from kessel_core.hooks import Page, PageContext
from kessel_core.plugins.pages import pages_of
from kessel_core.runtime.health_http import Answer, HealthServer, ask_all, listening
from kessel_core.runtime.health_pages import SummedPages, WorkerPages, not_begun
from tests.until import until

WELL = Health(
    ok=True, running=True, slots=1, busy=0, disconnected=0, dead=0, longest=0.0, reason="", counts={},
    live=True, ready=True, reasons=(), last_reserved=None, idle_since=None,
)  # fmt: skip


def numbers(running: Sequence[bytes], ended: Sequence[bytes]) -> bytes:
    return str(sum(map(int, [*running, *ended]))).encode()


def page(show: Callable[[], bytes]) -> Page:
    return Page(show=show, merge=numbers, content_type="text/x-number")


def told(answer: Answer) -> tuple[int, Any]:
    return answer.status, json.loads(answer.body)


# --- one worker ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("live", "ready", "statuses"),
    [
        (True, True, (200, 200)),
        (True, False, (200, 503)),
        (False, True, (503, 200)),
        (False, False, (503, 503)),
    ],
)
def test_s38_each_page_has_its_status_and_both_say_the_same(
    live: bool, ready: bool, statuses: tuple[int, int]
) -> None:
    health = attrs.evolve(WELL, live=live, ready=ready, reasons=("one", "two"))
    pages = WorkerPages(lambda: health, {})
    body = {"live": live, "ready": ready, "reasons": ["one", "two"]}
    answers = [pages.answer("/livez"), pages.answer("/readyz")]
    assert [told(answer) for answer in answers] == [(status, body) for status in statuses]
    assert {answer.content_type for answer in answers} == {"application/json"}


def test_s38_a_process_that_prepares_its_work_is_live_and_not_ready() -> None:
    body = {"live": True, "ready": False, "reasons": ["the worker has not begun"]}
    assert told(not_begun("/livez")) == (200, body)
    assert told(not_begun("/readyz")) == (503, body)
    assert not_begun("/metrics").status == 503


def test_s38_a_page_of_a_plugin_is_served_and_another_path_names_those_that_are_there() -> None:
    pages = WorkerPages(lambda: WELL, {"/seven": page(lambda: b"7")})
    assert pages.answer("/seven") == Answer(200, b"7", "text/x-number")
    assert pages.answer("/eight") == Answer(404, b"there are: /livez, /readyz, /seven\n")


def test_s38_a_page_that_hangs_holds_up_neither_others_nor_the_health(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health_pages, "_TURN", 0.01)
    inside, go_on = threading.Event(), threading.Event()

    def hang() -> bytes:
        inside.set()
        go_on.wait(20)
        return b"1"

    pages = WorkerPages(lambda: WELL, {"/slow": page(hang), "/seven": page(lambda: b"7")})
    thread = threading.Thread(target=pages.answer, args=("/slow",))
    thread.start()
    try:
        assert inside.wait(20)
        assert pages.answer("/slow").status == 503
        assert pages.answer("/seven").body == b"7"
        assert pages.answer("/livez").status == 200
    finally:
        go_on.set()
        thread.join()
    assert pages.answer("/slow").status == 200


@pytest.mark.parametrize("body", ["7", None, 7])
def test_s38_a_page_that_is_not_bytes_is_an_error_of_the_plugin(body: Any) -> None:
    pages = WorkerPages(lambda: WELL, {"/seven": page(lambda: body)})
    with pytest.raises(TypeError, match=f"a page must be bytes, got {type(body).__name__}"):
        pages.answer("/seven")


def test_s38_a_page_that_calls_for_an_exit_is_answered_as_one_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pages = WorkerPages(lambda: WELL, {"/exit": page(lambda: sys.exit(3))})
    listener = listening("127.0.0.1", 0)
    server = HealthServer(listener, pages.answer)
    server.start()
    try:
        (answer,) = ask_all({1: listener.getsockname()[1]}, "/exit", 20.0).values()
    finally:
        server.close()
    assert answer.status == 500
    assert "the page /exit called for an exit" in caplog.text


# --- several processes -------------------------------------------------------------------------------------


class Processes:
    """Stands in for a supervisor and its worker processes, each with a server of its own."""

    def __init__(self) -> None:
        self.running: Mapping[int, int] = {1: 101, 2: 102}
        self.is_stopping = False
        self.answers: dict[int, Callable[[str], Answer] | None] = {1: None, 2: None}
        self.listeners = {number: listening("127.0.0.1", 0) for number in self.answers}
        self.ports = {number: one.getsockname()[1] for number, one in self.listeners.items()}
        self.servers: list[HealthServer] = []

    def begin(self, number: int, health: Health = WELL, count: int = 0) -> None:
        """Let a process answer, or answer something else from now on."""
        answer = WorkerPages(lambda: health, {"/count": page(lambda: str(count).encode())}).answer
        if self.answers[number] is None:
            self.servers.append(HealthServer(self.listeners[number], lambda path: self.said(number, path)))
            self.servers[-1].start()
        self.answers[number] = answer

    def said(self, number: int, path: str) -> Answer:
        answer = self.answers[number]
        if answer is None:
            raise OSError("silent")
        return answer(path)

    def hush(self, number: int) -> None:
        def never(path: str) -> Answer:
            threading.Event().wait(1.0)
            return Answer(500, b"")

        self.answers[number] = never


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    monkeypatch.setattr(health_pages, "_HEALTH_PATIENCE", 0.5)
    monkeypatch.setattr(health_pages, "_PAGE_PATIENCE", 0.5)
    monkeypatch.setattr(health_pages, "_START_PATIENCE", 0.3)
    made = Processes()
    yield made
    for server in made.servers:
        server.close()
    for listener in made.listeners.values():
        listener.close()


@pytest.fixture
def summed(processes: Processes) -> SummedPages:
    return SummedPages(processes, processes.ports, {"/count": page(lambda: b"")})


def said_by(summed: SummedPages) -> tuple[bool, bool, list[str]]:
    live, ready = summed.answer("/livez"), summed.answer("/readyz")
    assert live.body == ready.body
    said = json.loads(live.body)
    assert (live.status == 200, ready.status == 200) == (said["live"], said["ready"])
    return said["live"], said["ready"], said["reasons"]


def test_s38_all_processes_together_are_well_if_each_is(summed: SummedPages, processes: Processes) -> None:
    processes.begin(1)
    processes.begin(2)
    assert said_by(summed) == (True, True, [])
    processes.begin(2, attrs.evolve(WELL, live=False, ready=False, reasons=("deaf", "away")))
    assert said_by(summed) == (False, False, ["process 2: deaf", "process 2: away"])


def test_s38_a_process_that_has_not_begun_or_is_replaced_is_not_ready(
    summed: SummedPages, processes: Processes
) -> None:
    processes.begin(1)
    assert said_by(summed) == (True, False, ["process 2: it has not begun"])
    processes.running = {2: 102}
    assert said_by(summed) == (True, False, ["process 1: it does not run", "process 2: it has not begun"])


def test_s38_a_process_that_falls_silent_is_not_live(summed: SummedPages, processes: Processes) -> None:
    processes.begin(1)
    processes.begin(2)
    assert said_by(summed)[0]
    processes.hush(2)
    assert said_by(summed) == (False, False, ["process 2: it does not answer"])
    processes.running = {1: 101, 2: 202}  # its replacement has not begun
    assert said_by(summed) == (True, False, ["process 2: it has not begun"])
    processes.running = {1: 101, 2: 102}  # nor has one that got the number of the first
    assert said_by(summed) == (True, False, ["process 2: it has not begun"])


def test_s38_a_stop_is_told_at_once_and_silence_then_is_no_fault(
    summed: SummedPages, processes: Processes
) -> None:
    processes.begin(1)
    processes.begin(2)
    assert said_by(summed)[1]
    processes.is_stopping = True
    assert said_by(summed) == (True, False, ["the workers stop"])
    processes.hush(2)
    assert said_by(summed) == (True, False, ["the workers stop", "process 2: it does not answer"])


def test_s38_one_that_ends_while_it_is_asked_is_not_silent(
    summed: SummedPages, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.begin(1)
    processes.begin(2)
    assert said_by(summed)[0]
    real = health_pages.ask_all

    def ends(ports: Mapping[int, int], path: str, patience: float) -> dict[int, Answer]:
        processes.running = {1: 101}
        return {number: answer for number, answer in real(ports, path, patience).items() if number == 1}

    monkeypatch.setattr(health_pages, "ask_all", ends)
    assert json.loads(summed.answer("/livez").body)["reasons"] == ["process 2: it does not run"]


def test_s38_what_processes_count_is_added_up_and_does_not_fall_when_one_is_replaced(
    summed: SummedPages, processes: Processes
) -> None:
    processes.begin(1, count=5)
    processes.begin(2, count=7)
    assert summed.answer("/count") == Answer(200, b"12", "text/x-number")
    processes.begin(1, count=6)
    processes.running = {1: 101}  # the other one has died
    assert summed.answer("/count").body == b"13"
    processes.running = {1: 101, 2: 202}
    processes.begin(2, count=1)
    assert summed.answer("/count").body == b"14"
    processes.running = {1: 101, 2: 302}
    processes.begin(2, count=2)
    assert summed.answer("/count").body == b"16"


def test_s38_a_process_that_does_not_answer_in_time_counts_with_what_it_said_last(
    summed: SummedPages, processes: Processes
) -> None:
    processes.begin(1, count=5)
    processes.begin(2, count=7)
    assert summed.answer("/count").body == b"12"
    processes.hush(2)
    assert summed.answer("/count").body == b"12"
    processes.answers[2] = lambda path: Answer(500, b"9")
    assert summed.answer("/count").body == b"12"


def test_s38_a_page_that_fails_in_every_process_is_no_empty_page(
    summed: SummedPages, processes: Processes
) -> None:
    assert summed.answer("/count").status == 503, "none has begun"
    processes.begin(1)
    processes.begin(2)
    processes.answers[1] = processes.answers[2] = lambda path: Answer(500, b"broken")
    assert summed.answer("/count").status == 500
    processes.begin(1, count=5)
    assert summed.answer("/count") == Answer(200, b"5", "text/x-number")


def test_s38_a_sum_of_pages_that_is_not_bytes_is_an_error_of_the_plugin(processes: Processes) -> None:
    wrong: Any = Page(show=lambda: b"", merge=lambda running, ended: "7")  # type: ignore[arg-type,return-value]
    processes.begin(1, count=5)
    with pytest.raises(TypeError, match="a page must be bytes, got str"):
        SummedPages(processes, processes.ports, {"/count": wrong}).answer("/count")


def test_s38_all_processes_have_no_other_pages_than_each(summed: SummedPages) -> None:
    assert summed.answer("/eight") == Answer(404, b"there are: /livez, /readyz, /count\n")


# --- what plugins offer ------------------------------------------------------------------------------------


def context(manager: JobManager) -> PageContext:
    worker = manager.worker()
    return PageContext(
        adapter="memory", queues=("default",), types=frozenset(), health=worker.health,
        running=lambda: worker.running, stats=manager.adapter.stats,
    )  # fmt: skip


class Offers:
    def __init__(self, pages: Any) -> None:
        self.pages = pages

    @hookimpl
    def kessel_pages(self, context: PageContext) -> Any:
        if isinstance(self.pages, Exception):
            raise self.pages
        return self.pages


def test_s38_pages_that_cannot_be_served_are_left_out_with_a_warning(
    opened: Callable[..., JobManager], caplog: pytest.LogCaptureFixture
) -> None:
    good = page(lambda: b"1")
    kinds: list[Any] = ["text/\u20ac", "text/plain\r\nX: y", "", None]
    plugins = build_plugins(
        extra={
            "a": Offers({"/good": good, "/livez": good, "bad": good, "/b ad": good, "/none": None, 7: good}),
            "b": Offers({"/good": page(lambda: b"2"), "/more": good}),
            "c": Offers(ValueError("broken")),
            "d": Offers(["/list"]),
            "e": Offers({f"/{n}": attrs.evolve(good, content_type=kind) for n, kind in enumerate(kinds)}),
        },
        distributions=[],
    )
    found = pages_of(plugins, context(opened()))
    assert dict(found) == {"/good": good, "/more": good}
    text = caplog.text
    for part in (
        "'/livez' left out: this one is kessel's own",
        "'bad' left out: a path begins with /",
        "'/b ad' left out: a path begins with /",
        "7 left out: a path begins with /",
        "'/none' left out: expected a Page, got NoneType",
        "'/good' left out: another plugin has it",
        "'/0' left out: its content type 'text/\u20ac' cannot be sent",
        "'/1' left out: its content type",
        "'/2' left out: its content type",
        "'/3' left out: its content type None",
        "kessel_pages failed: ValueError: broken",
        "expected a mapping of paths to pages, got list",
    ):
        assert part in text


def test_s38_a_worker_tells_pages_of_the_jobs_that_it_runs(opened: Callable[..., JobManager]) -> None:
    running, go_on = threading.Event(), threading.Event()

    def long(payload: object) -> None:
        running.set()
        go_on.wait(20)

    manager = opened(handlers={"long": long})
    worker = manager.start(slots=2)
    try:
        manager.request("long")
        assert running.wait(20)
        assert [(job.type, job.queue) for job in worker.running] == [("long", "default")]
    finally:
        go_on.set()
    until(lambda: worker.running == ())

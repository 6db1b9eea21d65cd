"""Servers of their own: for cases that would disturb others, and for cases that a server disturbs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from kessel_conformance import Harness, ServerHarness, ServerMissing, beside, harness_base, runner, server
from kessel_conformance import report as reporting
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import ADAPTERS, Case, Level
from kessel_conformance.inprocess import NoQueue
from kessel_conformance.outcome import Outcome, Verdict
from kessel_conformance.processor import Pulse
from kessel_conformance.runner import Run, run_case, run_suite
from kessel_conformance.settings import Settings

from kessel_core.contract import AdapterSpec, AdapterUnavailable

ECHO = """
import socket
server = socket.create_server(("127.0.0.1", {port}))
while True:
    peer = server.accept()[0]
    while data := peer.recv(100):
        peer.sendall(data)
"""
SPEC = AdapterSpec(name="echo", schemes=("echo",), options=object, open=lambda options, context: NoQueue())
RESTARTS = "durable.server_restart"


class OnServer(Harness):
    """Counts the servers that it would bring up."""

    def __init__(self, *, one: bool = False, broken: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.one = one
        #: The number of the server that does not start.
        self.broken = broken
        self.twins: list[OnServer] = []
        self.is_up = False
        self.stands_still = False

    def start(self) -> None:
        self.is_up = True
        if self.broken == 0:
            raise ServerMissing("it does not start")

    def stop(self) -> None:
        self.is_up = False

    def restart(self) -> None:
        pass

    def open(self, clock, namespace):
        assert self.is_up
        return NoQueue()

    def another(self, *, still: bool = False) -> OnServer | None:
        if self.one:
            return None
        twin = OnServer(still=self.still, broken=self.broken)
        twin.stands_still = still
        self.twins.append(twin)
        twin.broken = None if self.broken is None else self.broken - len(self.twins)
        return twin


def ran(harness: Harness, *wanted: str) -> Run:
    run = Run(harness, Settings(), wanted)
    run.up()
    try:
        for case_id in wanted:
            run.outcome(case_id)
    finally:
        run.down()
    return run


def test_case_that_restarts_the_server_has_its_own_beside_the_others() -> None:
    harness = OnServer()
    run = ran(harness, "settle.commit_removes", RESTARTS)
    assert [twin.stands_still for twin in harness.twins] == [False]
    assert not any(one.is_up for one in (harness, *harness.twins))
    assert run.outcomes[RESTARTS].verdict is Verdict.SKIP  # durability is not declared; it was asked there


def shared_out(monkeypatch: pytest.MonkeyPatch, harness: OnServer, wanted: Sequence[str]) -> list[int]:
    """Run cases; return how many each server had, the first one first."""
    used: Counter[int] = Counter()

    def ran_case(harness: Harness, case: Case, settings: Settings, pulse: Pulse) -> Outcome:
        assert isinstance(harness, OnServer) and harness.is_up
        used[id(harness)] += 1
        return Outcome(case=case, verdict=Verdict.PASS)

    monkeypatch.setattr(runner, "run_case", ran_case)
    monkeypatch.setattr(runner, "_APART", 0.0)  # hundreds begin
    ran(harness, *wanted)
    assert not any(one.is_up for one in (harness, *harness.twins))
    return [used[id(one)] for one in (harness, *harness.twins)]


def test_cases_are_shared_out_among_as_many_servers_as_the_harness_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = [case.id for case in ADAPTERS.cases().values() if not case.alone]
    aside = [case.id for case in ADAPTERS.cases().values() if case.real_time and not case.alone]
    assert len(aside) > 6
    for some in (wanted, aside):
        counts = shared_out(monkeypatch, OnServer(servers=3), some)
        assert len(counts) == 3 and sum(counts) == len(some) and max(counts) - min(counts) <= 1
    assert shared_out(monkeypatch, OnServer(servers=3, one=True), wanted) == [len(wanted)]
    assert shared_out(monkeypatch, OnServer(), wanted) == [len(wanted)]


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_no_server_is_left_running_when_one_of_several_does_not_start(broken: int) -> None:
    harness = OnServer(servers=3, broken=broken)
    with pytest.raises(ServerMissing, match="it does not start"):
        Run(harness, Settings(), ["settle.commit_removes"]).up()
    assert len(harness.twins) == broken
    assert not any(one.is_up for one in (harness, *harness.twins))


def test_a_harness_without_any_server_is_refused() -> None:
    with pytest.raises(ValueError, match="needs one server or more, not 0"):
        OnServer(servers=0)


HERE = [case.id for case in ADAPTERS.cases().values() if not (case.real_time or case.waits or case.alone)][:5]
ASIDE = [case.id for case in ADAPTERS.cases().values() if case.real_time and not case.alone][:4]


def order_of(monkeypatch: pytest.MonkeyPatch, harness: OnServer, *wanted: str) -> list[str]:
    """Ask for cases, of which the first aside ends when all of `HERE` have run; return their order."""
    others_ran = threading.Event()
    order: list[str] = []

    def ran_case(harness: Harness, case: Case, settings: Settings, pulse: Pulse) -> Outcome:
        if case.id == ASIDE[0]:
            assert others_ran.wait(20), "nobody has run the others meanwhile"
        order.append(case.id)
        if set(HERE) <= set(order):
            others_ran.set()
        return Outcome(case=case, verdict=Verdict.PASS)

    monkeypatch.setattr(runner, "run_case", ran_case)
    run = ran(harness, *wanted)
    assert sorted(order) == sorted(run.outcomes) == sorted(wanted)
    return order


def test_who_asks_for_a_case_that_runs_aside_runs_others_meanwhile_each_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that a run takes no longer in a random order."""
    order = order_of(monkeypatch, OnServer(), HERE[0], ASIDE[0], *HERE[1:])
    assert order[-1] == ASIDE[0]


def test_who_asks_for_a_case_that_comes_when_all_others_are_done_runs_others_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = order_of(monkeypatch, OnServer(one=True), RESTARTS, ASIDE[0], *HERE)
    assert order[5:] == [ASIDE[0], RESTARTS]


def test_of_those_that_run_aside_the_ones_with_a_server_of_their_own_begin_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They wait longest, for the ends of leases; one that began last made a whole run seconds longer."""
    begun: list[str] = []
    submit = ThreadPoolExecutor.submit

    def submitted(pool: ThreadPoolExecutor, *arguments: Any) -> Future[Any]:
        begun.append(arguments[-1].id)
        return submit(pool, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submitted)
    monkeypatch.setattr(
        runner, "run_case", lambda harness, case, *_: Outcome(case=case, verdict=Verdict.PASS)
    )
    ran(OnServer(still={ASIDE[2]: "its clock is wrong"}), *ASIDE, RESTARTS)
    assert set(begun[:2]) == {ASIDE[2], RESTARTS}
    assert begun[2:] == [ASIDE[0], ASIDE[1], ASIDE[3]]


def test_case_that_restarts_the_only_server_runs_on_it_when_the_others_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    others = [case.id for case in ADAPTERS.cases().values() if case.waits and not case.alone][:3]
    begun = threading.Barrier(len(others) + 1)

    def ran_case(harness: Harness, case: Case, settings: Settings, pulse: Pulse) -> Outcome:
        if case.id != RESTARTS:
            begun.wait(20)
            threading.Event().wait(0.2)  # a restart that does not wait for it would come first
        order.append(case.id)
        return Outcome(case=case, verdict=Verdict.PASS)

    monkeypatch.setattr(runner, "run_case", ran_case)
    run = Run(OnServer(one=True), Settings(), [RESTARTS, *others])
    run.up()
    try:
        begun.wait(20)
        run.outcome(RESTARTS)
        assert sorted(order[:-1]) == sorted(others)
        assert order[-1] == RESTARTS
    finally:
        run.down()


def test_cases_in_turn_those_that_run_aside_after_the_others_and_those_alone_last() -> None:
    def case(name: str, **features: bool) -> Case:
        return Case(
            id=name, clauses=("S7",), level=Level.CORE, why="a test", run=lambda bench: None, **features
        )

    cases = [
        case("a.quiet", quiet=True, real_time=True),
        case("a.alone", alone=True),
        case("a.aside", real_time=True),
        case("a.waits", waits=True),
        case("a.own"),
        case("b.still"),
        case("b.own"),
    ]
    harness = Harness(url="memory://", real_clock=True, still={"b.still": "its clock is wrong"})
    in_turn = ["a.own", "b.own", "a.waits", "a.aside", "a.alone", "b.still", "a.quiet"]
    assert [one.id for one in beside.in_turn(harness, cases)] == in_turn


def test_a_case_that_measures_milliseconds_runs_when_all_others_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quiet = "reserve.does_not_poll"
    order: list[str] = []

    def ran_case(harness: Harness, case: Case, settings: Settings, pulse: Pulse) -> Outcome:
        if case.id != quiet:
            threading.Event().wait(0.2)  # one that ran aside would have ended before
        order.append(case.id)
        return Outcome(case=case, verdict=Verdict.PASS)

    monkeypatch.setattr(runner, "run_case", ran_case)
    ran(OnServer(), quiet, ASIDE[0], HERE[0])
    assert sorted(order) == sorted([quiet, ASIDE[0], HERE[0]])
    assert order[-1] == quiet


def test_nobody_waits_for_a_case_that_runs_aside_while_others_are_to_be_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others_ran = threading.Event()
    last = [case.id for case in ADAPTERS.cases().values() if not (case.real_time or case.alone)][-1]

    def ran_case(harness: Harness, case: Case, settings: Settings, pulse: Pulse) -> Outcome:
        if case.id == last:
            others_ran.set()
        elif case.real_time and not others_ran.wait(20):
            return Outcome(case=case, verdict=Verdict.FAIL, reason="the others were not run meanwhile")
        return Outcome(case=case, verdict=Verdict.PASS)

    monkeypatch.setattr(runner, "run_case", ran_case)
    run = run_suite(Harness(url="memory://"))
    assert {outcome.reason for outcome in run.outcomes.values()} == {""}


def test_cases_that_run_aside_have_files_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that nobody waits for what another case writes."""
    folders: dict[str, str] = {}

    def ran_case(harness: Harness, case: Case, settings: Settings, pulse: Pulse) -> Outcome:
        folders[case.id] = harness.folder
        assert Path(harness.folder).is_dir()
        return Outcome(case=case, verdict=Verdict.PASS)

    monkeypatch.setattr(runner, "run_case", ran_case)
    harness = Harness(url="sqlite:///{tmp}/jobs.db")
    run = run_suite(harness)
    aside = [case for case in run.wanted if case.real_time]
    assert {outcome.reason for outcome in run.outcomes.values()} == {""}
    assert len({folders[case.id] for case in aside}) == len(aside) > 20
    assert len({folders[case.id] for case in run.wanted if case not in aside}) == 1
    assert not any(Path(folder).exists() for folder in folders.values())


@pytest.mark.parametrize(
    ("free", "wanted", "is_there"),
    [
        (2_000_000_000, "", True),
        (500_000_000, "", False),
        (2_000_000_000, "elsewhere", False),
        (None, "", False),
    ],
)
def test_files_of_a_run_are_in_memory_where_there_is_room_and_nobody_says_where(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int | None, wanted: str, is_there: bool
) -> None:
    memory, elsewhere = tmp_path / "memory", tmp_path / "elsewhere"
    memory.mkdir()
    elsewhere.mkdir()

    def usage(path: str) -> shutil._ntuple_diskusage:
        if free is None:
            raise FileNotFoundError(path)  # not on this system
        return shutil._ntuple_diskusage(4_000_000_000, 4_000_000_000 - free, free)

    monkeypatch.setattr(harness_base, "_MEMORY", str(memory))
    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    monkeypatch.setenv("TMPDIR", str(tmp_path / wanted) if wanted else "")
    harness = Harness(url="sqlite:///{tmp}/jobs.db")
    place = Path(harness.folder)
    assert place.parent == (memory if is_there else elsewhere)
    harness.down()
    assert not place.exists()


def test_still_case_has_a_server_that_stands_still_and_the_report_says_why() -> None:
    harness = OnServer(still={"manager.callback_once": "its clock is wrong"})
    run = ran(harness, "manager.callback_once")
    assert [twin.stands_still for twin in harness.twins] == [True]
    assert run.outcomes["manager.callback_once"].verdict is Verdict.FAIL  # there is no queue to run it on

    def passes(bench: Bench) -> None:
        return None

    case = Case(id="x.y", clauses=("S7",), level=Level.CORE, why="a test", run=passes)
    started = OnServer(still={"x.y": "its clock is wrong"})
    started.up()
    outcome = run_case(started, case, Settings())
    assert outcome.verdict is Verdict.PASS
    assert outcome.reason == "on a server that stands still between calls: its clock is wrong"


@pytest.fixture
def echo() -> ServerHarness:
    return ServerHarness(SPEC, "echo://127.0.0.1:{port}", [sys.executable, "-c", ECHO], patience=20.0)


@attrs.frozen
class Address:
    host: str = ""
    port: int = 0


class Loading(NoQueue):
    """An adapter whose server reads its data before it answers calls."""

    def __init__(self, answers: list[Exception | None]) -> None:
        self.answers = answers

    def queues(self) -> list[str]:
        if (error := self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]) is not None:
            raise error
        return []


@pytest.mark.parametrize("last", [None, RuntimeError("a fault of the adapter, for the cases to find")])
def test_server_that_takes_connections_is_waited_for_until_it_answers(last: Exception | None) -> None:
    answers = [AdapterUnavailable("loading"), AdapterUnavailable("loading"), last]
    loading = attrs.evolve(SPEC, options=Address, open=lambda options, context: Loading(answers))
    harness = ServerHarness(loading, "echo://127.0.0.1:{port}", [sys.executable, "-c", ECHO], patience=20.0)
    harness.up()
    harness.down()
    assert answers == [last]


def test_server_that_never_answers_is_one_clear_error() -> None:
    answers: list[Exception | None] = [AdapterUnavailable("loading")]
    never = attrs.evolve(SPEC, options=Address, open=lambda options, context: Loading(answers))
    harness = ServerHarness(never, "echo://127.0.0.1:{port}", [sys.executable, "-c", ECHO], patience=1.0)
    with pytest.raises(ServerMissing, match="takes connections, and answers no call: loading"):
        harness.up()
    assert harness._process is None


def test_call_that_never_ends_is_left_to_the_cases() -> None:
    """They are watched; a harness that hangs would hang the run without a word."""
    ends, ended = threading.Event(), list[bool]()

    class Hanging(NoQueue):
        def queues(self) -> list[str]:
            ended.append(ends.wait(60))
            return []

    hanging = attrs.evolve(SPEC, options=Address, open=lambda options, context: Hanging())
    harness = ServerHarness(hanging, "echo://127.0.0.1:{port}", [sys.executable, "-c", ECHO], patience=1.0)
    harness.up()
    waited = list(ended)
    ends.set()
    harness.down()
    assert waited == []


def answer(peer: socket.socket, timeout: float) -> bytes:
    peer.settimeout(timeout)
    return peer.recv(100)


def test_server_of_a_still_case_does_nothing_while_time_passes(echo: ServerHarness) -> None:
    own = echo.another(still=True)
    own.start()
    try:
        assert "port" not in echo.values, "the other harness was changed"
        # An earlier connection was the one by which the harness saw that the server answers.
        with socket.create_connection(("127.0.0.1", int(own.values["port"])), timeout=20) as peer:
            peer.sendall(b"1")
            assert answer(peer, 20) == b"1"
            passing = threading.Thread(target=own.sleep, args=(2.0,))
            passing.start()
            time.sleep(0.2)  # until the signal is there
            peer.sendall(b"2")
            with pytest.raises(TimeoutError):
                answer(peer, 0.2)
            passing.join(20)
            assert answer(peer, 20) == b"2"
    finally:
        own.stop()


def test_harness_that_does_not_come_up_leaves_no_server_and_no_folder_behind() -> None:
    """What was started before is stopped, and the error is that of what failed."""

    class OpensNothing(OnServer):
        def open(self, clock, namespace):
            assert Path(self.folder).is_dir()
            raise AdapterUnavailable("nobody answers")

    harness = OpensNothing()
    with pytest.raises(AdapterUnavailable, match="nobody answers"):
        harness.up()
    assert not harness.is_up
    assert harness._tmp is None


def test_server_that_finds_its_port_taken_gets_another(
    echo: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between choosing a free port and the server's taking it, somebody else may."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        busy = taken.getsockname()[1]
        choose, ports = server.free_port, iter([busy])
        monkeypatch.setattr(server, "free_port", lambda: next(ports, None) or choose())
        echo.start()
        try:
            assert int(echo.values["port"]) != busy
        finally:
            echo.stop()


def test_server_that_ends_at_once_is_missing() -> None:
    harness = ServerHarness(SPEC, "echo://127.0.0.1:{port}", [sys.executable, "-c", "pass"])
    with pytest.raises(ServerMissing, match="ended at once"):
        harness.start()


class Dying(Harness):
    """Its server ends when a case has begun, or refuses to be brought up again."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.gone = how, False

    def start(self) -> None:
        self.gone = False

    def open(self, clock: Any, namespace: str) -> NoQueue:
        return NoQueue()

    def restart(self) -> None:
        raise ServerMissing("it does not come back")

    def ended(self) -> str | None:
        return "the server has ended, with status -9" if self.gone else None

    def case(self, bench: Bench) -> None:
        if self.how == "restart":
            self.restart()
        self.gone = True
        if self.how == "raises":
            bench.broken("nothing answers")


@pytest.mark.parametrize("how", ["passes", "raises", "restart"])
def test_case_whose_server_failed_is_an_error_of_the_run_and_no_fault_of_the_adapter(how: str) -> None:
    """Passed or failed, it has shown nothing; not even a failure that is expected."""
    harness = Dying(how)
    harness.up()
    case = Case(id="x.y", clauses=("S9",), level=Level.CORE, why="a test", run=harness.case)
    for expected in ({}, {"x.y": "known"}):
        harness.expected_failures, harness.gone = expected, False
        outcome = run_case(harness, case, Settings())
        assert outcome.verdict is Verdict.ERROR
        assert not outcome.ok
        assert ("does not come back" if how == "restart" else "has ended, with status -9") in outcome.reason


def test_run_whose_server_failed_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Dying("passes")
    dying = Case(id="x.y", clauses=("S9",), level=Level.CORE, why="a test", run=harness.case)
    monkeypatch.setattr(ADAPTERS, "cases", lambda: MappingProxyType({"x.y": dying}))
    run = run_suite(harness)
    assert [outcome.verdict for outcome in run.outcomes.values()] == [Verdict.ERROR]
    found = reporting.report(run)
    assert (found["passed"], found["totals"]["error"]) == (False, 1)


def test_server_that_was_killed_is_seen(echo: ServerHarness) -> None:
    assert echo.ended() is None  # not started yet
    echo.start()
    try:
        assert echo.ended() is None
        assert echo._process is not None
        echo._process.kill()
        echo._process.wait(20)
        assert str(echo.ended()).endswith("has ended, with status -9")
        echo.restart()
        assert echo.ended() is None
    finally:
        echo.stop()
    assert echo.ended() is None  # stopped, by the harness


WIRING = """
from kessel_conformance import AdapterConformance, Harness
from kessel_conformance.inprocess import NoQueue


class Dying(Harness):
    def open(self, clock, namespace):
        return NoQueue()

    def ended(self):
        return "the server has ended"


class TestDying(AdapterConformance):
    harness = Dying()
"""


def test_run_whose_server_failed_does_not_pass_under_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(WIRING, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "pause and refused"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    assert "the server has ended" in done.stdout


WRITES_AT_ITS_END = """
import os, pathlib, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({tmp!r}, "end").touch(), os._exit(0)))
server = socket.create_server(("127.0.0.1", {port}))
while True:
    server.accept()
""".replace("{tmp!r}", "'{tmp}'")


def test_server_that_is_restarted_writes_nothing_more() -> None:
    """Else whoever writes at the end only would look as if it survived a crash (S9)."""
    command = [sys.executable, "-c", WRITES_AT_ITS_END]
    harness = ServerHarness(SPEC, "echo://127.0.0.1:{port}", command, patience=20.0)
    harness.start()
    try:
        port, end = harness.values["port"], Path(harness.folder, "end")
        harness.restart()
        assert (harness.values["port"], harness.ended(), end.exists()) == (port, None, False)
        harness.stop()
        assert end.exists(), "an orderly stop lets it write"
    finally:
        harness.down()

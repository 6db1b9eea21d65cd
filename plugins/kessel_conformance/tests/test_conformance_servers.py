"""Servers of their own: for cases that would disturb others, and for cases that a server disturbs."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import Any

import pytest
from kessel_conformance import Harness, ServerHarness, ServerMissing, server
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import Case, Level
from kessel_conformance.inprocess import NoQueue
from kessel_conformance.runner import Run, Verdict, run_case
from kessel_conformance.settings import Settings

from kessel_core.contract import AdapterSpec

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

    def __init__(self, *, one: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.one = one
        self.twins: list[OnServer] = []
        self.is_up = False
        self.stands_still = False

    def start(self) -> None:
        self.is_up = True

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
        twin = OnServer(still=self.still)
        twin.stands_still = still
        self.twins.append(twin)
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


def test_case_that_restarts_the_only_server_runs_on_it_when_the_others_are_done() -> None:
    harness = OnServer(one=True)
    assert set(ran(harness, RESTARTS, "manager.callback_once").outcomes) == {
        RESTARTS,
        "manager.callback_once",
    }


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


def test_server_that_finds_its_port_taken_gets_another(
    echo: ServerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between choosing a free port and the server's taking it, somebody else may."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        busy = taken.getsockname()[1]
        choose, ports = server._free_port, iter([busy])
        monkeypatch.setattr(server, "_free_port", lambda: next(ports, None) or choose())
        echo.start()
        try:
            assert int(echo.values["port"]) != busy
        finally:
            echo.stop()


def test_server_that_ends_at_once_is_missing() -> None:
    harness = ServerHarness(SPEC, "echo://127.0.0.1:{port}", [sys.executable, "-c", "pass"])
    with pytest.raises(ServerMissing, match="ended at once"):
        harness.start()

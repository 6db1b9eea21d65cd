"""Tests that fail, each in its own way, while a worker inside of them runs a job; see test_parents.

Copied as a test module, and run by a pytest of its own.
"""

from __future__ import annotations

import _thread
import faulthandler
import os
import signal
import sys
import threading
import time
from datetime import timedelta

import pytest

from kessel_core import Config, JobManager, WorkerConfig

started = threading.Event()


def hold(payload):
    started.set()
    print("captured")
    time.sleep(20)


def say(payload):
    print("out")
    print("err", file=sys.stderr)
    os.write(1, b"low\n")


def fail(payload):
    pytest.fail("a handler that is a test")


def leave(payload):
    pytest.exit("a handler that ends the tests")


async def skip(payload):
    pytest.skip("an async one")


HANDLERS = {"hold": hold, "say": say, "fail": fail, "leave": leave, "skip": skip}
NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def manager(queue="default"):
    """Make one on a queue of its own; what a failed test gives back waits in `held`."""
    config = Config(worker=WorkerConfig(grace=timedelta(seconds=0.2)), queues=(queue,))
    return JobManager(os.environ["INNER_URL"], handlers=HANDLERS, config=config)


def state():
    """Return what a test must find as it left it."""
    hooks = [sys.excepthook, threading.excepthook, sys.unraisablehook]
    return (
        hooks,
        [signal.getsignal(number) for number in NUMBERS],
        signal.pthread_sigmask(signal.SIG_BLOCK, []),
    )


def heartbeats():
    return [thread for thread in threading.enumerate() if thread.name == "kessel-heartbeat"]


@pytest.fixture(autouse=True)
def _nothing_is_left():
    started.clear()
    before = state()
    yield
    assert state() == before
    end = time.monotonic() + 20
    while heartbeats():
        assert time.monotonic() < end, "a worker goes on"
        time.sleep(0.01)


def test_captures(capfd):
    with manager() as opened:
        opened.request("say", queue="default")
        assert opened.worker().drain() == {"success": 1}
    out, err = capfd.readouterr()
    assert out.count("out") == 1
    assert "low" in out
    assert "err" in err


@pytest.mark.parametrize("kind", ["fail", "leave", "skip"])
def test_outcomes_of_tests_end_only_their_job(kind):
    with manager() as opened:
        opened.request(kind)
        assert opened.worker().drain() == {"failed": 1}
        opened.request("say")
        assert opened.worker().drain() == {"success": 1}


@pytest.mark.parametrize("how", ["assert", "fail", "exit", "interrupt"])
def test_fails_beside_a_running_job(how):
    with manager("held") as opened:
        opened.start()
        opened.request("hold", queue="held")
        assert started.wait(20)
        if how == "fail":
            pytest.fail("on purpose")
        if how == "exit":
            sys.exit(3)
        if how == "interrupt":
            _thread.interrupt_main()
            time.sleep(20)
        assert how == "on purpose"


@pytest.mark.timeout(3, method="signal")
def test_runs_too_long():
    with manager("held") as opened:
        opened.request("hold", queue="held")
        opened.worker().run()


def test_fails_in_a_thread():
    def body():
        with manager("held") as opened:
            worker = opened.worker(slots=1)
            threading.Thread(target=lambda: started.wait(20) and worker.stop()).start()
            opened.request("hold", queue="held")
            worker.run()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert thread.name == "on purpose"


def test_without_streams(monkeypatch):
    with manager() as opened, monkeypatch.context() as patch:
        for name in ("stdin", "stdout", "stderr"):
            patch.setattr(sys, name, None)
        opened.request("leave")
        opened.request("fail")
        assert opened.worker().drain() == {"failed": 2}


def test_that_faulthandler_is_still_on():
    assert faulthandler.is_enabled()

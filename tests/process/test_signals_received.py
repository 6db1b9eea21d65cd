"""Signals that stop a process, received in this very process: findings A1, A9, A12."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial

import pytest

from kessel_core.runtime.signals import (
    STOP_SIGNALS,
    TOGETHER,
    ReceivedSignals,
    Requests,
    StopSignals,
    on_signals,
)
from tests.until import until

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


eventually = partial(until, seconds=30, pause=0.005)

#: So far apart, in seconds, signals are requests of their own.
APART = TOGETHER * 1.2


def test_finding_a1_signals_that_a_busy_machine_shows_late_are_one_request() -> None:
    """Sent within 0.05 ms, they were seen 45 ms apart: what ran was given back at once, and ran twice."""
    requests = Requests()
    assert [requests.is_news(at) for at in (0.0, 0.045)] == [True, False]


def test_finding_a1_a_key_that_is_held_down_gets_through() -> None:
    """Each of its signals comes soon after the one before; it is the first that counts."""
    requests = Requests()
    seen = [requests.is_news(number * 0.03) for number in range(11)]
    assert seen == [True] + [False] * 6 + [True] + [False] * 3


def test_finding_a1_a_signal_to_a_forked_child_concerns_the_child() -> None:
    counts: list[int] = []
    with on_signals(counts.append):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(1)
        time.sleep(0.05)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert counts == []
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: counts == [1])


def test_finding_a1_a_signal_reaches_a_child_that_has_only_just_been_forked() -> None:
    """Python forgets what comes before a child runs; a pool that is terminated at once would never end."""
    counts: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with on_signals(counts.append):
        for _ in range(10):
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(1)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        child = os.fork()
        if child == 0:
            os._exit(signal.pthread_sigmask(signal.SIG_BLOCK, []) != mask)
        assert os.waitpid(child, 0)[1] == 0
    assert counts == []


def test_finding_a1_signals_that_came_together_are_one_request_however_late_they_are_looked_at() -> None:
    """Beside a handler that keeps the processor, a stop takes longer than they were apart."""
    counts: list[int] = []

    def slow(count: int) -> None:
        counts.append(count)
        time.sleep(0.1)

    with on_signals(slow):
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        eventually(lambda: counts == [1])
        time.sleep(APART)
        assert counts == [1]
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: counts == [1, 2])


def test_finding_a1_signals_that_come_together_are_one_request_and_later_ones_are_not() -> None:
    counts: list[int] = []
    with on_signals(counts.append):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
        eventually(lambda: counts == [1])
        time.sleep(APART)
        signal.raise_signal(signal.SIGTERM)
        eventually(lambda: counts == [1, 2])


def test_finding_a1_to_a_supervised_worker_only_a_later_sigint_is_the_second() -> None:
    counts: list[int] = []
    with on_signals(counts.append, supervised=True):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            time.sleep(APART)
            signal.raise_signal(number)
        eventually(lambda: counts == [1, 1, 2])


def test_d9_a_handler_that_an_imported_module_sets_keeps_no_signal_from_the_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As of a library that is meant for programs of its own: nothing but SIGKILL ended the worker."""

    def theirs(number: int, frame: object) -> None:
        raise AssertionError

    counts: list[int] = []
    with StopSignals() as signals:
        signal.signal(signal.SIGTERM, theirs)
        with signals.handed_to(counts.append):
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: counts == [1])
    assert [record.getMessage().partition(" handled by ")[0] for record in caplog.records] == ["SIGTERM was"]


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_finding_a9_a_hangup_that_was_ignored_stays_ignored(before: signal.Handlers) -> None:
    old = signal.signal(signal.SIGHUP, before)
    try:
        with ReceivedSignals(STOP_SIGNALS):
            assert (signal.getsignal(signal.SIGHUP) is signal.SIG_IGN) == (before is signal.SIG_IGN)
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        signal.signal(signal.SIGHUP, old)


def test_finding_a12_tests_find_the_signals_of_a_terminal() -> None:
    assert signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_finding_a10_a_signal_before_the_work_interrupts_and_one_during_it_does_not() -> None:
    counts: list[int] = []
    with StopSignals() as signals:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert signals.is_asked
        with signals.handed_to(counts.append):
            eventually(lambda: counts == [1])
            time.sleep(APART)
            signal.raise_signal(signal.SIGTERM)
            eventually(lambda: counts == [1, 2])
    assert "kessel-signals" not in {thread.name for thread in threading.enumerate()}

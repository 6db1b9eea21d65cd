"""Handlers that do to their process what handlers should not do; a site copies this module as `handlers`.

It is a plugin as well, which writes into a journal how each job was settled.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import decimal
import locale
import logging.config
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from datetime import timedelta
from functools import partial
from pathlib import Path

from kessel_core import JobManager, handler, hookimpl
from kessel_core.values.streams import keep_standard_numbers

HOME = Path(__file__).resolve().parent
VAR = contextvars.ContextVar("var", default="unset")
#: How long what has to be ended from outside goes on, in seconds: longer than any test waits for its end.
FOREVER = 600
#: Far above any descriptor that these processes have.
ALL = 1000


def note(*words):
    with (HOME / "journal").open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


class Watch:
    @hookimpl
    def kessel_job_settled(self, result, settlement):
        kind = type(settlement).__name__.lower()
        note("settled", result.request.ref, kind, result.reason, os.getpid())


watch = Watch()
kessel_job_settled = watch.kessel_job_settled


def good(payload):
    return 1


async def async_good(payload):
    await asyncio.sleep(0.001)
    return 1


# --- leaving ---------------------------------------------------------------------------------------------


def leave(payload):
    sys.exit(payload)


async def async_leave(payload):
    sys.exit(payload)


def interrupt(payload):
    raise KeyboardInterrupt


async def async_interrupt(payload):
    raise KeyboardInterrupt


class OwnEnd(BaseException):
    """What test runners raise: no `Exception`."""


BASES = {
    "generator": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "own": OwnEnd,
    "memory": MemoryError,
}


def base(payload):
    raise BASES[payload]


async def async_base(payload):
    raise BASES[payload]


async def async_stop(payload):
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)


async def async_task_leave(payload):
    async def sub():
        sys.exit(3)

    task = asyncio.create_task(sub())
    await asyncio.sleep(0.01)
    return repr(task) and None


def exit_once(payload, job):
    if job.attempt == 1:
        note("died", job.request.ref)
        os._exit(payload)


async def async_exit_once(payload, job):
    exit_once(payload, job)


def kill_once(payload, job):
    if job.attempt == 1:
        note("died", job.request.ref)
        os.kill(os.getpid(), payload)
        time.sleep(FOREVER)


def alarm_once(payload, job):
    if job.attempt == 1:
        note("died", job.request.ref)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(FOREVER)


# --- forking and starting processes ----------------------------------------------------------------------


def child_of_fork(job):
    pid = os.fork()
    if pid == 0:
        note("child", job.request.ref, os.getpid())
    return pid == 0


def fork_return(payload, job):
    child_of_fork(job)


def fork_raise(payload, job):
    if child_of_fork(job):
        raise ValueError("in the child")


def fork_exit(payload, job):
    if child_of_fork(job):
        sys.exit(payload)


def fork_interrupt(payload, job):
    if child_of_fork(job):
        raise KeyboardInterrupt


def fork_close(payload, job):
    """As a daemon begins."""
    if child_of_fork(job):
        os.setsid()
        os.closerange(0, ALL)


async def fork_async(payload, job):
    child_of_fork(job)
    await asyncio.sleep(0.01)
    if payload:
        raise ValueError("in both")


async def fork_async_exit(payload, job):
    if child_of_fork(job):
        sys.exit(payload)


def forking():
    """Return what starts processes, with standard streams that are open.

    Handlers of other tests close them, and in an application nobody opens them again. A pipe of
    multiprocessing that gets one of their numbers is closed as the standard input in the child.
    """
    keep_standard_numbers()
    return multiprocessing.get_context("fork")


def in_pool(payload, job):
    with forking().Pool(2) as pool:
        try:
            pool.apply_async(time.sleep, (FOREVER,)).get(timeout=0.1)
        except multiprocessing.TimeoutError:
            return "cut"


def terminate_pool(payload, job):
    pool = forking().Pool(2)
    pool.apply_async(time.sleep, (FOREVER,))
    pool.terminate()
    pool.join()


def broken_pool(payload, job):
    context = forking()
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(os._exit, 3).result()


def terminate_child(payload, job):
    process = forking().Process(target=time.sleep, args=(FOREVER,))
    process.start()
    note("child", job.request.ref, process.pid)
    process.terminate()
    process.join()
    assert process.exitcode == -signal.SIGTERM


def child_signal(payload, job):
    subprocess.run(["sh", "-c", "kill -TERM $$"])
    pid = os.fork()
    if pid == 0:
        note("child", job.request.ref, os.getpid())
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(FOREVER)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def status(payload):
    assert subprocess.run(["sh", "-c", f"exit {payload}"], check=False).returncode == payload


def reap(payload):
    """Collect whatever child there is, as some process managers do."""
    started = subprocess.Popen(["true"])
    try:
        while os.waitpid(-1, 0):
            pass
    except ChildProcessError:
        started.wait()


# --- threads ---------------------------------------------------------------------------------------------


def threads(payload):
    threading.Thread(target=time.sleep, args=(2,), daemon=True).start()


def thread_raise(payload):
    for error in (ValueError("in a thread"), SystemExit(3), KeyboardInterrupt()):
        thread = threading.Thread(target=partial(raise_it, error))
        thread.start()
        thread.join()


def raise_it(error):
    raise error


# --- taking long -----------------------------------------------------------------------------------------


def hold(payload, job):
    note("started", job.request.ref)
    time.sleep(FOREVER)


async def block(payload, job):
    hold(payload, job)


async def block_until(payload, job):
    """Hold up the loop until a file is there."""
    note("started", job.request.ref)
    while not (HOME / payload).exists():
        time.sleep(0.01)


async def swallow(payload, job):
    note("started", job.request.ref)
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(FOREVER)


def begins(name):
    """Say whether this is the first delivery; what beanstalkd counts may be too small."""
    try:
        (HOME / f"{name}-begun").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@handler("swallow_limit", timeout=timedelta(seconds=0.2))
async def swallow_limit(payload, job):
    """At the first delivery: do not end when the time is over, but when a file is there."""
    is_first = begins(payload)
    note("started", job.request.ref)
    while is_first and not (HOME / payload).exists():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)
    note("ended", job.request.ref)


@handler("block_limit", timeout=timedelta(seconds=0.2))
async def block_limit(payload, job):
    is_first = begins(payload)
    note("started", job.request.ref)
    while is_first and not (HOME / payload).exists():
        time.sleep(0.01)
    note("ended", job.request.ref)


@handler("limit", timeout=timedelta(seconds=0.2))
async def limit(payload, job):
    if job.attempt == 1:
        await asyncio.sleep(FOREVER)


async def to_thread(payload, job):
    note("started", job.request.ref)
    await asyncio.to_thread(time.sleep, FOREVER)


executor = concurrent.futures.ThreadPoolExecutor(1)


def leave_thread(payload, job):
    executor.submit(time.sleep, FOREVER)
    threading.Thread(target=time.sleep, args=(FOREVER,)).start()
    note("started", job.request.ref)


def leave_process(payload, job):
    process = forking().Process(target=time.sleep, args=(FOREVER,))
    process.start()
    note("child", job.request.ref, process.pid)
    note("started", job.request.ref)


# --- what only its attempt sees --------------------------------------------------------------------------


def context(payload, job):
    note("saw", job.request.ref, VAR.get())
    VAR.set("set")


async def async_context(payload, job):
    context(payload, job)


def decimals(payload, job):
    note("saw", job.request.ref, decimal.getcontext().prec)
    decimal.getcontext().prec = 5


async def async_decimals(payload, job):
    decimals(payload, job)


def set_decimals(payload, job):
    note("saw", job.request.ref, decimal.getcontext().prec)
    decimal.setcontext(decimal.Context(prec=1, traps=list(decimal.Context().flags)))


# --- what all see ----------------------------------------------------------------------------------------


def shared(payload):
    """Change what is the process's; say what it was before."""
    before = (
        os.umask(0o777),
        locale.setlocale(locale.LC_ALL),
        sys.getrecursionlimit(),
        socket.getdefaulttimeout(),
    )
    locale.setlocale(locale.LC_ALL, "C")
    warnings.simplefilter("error")
    socket.setdefaulttimeout(1e-6)
    random.seed(0)
    sys.setswitchinterval(1e-4)
    threading.stack_size(256 * 1024)
    os.environ.pop("HOME", None)
    return str(before)


def recursion(payload):
    """Leave as little room as Python allows at all."""
    for number in range(1, 2000):
        try:
            sys.setrecursionlimit(number)
            return
        except RecursionError:
            continue


async def async_recursion(payload):
    recursion(payload)


def chdir(payload):
    os.chdir("/")


def dispositions(payload):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def mask(payload):
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def logs(payload):
    logging.config.dictConfig({"version": 1, "root": {"handlers": []}})


def basic(payload):
    logging.basicConfig(force=True, level="ERROR")


def shut_logs(payload):
    logging.shutdown()


# --- streams and descriptors -----------------------------------------------------------------------------


def close_streams(payload):
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):  # an earlier handler has closed the number below it
                stream.close()


def no_streams(payload):
    sys.stdin = sys.stdout = sys.stderr = None


class Raising:
    def close(self):
        """Do nothing."""

    def write(self, text):
        raise ValueError("no such stream")

    def flush(self):
        if threading.current_thread() is threading.main_thread():  # where Python ends
            raise ValueError("no such stream")


def bad_streams(payload):
    sys.stdout = sys.stderr = Raising()


def close_standard(payload):
    """Close the standard descriptors; leave their numbers free, to be taken by whoever opens next."""
    os.closerange(0, 3)


def open_and_wait(payload, job):
    """Have a file open while others print."""
    ref = job.request.ref
    with (HOME / f"file-{ref}").open("w") as file:
        file.write("mine")
        file.flush()
        note("opened", ref)
        while not (HOME / f"go-{ref}").exists():
            time.sleep(0.01)


def redirect_standard(payload):
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


def close_all(payload, job):
    note("ran", job.request.ref, os.getpid())
    if job.attempt <= payload:
        os.closerange(3, ALL)


async def async_close_all(payload, job):
    close_all(payload, job)


def descriptors():
    """Return what is open, as numbers with what they lead to."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[int(entry.name)] = str(entry.readlink())
    return found


def cover_all(payload, job):
    """Put a file of its own over every descriptor: who writes by number writes there."""
    note("ran", job.request.ref, os.getpid())
    if job.attempt <= payload:
        file = os.open(HOME / "covered", os.O_RDWR | os.O_CREAT, 0o600)
        for number in descriptors():
            if number > 2:
                os.dup2(file, number)


def close_queue(payload, job):
    """Close what the queue uses, and nothing else."""
    for number, target in descriptors().items() if job.attempt == 1 else ():
        if "jobs.db" in target:
            os.close(number)
        elif target.startswith("socket:"):
            with socket.socket(fileno=os.dup(number)) as copy:
                family = copy.family
            if family == socket.AF_INET:
                os.close(number)


# --- stops and other workers -----------------------------------------------------------------------------


def stop_own(payload):
    os.kill(os.getpid(), payload)


def second_worker(payload):
    with JobManager("memory://", handlers={"a": len}) as manager:
        manager.request("a", [])
        assert manager.worker().drain() == {"success": 1}


def same_queue(payload):
    """A second manager and worker, on the queue of this one."""
    with JobManager(payload["url"], handlers={"own": note}) as manager:
        manager.request("own", payload["word"], queue=payload["word"])
        assert manager.worker(queues=[payload["word"]]).drain() == {"success": 1}


def second_async(payload):
    async def inner(payload):
        return 1

    with JobManager("memory://", handlers={"a": inner}) as manager:
        assert manager.process_single_job("a").value == 1


def busy(payload, job):
    """A neighbour."""
    note("busy", job.request.ref, job.attempt)
    time.sleep(payload)

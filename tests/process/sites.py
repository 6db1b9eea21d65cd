"""Workers in processes of their own, whose handlers do what handlers must not do; and what came of it.

A site is a directory, a queue and a way to start a worker on it. Handlers and a plugin write a journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kessel_core import JobManager

LONG = 30.0

HANDLERS = """
import asyncio, contextvars, concurrent.futures, decimal, logging.config, multiprocessing, os, pathlib, signal
import subprocess, sys, threading, time
from kessel_core import JobManager, hookimpl

HOME = os.path.dirname(os.path.abspath(__file__))
VAR = contextvars.ContextVar("var", default="unset")

def note(*words):
    with open(os.path.join(HOME, "journal"), "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

class Watch:
    @hookimpl
    def kessel_job_settled(self, result, settlement):
        kind = type(settlement).__name__.lower()
        note("settled", result.request.ref, kind, result.reason, os.getpid())

watch = Watch()
kessel_job_settled = watch.kessel_job_settled

def good(payload):
    return 1

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

async def fork_async(payload, job):
    child_of_fork(job)
    await asyncio.sleep(0.01)
    if payload:
        raise ValueError("in both")

def pool(payload, job):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        try:
            pool.apply_async(time.sleep, (20,)).get(timeout=0.1)
        except multiprocessing.TimeoutError:
            return "cut"

def child_signal(payload):
    subprocess.run(["sh", "-c", "kill -TERM $$"])
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM

def leave(payload):
    sys.exit(payload)

def interrupt(payload):
    raise KeyboardInterrupt

async def async_leave(payload):
    sys.exit(payload)

async def async_interrupt(payload):
    raise KeyboardInterrupt

async def async_stop(payload):
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)

async def async_task_leave(payload):
    async def sub():
        sys.exit(3)
    task = asyncio.create_task(sub())
    await asyncio.sleep(0.01)

def context(payload, job):
    note("saw", job.request.ref, VAR.get())
    VAR.set("set")

async def async_context(payload, job):
    context(payload, job)

def decimals(payload, job):
    note("saw", job.request.ref, decimal.getcontext().prec)
    decimal.getcontext().prec = 5

def chdir(payload):
    os.chdir("/")

def logs(payload):
    logging.config.dictConfig({"version": 1, "root": {"handlers": []}})

def basic(payload):
    logging.basicConfig(force=True, level="ERROR")

def streams(payload):
    sys.stdout.close()

def threads(payload):
    threading.Thread(target=time.sleep, args=(2,), daemon=True).start()

def dispositions(payload):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

def second_worker(payload):
    with JobManager("memory://", handlers={"a": len}) as manager:
        manager.request("a", [])
        assert manager.worker().drain() == {"success": 1}

def second_async(payload):
    async def inner(payload):
        return 1
    with JobManager("memory://", handlers={"a": inner}) as manager:
        assert manager.process_single_job("a").value == 1

def hold(payload, job):
    note("started", job.request.ref)
    time.sleep(20)

async def block(payload, job):
    hold(payload, job)

async def swallow(payload, job):
    note("started", job.request.ref)
    while True:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            pass

async def to_thread(payload, job):
    note("started", job.request.ref)
    await asyncio.to_thread(time.sleep, 20)

executor = concurrent.futures.ThreadPoolExecutor(1)

def leave_thread(payload, job):
    executor.submit(time.sleep, 20)
    threading.Thread(target=time.sleep, args=(20,)).start()
    note("started", job.request.ref)

def leave_process(payload, job):
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
    process.start()
    note("child", job.request.ref, process.pid)
    note("started", job.request.ref)

def exit_once(payload, job):
    if job.attempt == 1:
        os._exit(payload)
"""

#: An application with a worker of its own; with `memory://` it requests what it reads.
EMBEDDED = """
import json, logging, sys, threading
from datetime import timedelta
import handlers
from kessel_core import Config, JobManager, WorkerConfig, build_plugins
from kessel_core.runtime.signals import on_signals

url, grace, slots = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
logging.basicConfig(level="INFO")
config = Config(worker=WorkerConfig(grace=timedelta(seconds=grace)))
functions = {name: getattr(handlers, name) for name in json.loads(sys.argv[4])}
plugins = build_plugins(extra={"watch": handlers.watch})
with JobManager(url, handlers=functions, config=config, plugins=plugins) as manager:
    worker = manager.worker(slots=slots)
    def read():
        for line in sys.stdin:
            kind, payload, ref = json.loads(line)
            manager.request(kind, payload, ref=ref)
    threading.Thread(target=read, daemon=True).start()
    with on_signals(lambda count: worker.stop()):
        worker.run(ready=lambda: handlers.note("ready"))
"""


class Site:
    """A directory with a worker on a queue.

    Args:
        home: An empty directory.
        kind: `command`, `processes` or `embedded`.
        url: The queue.
    """

    def __init__(self, home: Path, kind: str, url: str, *, slots: int = 2, grace: float = 30.0) -> None:
        self.home, self.kind, self.url = home, kind, url
        names = [
            line.split("(")[0].split()[-1]
            for line in HANDLERS.splitlines()
            if line.startswith(("def ", "async def "))
        ]
        names = [name for name in names if name not in ("note", "child_of_fork")]
        (home / "handlers.py").write_text(HANDLERS)
        (home / "program.py").write_text(EMBEDDED)
        mapped = "".join(f'{name} = "handlers:{name}"\n' for name in names)
        (home / "kessel.toml").write_text(f"[kessel.handlers]\n{mapped}")
        found = home / "watch-1.dist-info"
        found.mkdir()
        (found / "METADATA").write_text("Metadata-Version: 2.1\nName: watch\nVersion: 1\n")
        (found / "entry_points.txt").write_text("[kessel.v1]\nwatch = handlers\n")
        if kind == "embedded":
            command = [sys.executable, "program.py", url, f"{grace}", f"{slots}", json.dumps(names)]
        else:
            processes = "2" if kind == "processes" else "1"
            command = [sys.executable, "-m", "kessel_core.cli", "worker", "-a", url, "--grace", f"{grace}s"]
            command += ["--slots", f"{slots}", "--processes", processes]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KESSEL_")}
        self._errors = (home / "errors").open("wb")
        self.process = subprocess.Popen(
            command,
            cwd=home,
            env=environment | {"PYTHONPATH": str(home)},
            stdin=subprocess.PIPE if kind == "embedded" else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        self._manager: JobManager | None = None
        if "memory" not in url:
            self._manager = JobManager(url, only_requests=True).connect()

    @property
    def manager(self) -> JobManager:
        """Of this process, for looking at the queue; not with `memory://`."""
        assert self._manager is not None
        return self._manager

    def request(self, kind: str, payload: object = None, ref: str | None = None) -> str:
        """Request a job; return its ref."""
        ref = ref or f"{kind}-{time.monotonic_ns()}"
        if self._manager is not None:
            self._manager.request(kind, payload, ref=ref)  # type: ignore[arg-type]  # any JSON value
        else:
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps([kind, payload, ref]) + "\n")
            self.process.stdin.flush()
        return ref

    def notes(self, *words: object) -> list[list[str]]:
        """Return the lines of the journal that begin with these words."""
        path = self.home / "journal"
        wanted = [str(word) for word in words]
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line[: len(wanted)] == wanted]

    def errors(self) -> str:
        """Return what the worker has said."""
        return (self.home / "errors").read_text()

    def settled(self, ref: str) -> list[str]:
        """Wait until a job is settled, and return how: settlement and reason."""
        self.eventually(lambda: self.notes("settled", ref))
        return self.notes("settled", ref)[0][2:4]

    def eventually(self, condition: Callable[[], object], seconds: float = LONG) -> None:
        """Wait until the condition holds, bounded."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.errors()[-4000:]
            assert self.process.poll() is None or condition(), self.errors()[-4000:]
            time.sleep(0.01)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Signal the process; return its exit code, and after how many seconds it ended."""
        begin = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(LONG)
        return code, time.monotonic() - begin

    def close(self) -> None:
        """End everything."""
        for end in (self.process.terminate, self.process.kill):
            end()
            try:
                self.process.wait(5)
                break
            except subprocess.TimeoutExpired:
                continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stdin is not None:
            self.process.stdin.close()
        self._errors.close()
        if self._manager is not None:
            self._manager.close()


def runs(pid: int) -> bool:
    """Say whether a process lives; one that waits for somebody to collect it does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")

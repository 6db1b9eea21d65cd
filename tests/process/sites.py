"""Workers in processes of their own, whose handlers do what handlers must not do; and what came of it.

A site is a directory, a queue and a way to start a worker on it. Handlers and a plugin write a journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kessel_core import JobManager

LONG = 30.0

MISUSE = Path(__file__).with_name("misuse.py")
#: The job types: the functions of that module that take a payload.
TYPES = re.findall(r"^(?:async )?def (\w+)\(payload\b", MISUSE.read_text("utf-8"), re.MULTILINE)

#: An application with a worker of its own; with `memory://` it requests what it reads.
EMBEDDED = """
import json, logging, os, sys, threading
from datetime import timedelta
import handlers
from kessel_core import Config, JobManager, WorkerConfig, build_plugins
from kessel_core.runtime.signals import on_signals

url, grace, slots = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
logging.basicConfig(level="INFO", filename="errors")  # whatever handlers do to streams
config = Config(worker=WorkerConfig(grace=timedelta(seconds=grace)))
functions = {name: getattr(handlers, name) for name in json.loads(sys.argv[4])}
plugins = build_plugins(extra={"watch": handlers.watch})
with JobManager(url, handlers=functions, config=config, plugins=plugins) as manager:
    worker = manager.worker(slots=slots)
    asked = os.fdopen(os.dup(0))  # handlers may close the stream
    def read():
        for line in asked:
            kind, payload, ref = json.loads(line)
            manager.request(kind, payload, ref=ref)
    threading.Thread(target=read, daemon=True).start()
    with on_signals(lambda count: worker.stop()):
        worker.run(ready=lambda: handlers.note("ready"))
"""

#: A server that forks, as gunicorn does with `preload_app`: the manager is made, and a worker of the parent
#: runs, before the fork; children have signal handlers of their own, and whoever dies is replaced.
PREFORK = """
import json, logging, os, signal, sys, time
from datetime import timedelta
import handlers
from kessel_core import Config, JobManager, WorkerConfig, build_plugins

url, grace, slots = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
logging.basicConfig(level="INFO", filename="errors")
config = Config(worker=WorkerConfig(grace=timedelta(seconds=grace)))
functions = {name: getattr(handlers, name) for name in json.loads(sys.argv[4])}
plugins = build_plugins(extra={"watch": handlers.watch})
manager = JobManager(url, handlers=functions, config=config, plugins=plugins).connect()
manager.start(slots=slots, queues=["parent"])
OWN = [signal.SIGABRT, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]

def child():
    alive = [True]
    for number in (*OWN, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: alive.clear())
    for number in (signal.SIGQUIT, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    manager.start(slots=slots)
    handlers.note("ready", os.getpid())
    manager.request("good", ref=f"of-{os.getpid()}")
    while alive:
        time.sleep(0.02)
    sys.exit(0)

children, stopping = set(), []

def collect(*_):
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            handlers.note("collected", *found)
            children.discard(found[0])
    except ChildProcessError:
        pass

signal.signal(signal.SIGCHLD, collect)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, lambda number, _: stopping.append(number))
while not stopping:
    while len(children) < 2:
        pid = os.fork()
        if pid == 0:
            child()
        children.add(pid)
    time.sleep(0.02)
for pid in children:
    os.kill(pid, stopping[0])
while children:
    time.sleep(0.02)
manager.close()
"""


class Site:
    """A directory with a worker on a queue.

    Args:
        home: An empty directory.
        kind: `command`, `processes`, `embedded` or `prefork`.
        url: The queue.
        before: Command that starts the worker, such as `nohup`.
    """

    def __init__(
        self,
        home: Path,
        kind: str,
        url: str,
        *,
        slots: int = 2,
        grace: float = 30.0,
        before: Sequence[str] = (),
    ) -> None:
        self.home, self.kind, self.url = home, kind, url
        shutil.copy(MISUSE, home / "handlers.py")
        (home / "program.py").write_text(PREFORK if kind == "prefork" else EMBEDDED)
        mapped = "".join(f'{name} = "handlers:{name}"\n' for name in TYPES)
        (home / "kessel.toml").write_text(f"[kessel.handlers]\n{mapped}")
        found = home / "watch-1.dist-info"
        found.mkdir()
        (found / "METADATA").write_text("Metadata-Version: 2.1\nName: watch\nVersion: 1\n")
        (found / "entry_points.txt").write_text("[kessel.v1]\nwatch = handlers\n")
        if kind in ("embedded", "prefork"):
            command = [sys.executable, "program.py", url, f"{grace}", f"{slots}", json.dumps(TYPES)]
        else:
            processes = "2" if kind == "processes" else "1"
            command = [sys.executable, "-m", "kessel_core.cli", "worker", "-a", url, "--grace", f"{grace}s"]
            command += ["--slots", f"{slots}", "--processes", processes]
        self._command = [*before, *command]
        self._errors = (home / "errors").open("ab")
        self.process = self.start()
        self._manager: JobManager | None = None
        if "memory" not in url:
            self._manager = JobManager(url, only_requests=True).connect()

    def start(self) -> subprocess.Popen[str]:
        """Start the worker, or another one when it has ended."""
        if (process := getattr(self, "process", None)) is not None and process.stdin is not None:
            process.stdin.close()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KESSEL_")}
        self.process = subprocess.Popen(
            self._command,
            cwd=self.home,
            env=environment | {"PYTHONPATH": str(self.home)},
            stdin=subprocess.PIPE if self.kind == "embedded" else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )
        return self.process

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
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it has ended since, or there is no such folder
        return not Path("/proc/self").exists()


def ends(pid: int, seconds: float = LONG) -> bool:
    """Wait until a process has ended, bounded: one that was just sent a signal may not have run since."""
    end = time.monotonic() + seconds
    while runs(pid):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True

"""What arrives at a receiver of OTLP from the processes of an application; the page "Trace jobs" as typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from kessel_core import JobManager, Transient
from kessel_core.testing import free_port, run_until_idle
from tests.until import until

from .conftest import Collector, Seen

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "trace-jobs.md"
FILE = re.compile(r"^<!-- ([\w.]+) -->\n(?:<!-- not run -->\n)?```\w+\n(.*?)^```", re.M | re.S)

#: Handlers beside those of the page.
MORE = """

@handler("late")
def late(payload: object) -> None:
    return None


@handler("twice", max_attempts=3)
def twice(payload: object, job: JobContext) -> None:
    if job.attempt == 1:
        raise Transient("once more", after=timedelta(milliseconds=20))


@handler("tells")
async def tells(payload: object, job: JobContext) -> None:
    job.follow_up("late")


@handler("told")
def told(outcome: object) -> None:
    return None
"""

#: What requests them.
ASK = """
import tracing
from datetime import timedelta
from kessel_core import JobManager
from opentelemetry import trace
with JobManager.from_config(only_requests=True) as manager:
    with trace.get_tracer("shop").start_as_current_span("ask"):
        manager.request("late", delay=timedelta(milliseconds=50))
        manager.request("twice")
        manager.request("tells", callback="job:told", ref="R")
"""


class Shop:
    """The files of the page in an empty folder, and the processes that run them."""

    def __init__(self, folder: Path, collector: Collector) -> None:
        self.folder = folder
        files = dict(FILE.findall(PAGE.read_text("utf-8")))
        assert set(files) == {"kessel.toml", "tracing.py", "jobs.py", "web.py"}
        head = "from datetime import timedelta\n\nfrom kessel_core import JobContext, Transient\n"
        files["jobs.py"] = head + files["jobs.py"] + MORE
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
        (folder / "ask.py").write_text(ASK, "utf-8")
        self.environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith(("KESSEL_", "OTEL_"))
            },
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "PYTHONPATH": str(folder),
        }
        self._running: list[subprocess.Popen[str]] = []

    def start(self, service: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment | {"OTEL_SERVICE_NAME": service},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def worker(self, *arguments: str) -> subprocess.Popen[str]:
        return self.start(
            "worker", "-m", "kessel_core.cli", "worker", "--log-json", "--handlers", "jobs", *arguments
        )

    def end(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()


@pytest.fixture
def shop(tmp_path: Path, collector: Collector) -> Iterator[Shop]:
    made = Shop(tmp_path, collector)
    yield made
    made.end()


def ended(process: subprocess.Popen[str]) -> str:
    """Ask a process to end, and return what it logged."""
    process.terminate()
    _, text = process.communicate(timeout=60)
    assert process.returncode == 0, text
    return text


def one(spans: list[Seen], name: str, **attributes: Any) -> Seen:
    names = {key.replace("_", "."): value for key, value in attributes.items()}
    (found,) = [span for span in spans if span.name == name and names.items() <= span.attributes.items()]
    return found


def is_apart(process: Seen, origin: Seen) -> bool:
    return process.parent == "" and process.trace != origin.trace and process.links == (origin.id,)


def check_tree(spans: list[Seen]) -> None:
    """The tree of what `ASK` asks for, whoever ran it."""
    ask = one(spans, "ask")

    def sent(kind: str, operation: str = "send") -> Seen:
        return one(spans, f"{operation} default", kessel_job_type=kind)

    def done(kind: str, attempt: int = 1) -> Seen:
        return one(spans, "process default", kessel_job_type=kind, kessel_job_attempt=attempt)

    # Of the type `late` there are two: a delayed job, and one that follows.
    (delayed,) = [span for span in spans if span.attributes.get("kessel.job.delay_seconds") and span.parent]
    (late,) = [span for span in spans if "kessel.job.delay_seconds" in span.attributes and not span.parent]
    assert delayed.parent == ask.id
    assert is_apart(late, delayed)

    assert {sent("twice").parent, sent("tells").parent} == {ask.id}
    assert done("twice").parent == sent("twice").id
    assert done("twice").trace == ask.trace
    assert done("twice").failed
    assert is_apart(done("twice", 2), sent("twice"))
    assert not done("twice", 2).failed

    tells = done("tells")
    assert (tells.parent, tells.trace) == (sent("tells").id, ask.trace)
    (told,) = [span for span in spans if span.type == "told" and span.kind == "consumer"]
    (followed,) = [span for span in spans if span.type == "late" and "kessel.job.follows" in span.attributes]
    for span in (told, followed):
        create = sent(str(span.type), "create")
        assert (create.parent, create.trace) == (tells.id, ask.trace)
        assert is_apart(span, create)
        assert span.attributes["kessel.job.follows"] == tells.attributes["messaging.message.id"]
    (batch,) = [span for span in spans if span.kind == "client"]
    assert batch.parent == tells.id
    assert len(batch.links) == 2
    assert told.attributes["messaging.message.conversation_id"] == "R"
    assert len(spans) == 13


@pytest.mark.parametrize("processes", [1, 2])
def test_a_receiver_sees_the_tree_of_jobs_that_another_process_runs(
    shop: Shop, collector: Collector, processes: int
) -> None:
    asking = shop.start("web", "ask.py")
    _, text = asking.communicate(timeout=60)
    assert asking.returncode == 0, text
    assert {span.service for span in collector.wait_for(4)} == {"web"}
    worker = shop.worker("--processes", str(processes)) if processes > 1 else shop.worker()
    collector.wait_for(13)
    ended(worker)
    check_tree(collector.spans)
    services = {span.kind: span.service for span in collector.spans if span.kind != "producer"}
    assert services == {"internal": "web", "consumer": "worker", "client": "worker"}


def test_the_page_leads_from_a_web_request_to_the_handler_and_to_the_log(
    shop: Shop, collector: Collector
) -> None:
    port = free_port()
    web = shop.start("web", "web.py", str(port))
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"traceparent": traceparent})
    answers: list[str] = []

    def answered() -> bool:
        assert web.poll() is None, web.communicate()
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answers.append(answer.read().decode())
        except ConnectionError:
            return False
        except OSError as exc:
            assert isinstance(exc.__cause__ or getattr(exc, "reason", None), ConnectionError), exc
            return False
        return True

    until(answered, pause=0.02)
    worker = shop.worker()
    spans = collector.wait_for(4)
    log = ended(worker)
    order, send, process, render = (
        one(spans, name) for name in ("order", "send default", "process default", "render")
    )
    assert [span.parent for span in (order, send, process, render)] == [
        "00f067aa0ba902b7",
        order.id,
        send.id,
        process.id,
    ]
    assert {span.trace for span in spans} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert [span.service for span in (order, send, process, render)] == ["web"] * 2 + ["worker"] * 2
    assert process.attributes["messaging.message.id"] == answers[0]
    (line,) = [line for line in log.splitlines() if f"job {answers[0]} mail.send success" in line]
    assert f'"trace_id": "{process.trace}"' in line
    assert f'"span_id": "{process.id}"' in line


def test_a_receiver_sees_the_tree_of_jobs_in_memory(
    collector: Collector, opened: Callable[..., JobManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)  # the one of this process is another's
    left = [Transient("once more")]

    def twice(payload: Any) -> None:
        if left:
            raise left.pop()

    async def tells(payload: Any, job: Any) -> None:
        job.follow_up("late")

    manager = opened({"late": print, "twice": twice, "tells": tells, "told": print})
    with provider.get_tracer("shop").start_as_current_span("ask"):
        manager.request("late", delay=timedelta(hours=1))
        manager.request("twice")
        manager.request("tells", callback="job:told", ref="R")
    run_until_idle(manager)
    provider.shutdown()
    check_tree(collector.spans)


def test_every_tree_of_the_page_is_that_of_the_test() -> None:
    """The tree is drawn by hand; it has the spans and kinds that the test above sees."""
    text = PAGE.read_text("utf-8")
    drawn = re.findall(r"^ *(?:└─ )?(\w[\w ]*?)  +(web|worker)  +(\w+)$", text, re.M)
    assert drawn == [
        ("order", "web", "server"),
        ("send default", "web", "producer"),
        ("process default", "worker", "consumer"),
        ("render", "worker", "internal"),
    ]

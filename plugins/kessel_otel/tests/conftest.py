"""A provider whose spans the tests see, applications that are traced, and a receiver of OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import kessel_memory.plugin
import kessel_otel.guard
import kessel_otel.plugin
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kessel_core import Config, JobManager, build_plugins
from kessel_core.testing import VirtualClock
from tests.until import until

KINDS = ("", "internal", "server", "client", "producer", "consumer")


@attrs.frozen(kw_only=True)
class Seen:
    """One span, as it was exported."""

    service: str = ""
    name: str
    kind: str
    trace: str
    id: str
    #: "": it begins its trace.
    parent: str
    #: Ids of spans.
    links: tuple[str, ...]
    attributes: dict[str, Any]
    failed: bool
    description: str
    events: tuple[str, ...] = ()

    @property
    def type(self) -> Any:
        return self.attributes.get("kessel.job.type")


def _seen(span: Any) -> Seen:
    return Seen(
        name=span.name,
        kind=span.kind.name.lower(),
        trace=trace.format_trace_id(span.context.trace_id),
        id=trace.format_span_id(span.context.span_id),
        parent=trace.format_span_id(span.parent.span_id) if span.parent is not None else "",
        links=tuple(trace.format_span_id(link.context.span_id) for link in span.links),
        attributes=dict(span.attributes),
        failed=span.status.status_code is trace.StatusCode.ERROR,
        description=span.status.description or "",
        events=tuple(event.name for event in span.events),
    )


class Spans:
    """What this process exported."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[Seen]:
        return [_seen(span) for span in self.exported()]

    def exported(self) -> tuple[ReadableSpan, ...]:
        """The spans themselves."""
        return self._exporter.get_finished_spans()

    def of(self, start: str, kind: str | None = None) -> list[Seen]:
        """Those whose name starts so, and whose job has this type."""
        return [one for one in self.all() if one.name.startswith(start) and kind in (None, one.type)]

    def one(self, start: str, kind: str | None = None) -> Seen:
        (found,) = self.of(start, kind)
        return found


_EXPORTER = InMemorySpanExporter()


@pytest.fixture(scope="session")
def provider() -> TracerProvider:
    """The provider of this process, which can be set only once."""
    made = TracerProvider(shutdown_on_exit=False)
    made.add_span_processor(SimpleSpanProcessor(_EXPORTER))
    trace.set_tracer_provider(made)
    return made


@pytest.fixture
def spans(provider: TracerProvider) -> Spans:
    _EXPORTER.clear()
    kessel_otel.guard._reported.clear()
    return Spans(_EXPORTER)


@pytest.fixture
def opened() -> Iterator[Callable[..., JobManager]]:
    """Connects managers with the middleware `otel`, on the virtual clock."""
    managers: list[JobManager] = []

    def open_(
        handlers: Any = None,
        relation: str | None = None,
        *,
        adapter: Any = "memory://",
        middleware: tuple[str, ...] = ("otel", "logging"),
        **more: Any,
    ) -> JobManager:
        clock = VirtualClock() if isinstance(adapter, str) else adapter._store.clock
        extra = {"memory": kessel_memory.plugin, "otel": kessel_otel.plugin}
        options = {"otel": {"relation": relation}} if relation is not None else {}
        config = Config(middleware=middleware, middleware_options=options)
        plugins = build_plugins(extra=extra, distributions=[])
        more = {"clock": clock, "config": config, "plugins": plugins} | more
        managers.append(JobManager(adapter, handlers=handlers, **more).connect())
        return managers[-1]

    yield open_
    for manager in managers:
        manager.close()


class Collector(ThreadingHTTPServer):
    """Takes traces by OTLP over HTTP, on a free port of loopback, and keeps what it read."""

    daemon_threads = True

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        super().__init__(("127.0.0.1", 0), _Receive)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def wait_for(self, count: int) -> list[Seen]:
        """Return the spans once there are so many."""
        until(lambda: len(self.spans) >= count)
        return self.spans


class _Receive(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.server.spans += [_decoded(span, names["service.name"]) for span in scope.spans]
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as it is called there
        return None


def _decoded(span: Any, service: str) -> Seen:
    return Seen(
        service=service,
        name=span.name,
        kind=KINDS[span.kind],
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in span.links),
        attributes={one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes},
        failed=span.status.code == 2,
        description=span.status.message,
        events=tuple(event.name for event in span.events),
    )


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()

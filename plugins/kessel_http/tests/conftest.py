"""Receivers on loopback, and applications whose section `[kessel.http]` reaches them."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import kessel_memory.plugin
import pytest
from kessel_http.connecting import Network
from kessel_http.delivery import HttpCallbacks
from kessel_http.options import HttpOptions

from kessel_core import Config, JobManager, build_plugins, hookimpl
from kessel_core.hooks import Section
from kessel_core.testing import VirtualClock

#: Made for these tests: an authority whose key is thrown away, and a key of it that is no secret.
TLS = Path(__file__).parent / "tls"
#: 32 bytes each.
NEW = "whsec_bmV3LW5ldy1uZXctbmV3LW5ldy1uZXctbmV3LTAx"
OLD = "whsec_b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xkLTAxMg=="


@attrs.frozen
class Received:
    """One request, as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """A server that notes what it gets, and answers as it is told."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        #: The statuses of the next answers, each perhaps with headers; the last one stays.
        self.answers: list[tuple[int, dict[str, str]]] = [(204, {})]
        #: Called before each answer.
        self.before: Callable[[], object] = lambda: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        port = self._server.server_address[1]
        assert isinstance(port, int)
        return port

    def answer(self, *statuses: int, **headers: str) -> None:
        """Answer with these statuses from now on; the headers belong to each of them."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers = [(status, fields) for status in statuses]

    def close_listener(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def close(self) -> None:
        self.close_listener()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append(Received(self.path, dict(self.headers), body))
                receiver.before()
                status, headers = receiver.answers[0]
                if len(receiver.answers) > 1:
                    receiver.answers.pop(0)
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def do_GET(self) -> None:
                receiver.received.append(Received(f"GET {self.path}", dict(self.headers), b""))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *arguments: Any) -> None: ...

        return Handler


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver over plain http."""
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="session")
def server_tls() -> ssl.SSLContext:
    """A certificate of hooks.example.org, localhost and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    return context


@pytest.fixture(scope="session")
def client_tls() -> ssl.SSLContext:
    """Trusts that certificate."""
    return ssl.create_default_context(cafile=str(TLS / "ca.pem"))


@pytest.fixture
def secure_receiver(server_tls: ssl.SSLContext) -> Iterator[Receiver]:
    """A receiver over https."""
    made = Receiver(server_tls)
    yield made
    made.close()


class Raw:
    """A server that does with each connection what a test says."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.connections = 0
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                made, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(made)
            threading.Thread(target=self._run, args=(made,), daemon=True).start()

    def _run(self, made: socket.socket) -> None:
        try:
            self._serve(made)
        except OSError:
            pass  # the client is gone, as it should
        finally:
            made.close()

    def close(self) -> None:
        self._listener.close()
        for made in self._open:
            made.close()


@pytest.fixture
def raw() -> Iterator[Callable[[Callable[[socket.socket], None]], Raw]]:
    """Starts servers that speak whatever a test makes them speak."""
    made: list[Raw] = []

    def start(serve: Callable[[socket.socket], None]) -> Raw:
        made.append(Raw(serve))
        return made[-1]

    yield start
    for one in made:
        one.close()


def network(**parts: Any) -> Network:
    """A network with these parts, and nothing trusted unless it is said."""
    return Network(**{"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **parts})


class Application:
    """A manager with the section, on a virtual clock and over the memory adapter."""

    def __init__(self, section: Mapping[str, Any], **more: Any) -> None:
        self.clock = more.pop("clock", None) or VirtualClock()
        arguments: dict[str, Any] = {
            "network": more.pop("network")
            if "network" in more
            else network(**{name: more.pop(name) for name in ("resolve", "refused", "tls") if name in more}),
            "draw": more.pop("draw", lambda: 0.5),
            "environ": more.pop("environ", {}),
        }
        adapter = more.pop("adapter", "memory://")

        class Plugin:
            @hookimpl
            def kessel_sections(self) -> list[Section]:
                factory = lambda options, context: HttpCallbacks(options, context, **arguments)  # noqa: E731
                return [Section(name="http", options=HttpOptions, factory=factory)]

        extra = {"memory": kessel_memory.plugin, "http": Plugin(), **more.pop("extra", {})}
        plugins = build_plugins(extra=extra, distributions=[])
        config = Config(sections={"http": section})
        self.manager = JobManager(adapter, plugins=plugins, config=config, clock=self.clock, **more)

    @property
    def http(self) -> HttpCallbacks:
        made = self.manager.section("http")
        assert isinstance(made, HttpCallbacks)
        return made


@pytest.fixture
def application() -> Iterator[Callable[..., Application]]:
    """Connects applications; the argument is the section `[kessel.http]`."""
    made: list[Application] = []

    def connect(section: Mapping[str, Any], **more: Any) -> Application:
        made.append(Application(section, **more))
        made[-1].manager.connect()
        return made[-1]

    yield connect
    for one in made:
        one.manager.close()


def endpoint(receiver: Any, **more: Any) -> dict[str, Any]:
    """A section with the endpoint `billing` at a receiver."""
    options = {
        "url": f"http://127.0.0.1:{receiver.port}/hooks?from=kessel",
        "secrets": [NEW],
        "internal": True,
    }
    return {"endpoints": {"billing": options | more}}


def payload(target: str = "billing", **outcome: Any) -> dict[str, Any]:
    """The payload of a job of type `kessel.http`."""
    fields = {
        "id": "0198-job",
        "type": "report",
        "ref": "A-17",
        "status": "success",
        "value": {"rows": 3},
        "message": "",
        "reason": None,
        "attempt": 1,
        "started_at": "2026-01-05T09:00:00Z",
        "finished_at": "2026-01-05T09:00:01Z",
    }
    return {"target": target, "outcome": fields | outcome}

"""The reference store behind a connection, for the case that breaks it; a mutant is one changed method.

The server is a thread of the harness, so that it needs no program: it answers one request after the other on
each connection, from a store of `store_reference.py`.
"""

from __future__ import annotations

import pickle
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import store_reference
from kessel_conformance import StoreHarness
from wire import HEADER, Lost, received

from kessel_core import SystemClock
from kessel_core.contract import (
    AdapterContext,
    AdapterUnavailable,
    Entry,
    Reach,
    Store,
    StoreCapabilities,
    StoreError,
    StoreSpec,
    StoreUnknown,
)

__all__ = ["Networked", "NetworkedStoreHarness", "spec_of"]

#: Seconds; generous, because a machine may be busy.
_TIMEOUT: Final = 3.0


@attrs.frozen
class Options:
    host: str
    port: int


class Networked(Store):
    name: ClassVar[str] = "networked"

    def __init__(self, options: Options, context: AdapterContext) -> None:
        super().__init__(context.clock)
        self.options = options
        self.mine = threading.local()
        self.peers: list[socket.socket] = []

    @property
    def capabilities(self) -> StoreCapabilities:
        return StoreCapabilities(reach=Reach.NETWORK)

    # --- one rule a method: what mutants change ---

    def connected(self) -> socket.socket:
        peer: socket.socket | None = getattr(self.mine, "peer", None)
        if peer is None:
            try:
                peer = socket.create_connection((self.options.host, self.options.port), _TIMEOUT)
            except OSError as exc:
                raise Lost(was_sent=False) from exc
            self.mine.peer = peer
            self.peers.append(peer)
        return peer

    def discard(self) -> None:
        self.mine.peer.close()
        self.mine.peer = None

    def decoded(self, answer: bytes) -> Any:
        """Decode an answer; raises OSError, as if none had come, for what is none."""
        try:
            return pickle.loads(answer)
        except (pickle.UnpicklingError, ValueError) as exc:
            raise OSError("this is no answer") from exc

    def asked(self, name: str, *arguments: Any) -> Any:
        """Ask once; raises Lost."""
        peer = self.connected()
        body = pickle.dumps((name, arguments))
        try:
            peer.sendall(HEADER.pack(len(body)) + body)
        except OSError as exc:
            self.discard()
            raise Lost(was_sent=False) from exc
        try:
            answer = self.decoded(received(peer, HEADER.unpack(received(peer, 4))[0]))
        except OSError as exc:
            self.discard()
            raise Lost(was_sent=True) from exc
        if isinstance(answer, Exception):
            raise answer
        return answer

    def written(self, name: str, space: str, key: str, *arguments: Any) -> Any:
        try:
            return self.asked(name, space, key, *arguments)
        except Lost as exc:
            if exc.was_sent:
                raise StoreUnknown(space, key, str(exc)) from exc
            raise AdapterUnavailable(str(exc)) from exc

    def read(self, name: str, *arguments: Any) -> Any:
        try:
            return self.asked(name, *arguments)
        except Lost as exc:
            raise AdapterUnavailable(str(exc)) from exc

    # --- the contract ---

    def get_entry(self, space: str, key: str) -> Entry | None:
        found: Entry | None = self.read("get_entry", space, key)
        return found

    def put_entry(self, space: str, key: str, value: bytes, expect: int | None, ttl: timedelta | None) -> int:
        version: int = self.written("put_entry", space, key, value, expect, ttl)
        return version

    def delete_entry(self, space: str, key: str, expect: int | None) -> bool:
        was_there: bool = self.written("delete_entry", space, key, expect)
        return was_there

    def scan_entries(self, space: str, prefix: str, after: str, limit: int) -> list[Entry]:
        found: list[Entry] = self.read("scan_entries", space, prefix, after, limit)
        return found

    def wait_entry(self, space: str, key: str, seen: int, timeout: timedelta) -> Entry | None:
        return self.get_entry(space, key)  # nothing that is looked at here waits

    def close(self) -> None:
        for peer in self.peers:
            peer.close()


def spec_of(open_: Callable[[Options, AdapterContext], Store]) -> StoreSpec:
    return StoreSpec(name="networked", schemes=("networked",), options=Options, open=open_)


class NetworkedStoreHarness(StoreHarness):
    """Brings the server."""

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(spec, "networked://127.0.0.1:{port}")

    def start(self) -> None:
        path = str(Path(self.folder, "entries.db"))
        kept = store_reference.Reference(
            store_reference.Options(path=path), AdapterContext(clock=SystemClock())
        )

        class Answers(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                try:
                    while True:
                        size = HEADER.unpack(received(self.request, 4))[0]
                        name, arguments = pickle.loads(received(self.request, size))
                        answer = pickle.dumps(_done(kept, name, arguments))
                        self.request.sendall(HEADER.pack(len(answer)) + answer)
                except OSError:
                    return  # whoever asked is gone

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()
        self.values["port"] = str(self.server.server_address[1])

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def _done(kept: store_reference.Reference, name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return getattr(kept, name)(*arguments)
    except StoreError as exc:
        return exc

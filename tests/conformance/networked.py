"""A small, correct adapter over a network, for cases that break its connections, its server or its clock.

The server, `python networked.py PORT FOLDER FAULT`, keeps jobs by the rules of `reference.py` and writes them
to a file before it answers. The adapter asks it; each rule is one method, so that a mutant is one changed
method.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import socket
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import attrs

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from kessel_conformance import ServerHarness
from reference import DISKS, LIMIT, Disk, Held, Record, Reference
from wire import HEADER, Lost, received

from kessel_core import SystemClock
from kessel_core.contract import (
    NO_PAUSE,
    AdapterContext,
    AdapterError,
    AdapterSpec,
    AdapterUnavailable,
    Attempts,
    Browse,
    Buried,
    Capabilities,
    Delete,
    Durability,
    EnqueueUnknown,
    Find,
    JobState,
    LeaseLost,
    LeaseReturn,
    LostReserve,
    LostReserves,
    Message,
    Pause,
    ProtocolError,
    QueueAdapter,
    QueueStats,
    Reach,
    Reservation,
    Settlement,
    StoredJob,
    TieBreak,
    WaitingAdapter,
    new_token,
)

__all__ = ["KINDS", "SPEC", "Networked", "NetworkedHarness"]

LEASE: Final = timedelta(seconds=4)
#: Long, because many servers may share a busy machine.
_TIMEOUT: Final = 8.0
#: Bytes of an answer.
_LARGEST: Final = 1 << 28
_LOOKS: Final = frozenset({"queues", "stats", "peek", "find", "buried"})
#: What may be named in a URL: the adapter, and its mutants.
KINDS: dict[str, type[Networked]] = {}


@attrs.define(eq=False)
class Delivery(Reservation):
    token: int = 0


class Garbled(ProtocolError):
    """What came is no answer, so nobody knows what was done."""


# --- the adapter -----------------------------------------------------------------------------------------


@attrs.frozen
class Options:
    host: str
    port: int
    namespace: str
    kind: str = "Networked"
    #: For the locks of a mutant.
    folder: str = ""


class Networked(Browse, Buried, Delete, Find, Pause, WaitingAdapter):
    name = "networked"

    def __init__(self, options: Options, context: AdapterContext) -> None:
        super().__init__(context)
        self.options = options
        self.mine = threading.local()
        self.peers: list[socket.socket] = []
        self.lost = LostReserves(self.clock, LEASE, self.given_back)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            reach=Reach.NETWORK,
            durability=Durability.PROCESS_CRASH,
            delay_granularity=timedelta(milliseconds=1),
            longest_delay=timedelta(days=3650),
            priorities=(0, 4294967295),
            tie_break=TieBreak.ENQUEUED,
            max_body_bytes=LIMIT,
            lease=LEASE,
            lease_return=LeaseReturn.LEASE_END,
            lost_reserves=True,
            fencing=True,
            attempts=Attempts.DURABLE,
            kicks=True,
            counts=True,
            blocking_reserve=True,  # it looks often enough to be in time
        )

    # --- one rule a method: what mutants change ---------------------------------------------------------

    def connected(self) -> socket.socket:
        peer: socket.socket | None = getattr(self.mine, "peer", None)
        if peer is not None and not self.is_stale(peer):
            return peer
        try:
            peer = socket.create_connection((self.options.host, self.options.port), self.timeout())
        except OSError as exc:
            raise AdapterUnavailable(f"cannot connect: {exc}") from exc
        self.mine.peer = peer
        self.peers.append(peer)
        return peer

    def timeout(self) -> float | None:
        return _TIMEOUT

    def is_stale(self, peer: socket.socket) -> bool:
        poll = select.poll()  # `select` refuses numbers from 1,024 up, which many tests at once reach
        poll.register(peer, select.POLLIN)
        return bool(poll.poll(0))

    def discard(self) -> None:
        self.mine.peer.close()
        self.mine.peer = None

    def read(self, peer: socket.socket, size: int) -> bytes:
        return received(peer, size)

    def size(self, header: bytes) -> int:
        (size,) = HEADER.unpack(header)
        if not 0 < size <= _LARGEST:
            raise Garbled(f"an answer of {size} bytes")
        return int(size)

    def understood(self, answer: bytes) -> Any:
        try:
            return pickle.loads(answer)
        except Exception as exc:  # pickle raises what it likes
            raise Garbled(f"the answer makes no sense: {exc}") from exc

    def asked(self, name: str, *arguments: Any) -> Any:
        """Ask once; raises Lost."""
        peer = self.connected()
        body = pickle.dumps((self.options.namespace, name, arguments))
        try:
            peer.sendall(HEADER.pack(len(body)) + body)
        except OSError as exc:
            self.discard()
            raise Lost(was_sent=False) from exc
        try:
            answer = self.understood(self.read(peer, self.size(self.read(peer, 4))))
        except OSError as exc:
            self.discard()
            raise Lost(was_sent=True) from exc
        except Garbled:
            self.discard()
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    def call(self, name: str, *arguments: Any) -> Any:
        try:
            return self.asked(name, *arguments)
        except Lost as exc:
            raise AdapterUnavailable(f"the connection was lost: {exc}") from exc

    def delay(self, message: Message) -> timedelta:
        """The server's clock counts, so it is told a span."""
        return NO_PAUSE if message.delay is None else max(NO_PAUSE, message.delay - self.clock.now())

    def lease(self) -> timedelta:
        return LEASE

    def ask_at_last(self) -> None:
        self.lost.ask_quietly(every=True)

    def note(self, exc: AdapterUnavailable, token: int, queues: tuple[str, ...]) -> None:
        if isinstance(exc.__cause__, Lost) and exc.__cause__.was_sent:
            self.lost.add(token, queues)

    def given_back(self, lost: Sequence[LostReserve]) -> set[int]:
        found: set[int] = self.call("returned", {one.token for one in lost})
        return found

    # --- the calls ---------------------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        try:
            self.asked("put", message, self.delay(message))
        except Lost as exc:
            if exc.was_sent:
                raise EnqueueUnknown(message.id, str(exc)) from exc
            raise AdapterUnavailable(str(exc)) from exc
        except Garbled as exc:
            raise EnqueueUnknown(message.id, str(exc)) from exc

    def take(self, queues: tuple[str, ...]) -> Reservation | None:
        self.lost.ask()
        return self.taken_by("take_for", (), queues)

    def taken_by(
        self, name: str, arguments: tuple[object, ...], queues: tuple[str, ...]
    ) -> Reservation | None:
        deadline, token = self.clock.monotonic() + LEASE.total_seconds(), new_token()
        try:
            found = self.call(name, *arguments, queues, token)
        except AdapterUnavailable as exc:
            self.note(exc, token, queues)
            raise
        except Garbled:
            self.lost.add(token, queues)
            raise
        if found is None:
            return None
        *shown, snoozes, kicks = found
        return Delivery(*shown, deadline, LEASE, snoozes, token, kicks=kicks)

    def end(self, reservation: Reservation, settlement: Settlement) -> None:
        self.call("end", reservation.id, self.token(reservation), settlement)

    def renew(self, reservation: Reservation) -> None:
        self.call("renewed", reservation.id, self.token(reservation))

    def renew_many(self, reservations: Sequence[Reservation]) -> list[AdapterError | None]:
        outcomes: list[AdapterError | None] = [None] * len(reservations)
        for number, one in enumerate(reservations):
            try:
                self.renew(one)
            except AdapterError as exc:
                outcomes[number] = exc
        return outcomes

    def token(self, reservation: Reservation) -> int:
        assert isinstance(reservation, Delivery)
        return reservation.token

    def queues(self) -> list[str]:
        found: list[str] = self.call("queues")
        return found

    def stats(self, queue: str) -> QueueStats:
        found: QueueStats = self.call("stats", queue)
        return found

    def purge(self, queue: str) -> int:
        count: int = self.call("purge", queue)
        return count

    def peek(self, queue: str, state: JobState, limit: int = 1) -> list[StoredJob]:
        found: list[StoredJob] = self.call("peek", queue, state, limit)
        return found

    def find(self, job_id: str) -> StoredJob | None:
        found: StoredJob | None = self.call("find", job_id)
        return found

    def buried(self, queue: str, limit: int = 100) -> list[StoredJob]:
        found: list[StoredJob] = self.call("buried", queue, limit)
        return found

    def kick(self, queue: str, job_id: str) -> None:
        self.call("kick", queue, job_id)

    def delete(self, queue: str, job_id: str) -> None:
        self.call("delete", queue, job_id)

    def pause(self, queue: str, duration: timedelta) -> None:
        self.call("pause", queue, duration)

    def shut(self) -> None:
        self.ask_at_last()
        for peer in self.peers:
            peer.close()


class InOneStep(Networked):
    """As correct: it settles and takes in one command, before which it asks for nothing that was lost."""

    def settle_and_take(
        self, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
    ) -> Reservation | None:
        ended = (reservation.id, self.token(reservation), settlement)
        return self.taken_by("end_and_take_for", ended, queues)


KINDS.update(Networked=Networked, InOneStep=InOneStep)


def open_networked(options: Options, context: AdapterContext) -> QueueAdapter:
    if options.kind not in KINDS:  # in another process than the one that has made the mutants
        import networked_mutants  # noqa: F401
    return KINDS[options.kind](options, context)


SPEC: Final = AdapterSpec(name="networked", schemes=("networked",), options=Options, open=open_networked)


class NetworkedHarness(ServerHarness):
    def __init__(self, kind: str = "Networked", server_fault: str = "none") -> None:
        super().__init__(
            SPEC,
            f"networked://127.0.0.1:{{port}}?namespace={{namespace}}&kind={kind}&folder={{tmp}}",
            [sys.executable, __file__, "{port}", "{tmp}", server_fault],
            patience=60.0,
        )


# --- the server ------------------------------------------------------------------------------------------


class Kept(Reference):
    """The jobs of one namespace."""

    def put(self, message: Message, delay: timedelta) -> None:
        self.enqueue(attrs.evolve(message, delay=self.clock.now() + delay if delay else None))

    def is_known(self, message: Message) -> bool:
        return False  # ids are not compared

    def lease_ends(self) -> float:
        return self.now() + LEASE.total_seconds()

    def is_late(self, held: Held) -> bool:
        return False  # only the token counts

    def take_for(self, queues: Sequence[str], token: int) -> tuple[Any, ...] | None:
        held = self.take(queues)
        if held is None:
            return None
        assert held.record is not None
        held.record.token = token
        return held.id, held.queue, held.body, held.attempt, held.snoozes, held.kicks

    def end_and_take_for(
        self, job_id: str, held: int, settlement: Settlement, queues: Sequence[str], token: int
    ) -> tuple[Any, ...] | None:
        self.end(job_id, held, settlement)
        return self.take_for(queues, token)

    def returned(self, tokens: set[int]) -> set[int]:
        """Make ready what is held under these tokens, as if it had not been taken."""
        return self.returned_of([r for r in self.disk.records if r.token in tokens])

    def returned_of(self, records: Sequence[Record]) -> set[int]:
        found = {record.token for record in records if record.state is JobState.RESERVED}
        for record in records:
            if record.state is JobState.RESERVED:
                record.state, record.ready_at = JobState.READY, 0.0
                record.token, record.attempts = 0, record.attempts - 1
        return found

    def returned_counted(self, tokens: set[int]) -> set[int]:
        """For a mutant."""
        for record in self.disk.records:
            record.attempts += record.token in tokens
        return self.returned(tokens)

    def returned_snoozed(self, tokens: set[int]) -> set[int]:
        """For a mutant."""
        for record in self.disk.records:
            record.snoozes += record.token in tokens
        return self.returned(tokens)

    def returned_kicked(self, tokens: set[int]) -> set[int]:
        """For a mutant."""
        for record in self.disk.records:
            record.kicks += record.token in tokens
        return self.returned(tokens)

    def returned_later(self, tokens: set[int]) -> set[int]:
        """For a mutant."""
        records = [record for record in self.disk.records if record.token in tokens]
        found = self.returned_of(records)
        for record in records:
            record.ready_at = self.now() + 1.0
        return found

    def all_returned(self) -> set[int]:
        """For a mutant."""
        return self.returned_of(self.disk.records)

    def _held(self, job_id: str, token: int) -> Held:
        found = [r for r in self.disk.records if r.message.id == job_id and r.token == token]
        if not found:
            raise LeaseLost(job_id, "it ended")
        return Held(job_id, "", b"", 0, token=token, record=found[0])

    def as_if_at(self, now: float, name: str, arguments: tuple[Any, ...]) -> Any:
        """For mutants: answer as at the time of whoever asks."""
        self.now = lambda: now  # type: ignore[method-assign]
        return getattr(self, name)(*arguments)

    def drop_expired(self, queues: Sequence[str], now: float) -> None:
        """For a mutant."""
        for record in self.of(queues[0], JobState.READY):
            if record.message.expiration is not None and record.message.expiration.timestamp() <= now:
                self.disk.records.remove(record)

    def end_of_anybody(self, job_id: str, settlement: Settlement) -> None:
        """For a mutant."""
        (record,) = [record for record in self.disk.records if record.message.id == job_id]
        self.end(job_id, record.token, settlement)

    def end(self, job_id: str, token: int, settlement: Settlement) -> None:
        with self.lock:
            self.settle(self._held(job_id, token), settlement)

    def renewed(self, job_id: str, token: int) -> None:
        with self.lock:
            self.renew(self._held(job_id, token))


class Keeper:
    """All namespaces, each in a file of its own."""

    def __init__(self, folder: Path, fault: str) -> None:
        self.folder = folder
        self.fault = fault
        self.lock = threading.Lock()
        #: For a mutant: until then it says that it is none of kessel's.
        is_again = fault == "loads" and any(folder.glob("*.jobs"))
        self.loads_until = time.monotonic() + 0.5 if is_again else 0.0
        for file in folder.glob("*.jobs") if fault != "forgets" else ():
            records, counter, paused = pickle.loads(file.read_bytes())
            kept = [record for record in records if self.survives(record)]
            for record in kept:
                self.restored(record)
            DISKS[file.stem] = Disk(records=kept, counter=counter, paused=paused)

    def survives(self, record: Record) -> bool:
        return self.fault != f"loses_{record.state}" and not (
            self.fault == "loses_delayed" and record.ready_at > SystemClock().now().timestamp() + 60
        )

    def restored(self, record: Record) -> None:
        match self.fault:
            case "resets_attempts":
                record.attempts = 0
            case "resets_kicks":
                record.kicks = 0
            case "resets_snoozes":
                record.snoozes = 0
            case "resets_priority":
                record.priority = 65536
            case "resets_order":
                record.number = -record.number
            case "cuts_messages":
                record.text = record.text[:10]
            case "forgets_reasons":
                record.reason = ""
            case "ends_delays":
                record.ready_at = 0.0
            case "changes_bodies":
                record.body = record.body.decode(errors="replace").encode()

    def done(self, namespace: str, name: str, arguments: tuple[Any, ...]) -> Any:
        with self.lock:
            if time.monotonic() < self.loads_until:
                return ProtocolError("it is loading")
            try:
                answer = getattr(Kept(namespace, AdapterContext(clock=SystemClock())), name)(*arguments)
            except AdapterError as exc:
                answer = exc
            is_look = name in _LOOKS or (name == "take_for" and answer is None)
            if self.fault != "writes_at_the_end" and not is_look:
                self.write(namespace)
            return answer

    def write(self, namespace: str) -> None:
        fresh = self.folder / f"{namespace}.new"
        disk = DISKS[namespace]
        fresh.write_bytes(pickle.dumps((disk.records, disk.counter, disk.paused)))
        fresh.replace(self.folder / f"{namespace}.jobs")


def serve(port: int, folder: Path, fault: str) -> None:
    keeper = Keeper(folder, fault)

    def talk(peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as reader:
            while header := reader.read(4):
                body = reader.read(HEADER.unpack(header)[0]) if len(header) == 4 else b""
                if len(header) < 4 or len(body) < HEADER.unpack(header)[0]:
                    return
                answer = pickle.dumps(keeper.done(*pickle.loads(body)))
                try:
                    peer.sendall(HEADER.pack(len(answer)) + answer)
                except OSError:
                    return

    def guarded(peer: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            talk(peer)

    if fault == "writes_at_the_end":
        import signal

        signal.signal(signal.SIGTERM, lambda *_: ([keeper.write(name) for name in DISKS], os._exit(0)))
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            peer = listener.accept()[0]
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=guarded, args=(peer,), daemon=True).start()


if __name__ == "__main__":
    sys.modules["networked"] = sys.modules["__main__"]  # what is pickled names this module
    serve(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

"""Mutants of the networked adapter and of its server: what a tired author gets wrong about lost connections,
restarts and clocks. Each names the case that shows it.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
from kessel_conformance.catalogue import cases
from networked import KINDS, LEASE, Delivery, Garbled, Networked
from wire import HEADER, Lost

from kessel_core.contract import (
    COMMIT,
    AdapterError,
    AdapterUnavailable,
    DoctorContext,
    EnqueueRejected,
    EnqueueUnknown,
    Finding,
    JobState,
    LeaseLost,
    Level,
    LostReserve,
    Message,
    QueueStats,
    Reservation,
    Rollback,
    Settlement,
    Snooze,
    UnknownJob,
    new_token,
)

# one line a mutant, where it fits
__all__ = ["MUTANTS", "SHOWN_HERE", "NetworkedMutant"]

#: The cases that need a server, a restart of it, or a second clock.
PREFIXES = ("lost.", "scale.", "durable.server_", "durable.killed_", "clocks.")
#: Of clocks that are set in one process, the reference shows what there is.
SHOWN_HERE = [name for name in cases() if name.startswith(PREFIXES) and not name.endswith("_over_a_jump")]


@attrs.frozen
class NetworkedMutant:
    name: str
    #: The case that shows it.
    case: str
    what: str
    #: The fault of the server, if that is what is wrong.
    server: str = "none"


MUTANTS: list[NetworkedMutant] = []


def mutant(name: str, case: str, what: str, **methods: Any) -> None:
    MUTANTS.append(NetworkedMutant(name, case, what))
    KINDS[name] = type(name, (Networked,), dict(methods))


def swallowing(method: Callable[..., Any], *, instead: Any = None) -> Callable[..., Any]:
    """The method, but a lost connection is answered like this."""

    def mutated(self: Networked, *arguments: Any, **named: Any) -> Any:
        try:
            return method(self, *arguments, **named)
        except AdapterUnavailable:
            return instead

    return mutated


def told_as_lost(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method of a reservation, but a server that cannot be reached is told as a lease that is lost."""

    def mutated(self: Networked, reservation: Reservation, *more: Any) -> Any:
        try:
            return method(self, reservation, *more)
        except AdapterUnavailable as exc:
            raise LeaseLost(reservation.id, "the server is gone") from exc

    return mutated


def repeating(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, but it is tried again after a lost connection."""

    def mutated(self: Networked, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except (AdapterUnavailable, Lost):
            return method(self, *arguments)

    return mutated


# --- enqueue ---------------------------------------------------------------------------------------------


def put_with(outcome: Callable[[Message, Lost], Exception | None]) -> Callable[[Networked, Message], None]:
    def put(self: Networked, message: Message) -> None:
        try:
            self.asked("put", message, self.delay(message))
        except Lost as exc:
            error = outcome(message, exc)
            if error is not None:
                raise error from exc

    return put


def put_twice(self: Networked, message: Message) -> None:
    try:
        self.asked("put", message, self.delay(message))
    except Lost:
        Networked.put(self, message)


def many_at_once(self: Networked, messages: Sequence[Message]) -> list[AdapterError | None]:
    for message in messages:
        self.enqueue(message)
    return [None] * len(messages)


def many_or_none(self: Networked, messages: Sequence[Message]) -> list[AdapterError | None]:
    outcomes = [*Networked.enqueue_many(self, messages)]
    failed = next((outcome for outcome in outcomes if outcome is not None), None)
    return [failed] * len(messages)


mutant(
    "enqueue_swallowed",
    "lost.enqueue",
    "an enqueue that is lost returns as stored",
    put=put_with(lambda message, exc: None),
)
mutant(
    "unknown_is_unavailable",
    "lost.enqueue",
    "an enqueue without an answer is surely not stored",
    put=put_with(lambda message, exc: AdapterUnavailable(str(exc))),
)
mutant(
    "unknown_is_rejected",
    "lost.enqueue",
    "an enqueue without an answer is rejected",
    put=put_with(lambda message, exc: EnqueueRejected(message.id, str(exc))),
)
mutant("enqueue_twice", "lost.enqueue", "an enqueue without an answer is sent again", put=put_twice)
mutant(
    "many_raises",
    "lost.enqueue",
    "a batch raises instead of answering for each job",
    enqueue_many=many_at_once,
)
mutant(
    "many_all_fail",
    "lost.enqueue",
    "a batch of which one job failed is told as failed",
    enqueue_many=many_or_none,
)


def many_going_on(self: Networked, messages: Sequence[Message]) -> list[AdapterError | None]:
    outcomes: list[AdapterError | None] = []
    for message in messages:
        try:
            self.put(message)
        except AdapterError as exc:
            outcomes.append(exc)
        else:
            outcomes.append(None)
    return outcomes


mutant(
    "many_goes_on",
    "lost.large_batch",
    "a batch goes on with its next job when one was not answered, and waits for each",
    enqueue_many=many_going_on,
)


def many_unsure(self: Networked, messages: Sequence[Message]) -> list[AdapterError | None]:
    outcomes = Networked.enqueue_many(self, messages)
    first = next((n for n, one in enumerate(outcomes) if isinstance(one, EnqueueUnknown)), len(outcomes))
    rest = [EnqueueUnknown(message.id, "an earlier job had no answer") for message in messages[first:]]
    return [*outcomes[:first], *rest]


def many_once_more(self: Networked, messages: Sequence[Message]) -> list[AdapterError | None]:
    """It stops where it cannot connect, and not where it has no answer."""
    outcomes: list[AdapterError | None] = []
    for number, message in enumerate(messages):
        try:
            self.put(message)
        except AdapterUnavailable as exc:
            return outcomes + [exc] * (len(messages) - number)
        except AdapterError as exc:
            outcomes.append(exc)
            if len(outcomes) > 2:
                return outcomes + [AdapterUnavailable("gone")] * (len(messages) - number - 1)
        else:
            outcomes.append(None)
    return outcomes


mutant(
    "many_unsure",
    "lost.large_batch",
    "a job that was not tried, because one before it was not answered, is told as perhaps stored",
    enqueue_many=many_unsure,
)
mutant(
    "many_once_more",
    "lost.large_batch",
    "a batch goes on where one job was not answered",
    enqueue_many=many_once_more,
)


# --- the connection ----------------------------------------------------------------------------------------


def asked_without_translation(self: Networked, name: str, *arguments: Any) -> Any:
    try:
        return Networked.asked(self, name, *arguments)
    except Lost as exc:
        raise exc.__cause__ or exc from None


def read_without_end(self: Networked, peer: socket.socket, size: int) -> bytes:
    return b"".join(iter(lambda: peer.recv(min(size, 1)), b"")) if size > 4 else peer.recv(size)


def read_once(self: Networked, peer: socket.socket, size: int) -> bytes:
    return peer.recv(size)


def read_spinning(self: Networked, peer: socket.socket, size: int) -> bytes:
    found, until = b"", time.monotonic() + 20
    while len(found) < size and time.monotonic() < until:
        found += (data := peer.recv(size - len(found)))
        if not data:
            time.sleep(0.01)
    return found


def asked_by_any(self: Networked, name: str, *arguments: Any) -> Any:
    idle: list[socket.socket] = self.__dict__.setdefault("idle", [])
    self.mine.peer = idle.pop() if idle else None
    try:
        return Networked.asked(self, name, *arguments)
    finally:
        if self.mine.peer is not None:
            idle.append(self.mine.peer)


def asked_odd(self: Networked, name: str, *arguments: Any) -> Any:
    try:
        return Networked.asked(self, name, *arguments)
    except (EOFError, pickle.UnpicklingError) as exc:
        raise AdapterError("the answer makes no sense") from exc


mutant(
    "foreign_errors",
    "lost.reserve",
    "errors of the socket are not translated",
    asked=asked_without_translation,
)
mutant("half_answers", "lost.slow", "what has arrived is taken for the whole answer", read=read_once)
mutant("end_not_seen", "lost.settle", "the end of the stream is waited over for ever", read=read_spinning)
mutant(
    "not_discarded",
    "lost.half_open",
    "a connection is used again after a missing answer",
    discard=lambda self: None,
    is_stale=lambda self, peer: False,
)
mutant(
    "idle_not_checked",
    "lost.all_connections_at_once",
    "connections are kept for all threads, and one that is taken from there is used as it is",
    asked=asked_by_any,
    is_stale=lambda self, peer: False,
)
mutant("no_timeout", "lost.half_open", "an answer is waited for without an end", timeout=lambda self: None)


def nothing_understood(self: Networked, answer: bytes) -> Any:
    try:
        return pickle.loads(answer)
    except Exception:
        return None


mutant(
    "stranger_foreign",
    "lost.strangers",
    "an answer that makes no sense raises what the codec raises",
    size=lambda self, header: HEADER.unpack(header)[0] % 4096,
    understood=lambda self, answer: pickle.loads(answer),
)
mutant(
    "stranger_believed",
    "lost.strangers",
    "an answer that makes no sense is none",
    size=lambda self, header: HEADER.unpack(header)[0] % 4096,
    understood=nothing_understood,
)


def asked_as_away(self: Networked, name: str, *arguments: Any) -> Any:
    try:
        return Networked.asked(self, name, *arguments)
    except Garbled as exc:
        raise AdapterUnavailable("the server cannot be reached") from exc


mutant(
    "stranger_is_away",
    "lost.strangers",
    "a server of another kind is one that cannot be reached",
    asked=asked_as_away,
)


def connected_for_ever(self: Networked) -> socket.socket:
    if getattr(self.mine, "peer", None) is None:
        address = (self.options.host, self.options.port)
        try:
            peer = socket.create_connection(address)
        except OSError as exc:
            raise AdapterUnavailable(f"cannot connect: {exc}") from exc
        peer.settimeout(self.timeout())
        self.mine.peer = peer
        self.peers.append(peer)
    return Networked.connected(self)


mutant(
    "connects_for_ever",
    "lost.strangers",
    "the time-out is set when it is connected, which a host that drops what it gets never lets happen",
    connected=connected_for_ever,
)
mutant(
    "lost_till_close",
    "lost.reserve_before_close",
    "an adapter that is closed asks no more for what lost reserves have taken",
    ask_at_last=lambda self: None,
)
mutant(
    "garbled_foreign",
    "lost.settle",
    "an answer that is garbled raises what the codec raises",
    understood=lambda self, answer: pickle.loads(answer),
)


def put_garbled(self: Networked, message: Message) -> None:
    try:
        Networked.put(self, message)
    except EnqueueUnknown as exc:
        raise exc.__cause__ if isinstance(exc.__cause__, Garbled) else exc from None


mutant(
    "garbled_is_no_outcome",
    "lost.enqueue",
    "an enqueue whose answer is garbled tells that, and not that the job may be stored",
    put=put_garbled,
)


# --- consumers -------------------------------------------------------------------------------------------


def renew_believing(self: Networked, reservation: Reservation) -> None:
    with contextlib.suppress(AdapterUnavailable):
        Networked.renew(self, reservation)


def renew_lost(self: Networked, reservation: Reservation) -> None:
    try:
        Networked.renew(self, reservation)
    except AdapterUnavailable:
        self.lost_one = reservation.id  # type: ignore[attr-defined]
        raise


def end_after_lost(self: Networked, reservation: Reservation, settlement: Settlement) -> None:
    if getattr(self, "lost_one", None) == reservation.id:
        raise LeaseLost(reservation.id, "it could not be extended")
    Networked.end(self, reservation, settlement)


def take_forgetting(self: Networked, queues: tuple[str, ...]) -> Reservation | None:
    """It does not look whether the first try has taken a job."""
    if getattr(self, "is_broken", False):
        return None
    try:
        return Networked.take(self, queues)
    except AdapterUnavailable:
        self.is_broken = True  # type: ignore[attr-defined]
        raise


def snooze_counted(self: Networked, reservation: Reservation, settlement: Settlement) -> None:
    try:
        Networked.end(self, reservation, settlement)
    except AdapterUnavailable:
        if not isinstance(settlement, Snooze):
            raise


def end_unsure(self: Networked, reservation: Reservation, settlement: Settlement) -> None:
    unsure: set[int] = self.__dict__.setdefault("unsure", set())
    try:
        Networked.end(self, reservation, settlement)
    except AdapterUnavailable:
        unsure.add(id(reservation))
        raise
    except LeaseLost:
        if id(reservation) not in unsure:
            raise


def end_refused(self: Networked, reservation: Reservation, settlement: Settlement) -> None:
    try:
        Networked.end(self, reservation, settlement)
    except AdapterUnavailable as exc:
        raise AdapterError("refused") from exc


mutant(
    "dead_is_empty",
    "lost.reserve",
    "a lost connection looks like an empty queue",
    take=swallowing(Networked.take),
)
mutant("never_recovers", "lost.reserve", "a reserve that failed once fails for ever", take=take_forgetting)
mutant("settle_swallowed", "lost.settle", "a settle that is lost returns", end=swallowing(Networked.end))
mutant("snooze_swallowed", "lost.settle", "a snooze that is lost returns", end=snooze_counted)
mutant("settle_refused", "lost.settle", "a settle that is lost is told as refused", end=end_refused)
mutant(
    "settle_told_as_lost",
    "lost.settle",
    "a settle that cannot reach the server is told as a lease that is lost",
    end=told_as_lost(Networked.end),
)
mutant(
    "unsure_is_done",
    "lost.settle",
    "a settle without an answer excuses whatever is refused after it",
    end=end_unsure,
)
mutant(
    "both_swallowed",
    "lost.settle",
    "a settle that is lost is not told where a reserve follows",
    settle_and_take=swallowing(Networked.settle_and_take),
)
mutant(
    "give_back_swallowed", "lost.settle", "a job that could not be given back is forgotten",
    give_back=swallowing(Networked.give_back),
)  # fmt: skip
mutant("renew_swallowed", "lost.extend", "an extend that is lost moves the deadline", renew=renew_believing)
mutant(
    "extend_told_as_lost",
    "lost.extend",
    "an extend that cannot reach the server is told as a lease that is lost",
    renew=told_as_lost(Networked.renew),
)
mutant(
    "renew_gives_up", "lost.extend", "a lease that was not extended is given up, though it holds",
    renew=renew_lost, end=end_after_lost,
)  # fmt: skip


def renews_loudly(self: Networked, held: Sequence[Reservation]) -> list[AdapterError | None]:
    """As if all leases went in one call: where that is not answered, it raises what it met."""
    outcomes = Networked.renew_many(self, held)
    for outcome in outcomes:
        if isinstance(outcome, AdapterUnavailable):
            raise outcome
    return outcomes


mutant(
    "renew_raises",
    "lost.extend",
    "leases that are extended together, and were not answered, raise instead of one outcome for each",
    renew_many=renews_loudly,
)


# --- reserves without an answer --------------------------------------------------------------------------


def take_unnoted(
    self: Networked, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
) -> Reservation | None:
    """The way of a busy slot has a reserve of its own, of which nobody takes note."""
    self.settle(reservation, settlement)
    deadline, token = self.clock.monotonic() + LEASE.total_seconds(), new_token()
    try:
        found = self.call("take_for", queues, token)
    except AdapterUnavailable:
        return None
    if found is None:
        return None
    *shown, snoozes, kicks = found
    return Delivery(*shown, deadline, LEASE, snoozes, token, kicks=kicks)


def given_back_all(self: Networked, lost: Sequence[LostReserve]) -> set[int]:
    """It cannot tell which job it was, and so gives back whatever is held."""
    self.call("all_returned")
    return {one.token for one in lost}


def given_back_once(self: Networked, lost: Sequence[LostReserve]) -> set[int]:
    Networked.given_back(self, lost)
    return {one.token for one in lost}


def given_back_one(self: Networked, lost: Sequence[LostReserve]) -> set[int]:
    Networked.given_back(self, lost[:1])
    return {one.token for one in lost}


mutant(
    "lost_reserves_but_one_forgotten",
    "lost.reserves_come_back",
    "of what several reserves took whose answers were lost at once, one job is given back",
    given_back=given_back_one,
)
mutant(
    "lost_reserve_forgotten",
    "lost.reserve_comes_back",
    "what a reserve took whose answer was lost waits for the end of its lease",
    note=lambda self, exc, token, queues: None,
)
mutant(
    "lost_next_forgotten",
    "lost.reserve_comes_back",
    "what a settle_and_reserve took whose answer was lost waits for the end of its lease",
    settle_and_take=take_unnoted,
)
mutant(
    "lost_reserve_takes_all",
    "lost.reserve_comes_back",
    "after a lost answer everything that anybody holds is given back",
    given_back=given_back_all,
)
mutant(
    "lost_reserve_counts",
    "lost.reserve_uncounted",
    "what a reserve took whose answer was lost has been tried once more when it is given back",
    given_back=lambda self, lost: self.call("returned_counted", {one.token for one in lost}),
)
mutant(
    "lost_reserve_is_snooze",
    "lost.reserve_uncounted",
    "what a reserve took whose answer was lost has been snoozed when it is given back",
    given_back=lambda self, lost: self.call("returned_snoozed", {one.token for one in lost}),
)
mutant(
    "lost_reserve_is_kick",
    "lost.reserve_uncounted",
    "what a reserve took whose answer was lost has been kicked when it is given back",
    given_back=lambda self, lost: self.call("returned_kicked", {one.token for one in lost}),
)
mutant(
    "lost_reserve_back_later",
    "lost.reserve_wakes_others",
    "what a reserve took whose answer was lost is given back, but nobody sees it for a second",
    given_back=lambda self, lost: self.call("returned_later", {one.token for one in lost}),
)
mutant(
    "lost_reserve_not_asked_for_in_a_wait",
    "lost.reserve_asked_for_by_who_waits",
    "a consumer that waits does not ask for what its lost reserve took",
    looks_again=lambda self, queues: None,
)
mutant(
    "lost_reserve_untold",
    "lost.reserve_wakes_those_beside",
    "what a reserve took whose answer was lost is given back, and who waits in the same process sleeps on",
    looks_again=lambda self, queues: None,
)
mutant(
    "lost_reserve_asked_once",
    "lost.reserve_done_late",
    "a reserve that is not done yet when it is asked for is forgotten",
    given_back=given_back_once,
)


def looks_after(seconds: int) -> Callable[..., datetime]:
    """A consumer that waits looks so late that it has to be told."""
    return lambda self, queues: self.clock.now() + timedelta(seconds=seconds)


def asked_and_woken(self: Networked, name: str, *arguments: Any) -> Any:
    try:
        return Networked.asked(self, name, *arguments)
    except Lost:
        if name != "end":
            self.line.wake()
        raise


def told_before(self: Networked, messages: Sequence[Message]) -> list[AdapterError | None]:
    outcomes: list[AdapterError | None] = []
    for message in messages:
        self.announce(message.queue)
        try:
            self.put(message)
        except AdapterError as exc:
            outcomes.append(exc)
        else:
            outcomes.append(None)
    return outcomes


mutant(
    "unanswered_call_wakes_nobody",
    "lost.wakes_who_waits",
    "who waits is told of what a call of its process has made ready only if that is answered",
    looks_again=looks_after(5),
)
mutant(
    "unanswered_settle_wakes_nobody",
    "lost.wakes_who_waits",
    "who waits is told of what an unanswered enqueue may have stored, not of what a settle has given back",
    asked=asked_and_woken,
    looks_again=looks_after(5),
)
mutant(
    "told_before_it_is_stored",
    "lost.wakes_who_waits_late",
    "who waits is told of a batch before the server has it, finds nothing, and sleeps on",
    enqueue_many=told_before,
    looks_again=looks_after(5),
)
mutant(
    "done_late_wakes_nobody",
    "lost.wakes_who_waits_late",
    "who waits is not told of what the server does after its caller has given up",
    looks_again=looks_after(20),
)


# --- operations ------------------------------------------------------------------------------------------


def nothing_counted(self: Networked, queue: str) -> QueueStats:
    found: QueueStats = swallowing(Networked.stats, instead=QueueStats(queue=queue))(self, queue)
    return found


def doctor_calm(self: Networked, context: DoctorContext) -> list[Finding]:
    return [Finding(Level.OK, "reachable", "it was, when it was opened")]


def doctor_raising(self: Networked, context: DoctorContext) -> list[Finding]:
    self.stats("any")
    return Networked.doctor(self, context)


def kick_unknown(self: Networked, queue: str, job_id: str) -> None:
    try:
        Networked.kick(self, queue, job_id)
    except AdapterUnavailable as exc:
        raise UnknownJob(job_id, queue) from exc


def till_it_is_gone(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, but tried again after a lost connection; what is not there then was done the first time."""

    def mutated(self: Networked, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except AdapterUnavailable:
            with contextlib.suppress(UnknownJob):
                method(self, *arguments)

    return mutated


mutant("stats_empty", "lost.look", "a server that is gone has no jobs", stats=nothing_counted)
mutant(
    "queues_empty",
    "lost.look",
    "a server that is gone has no queues",
    queues=swallowing(Networked.queues, instead=[]),
)
mutant(
    "peek_empty",
    "lost.look",
    "a server that is gone shows no jobs",
    peek=swallowing(Networked.peek, instead=[]),
)
mutant(
    "find_nothing",
    "lost.look",
    "a server that is gone has no job of that id",
    find=swallowing(Networked.find),
)
mutant(
    "buried_empty",
    "lost.look",
    "a server that is gone has no failures",
    buried=swallowing(Networked.buried, instead=[]),
)
mutant(
    "doctor_calm", "lost.look", "the doctor of a server that is gone finds nothing wrong", doctor=doctor_calm
)
mutant("doctor_raising", "lost.look", "the doctor of a server that is gone raises", doctor=doctor_raising)
mutant("kick_swallowed", "lost.change", "a kick that is lost returns", kick=swallowing(Networked.kick))
mutant("kick_unknown", "lost.change", "a kick that is lost finds no such job", kick=kick_unknown)
mutant(
    "delete_swallowed", "lost.change", "a delete that is lost returns", delete=swallowing(Networked.delete)
)
mutant(
    "purge_swallowed",
    "lost.change",
    "a purge that is lost found nothing",
    purge=swallowing(Networked.purge, instead=0),
)
mutant(
    "purge_twice",
    "lost.change",
    "a purge is sent again, and counts what is left",
    purge=repeating(Networked.purge),
)
mutant(
    "delete_twice",
    "lost.change",
    "a delete is sent again, and finds no such job",
    delete=repeating(Networked.delete),
)
mutant(
    "delete_till_gone",
    "lost.change",
    "a delete is sent again, and takes what has come under its id since",
    delete=till_it_is_gone(Networked.delete),
)
mutant(
    "kick_twice", "lost.change", "a kick is sent again, and finds no such job", kick=repeating(Networked.kick)
)
mutant(
    "kick_shown_till_gone",
    "lost.change",
    "a kick of a job that was shown is sent again, and kicks what was buried since",
    kick_shown=till_it_is_gone(Networked.kick_shown),
)
mutant(
    "delete_shown_till_gone",
    "lost.change",
    "a delete of a job that was shown is sent again, and takes what has come under its id since",
    delete_shown=till_it_is_gone(Networked.delete_shown),
)
mutant("pause_swallowed", "lost.change", "a pause that is lost returns", pause=swallowing(Networked.pause))


# --- cost ------------------------------------------------------------------------------------------------


def looking_at_all(method: Callable[..., Any], state: JobState) -> Callable[..., Any]:
    """The method, but it lists the whole queue first, as to find what it is called with."""

    def mutated(self: Networked, queue: Any, *arguments: Any) -> Any:
        for name in [queue] if isinstance(queue, str) else queue:
            self.peek(name, state, 10_000)
        return method(self, queue, *arguments)

    return mutated


def purge_by_one(self: Networked, queue: str) -> int:
    count = 0
    while jobs := self.peek(queue, JobState.READY, 10_000):
        self.delete(queue, jobs[0].id)
        count += 1
    return count


mutant(
    "kick_looks_at_all",
    "scale.linear",
    "each kick lists all that are buried",
    kick=looking_at_all(Networked.kick, JobState.BURIED),
)
mutant(
    "take_looks_at_all",
    "scale.linear",
    "each reserve lists all that are ready",
    take=looking_at_all(Networked.take, JobState.READY),
)
mutant("purge_by_one", "scale.linear", "a purge lists what is left before each job", purge=purge_by_one)


# --- the end of the server -------------------------------------------------------------------------------


def server_fault(name: str, what: str) -> None:
    MUTANTS.append(NetworkedMutant(f"server_{name}", "durable.server_restart", what, server=name))


server_fault("forgets", "nothing was written")
server_fault(
    "writes_at_the_end", "jobs are written when the server is stopped in order, but process-crash is declared"
)
server_fault("loses_ready", "ready jobs are lost by a restart")
server_fault("loses_delayed", "delayed jobs are lost by a restart")
server_fault("loses_buried", "buried jobs are lost by a restart")
server_fault("loses_reserved", "jobs that are held are lost by a restart")
server_fault("resets_attempts", "attempts are counted from zero after a restart")
server_fault("resets_snoozes", "snoozes are counted from zero after a restart")
server_fault("resets_kicks", "kicks are counted from zero after a restart")
server_fault("resets_priority", "jobs have the default priority after a restart")
server_fault("resets_order", "jobs are read from the end of the file")
server_fault("ends_delays", "delayed jobs are ready after a restart")
server_fault("forgets_reasons", "reasons of burials are lost by a restart")
server_fault("cuts_messages", "messages of burials are written without their end")
server_fault("changes_bodies", "bodies are written as text")


MUTANTS.append(
    NetworkedMutant(
        "loading_is_a_stranger",
        "lost.while_restarting",
        "a server that is loading is taken for one that is not kessel's",
        server="loads",
    )
)


# --- the end of a process --------------------------------------------------------------------------------


def asked_behind(self: Networked, name: str, *arguments: Any) -> Any:
    """Enqueues are sent with the call that follows."""
    behind = self.__dict__.setdefault("behind", [])
    if name == "put":
        behind.append(arguments)
        return None
    while behind:
        Networked.asked(self, "put", *behind.pop(0))
    return Networked.asked(self, name, *arguments)


def end_in_two(self: Networked, reservation: Reservation, settlement: Settlement) -> None:
    if not isinstance(settlement, Rollback):
        Networked.end(self, reservation, settlement)
        return
    Networked.end(self, reservation, COMMIT)
    Networked.put(self, Message(reservation.id or "", reservation.queue, reservation.body, 65536))


def snooze_in_two(self: Networked, reservation: Reservation, settlement: Settlement) -> None:
    if not isinstance(settlement, Snooze):
        Networked.end(self, reservation, settlement)
        return
    Networked.end(self, reservation, COMMIT)
    Networked.put(self, Message(reservation.id or "", reservation.queue, reservation.body, 65536))


def kick_in_two(self: Networked, queue: str, job_id: str) -> None:
    (job,) = [job for job in self.buried(queue, 10**6) if job.id == job_id] or [None]
    if job is None:
        raise UnknownJob(job_id, queue)
    self.delete(queue, job_id)
    Networked.put(self, Message(job_id, queue, job.body, job.priority or 0))


def busy_in_two(
    self: Networked, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
) -> Reservation | None:
    """The way of a busy slot commits what it has only just taken, and puts it again if it is told so."""
    following = self.take(queues)
    self.end(reservation, settlement)
    if following is not None:
        self.end(following, COMMIT)
        Networked.put(self, Message(following.id or "", following.queue, following.body, 65537))
        following = self.take(queues)
    return following


def put_locked(self: Networked, message: Message) -> None:
    lock = Path(self.options.folder) / f"{self.options.namespace}.lock"
    until = time.monotonic() + 40
    while time.monotonic() < until:
        try:
            lock.touch(exist_ok=False)
        except FileExistsError:
            time.sleep(0.01)
            continue
        break
    Networked.put(self, message)
    lock.unlink()


mutant("enqueue_behind", "durable.killed_process", "an enqueue returns before it is sent", asked=asked_behind)
mutant("rollback_in_two", "durable.killed_process", "a rollback is a commit and a new job", end=end_in_two)
mutant("snooze_in_two", "durable.killed_process", "a snooze is a commit and a new job", end=snooze_in_two)
mutant("kick_in_two", "durable.killed_process", "a kick is a delete and a new job", kick=kick_in_two)
mutant(
    "busy_in_two",
    "durable.killed_process",
    "a settle with a reserve takes the next job out, and puts it back",
    settle_and_take=busy_in_two,
)
mutant("lock_left", "durable.killed_process", "a process that is killed leaves a lock", put=put_locked)


# --- clocks ----------------------------------------------------------------------------------------------


def delay_past_clock(self: Networked, message: Message) -> timedelta:
    """Counted from the time of the machine, and not from that of the given clock."""
    return timedelta(0) if message.delay is None else max(timedelta(0), message.delay - datetime.now(UTC))


def asked_at(method: str, now: Callable[[Networked], float]) -> Callable[..., Any]:
    """Let the server go by the time of whoever asks, in this method."""

    def asked(self: Networked, name: str, *arguments: Any) -> Any:
        if name == method:
            return Networked.asked(self, "as_if_at", now(self), name, arguments)
        return Networked.asked(self, name, *arguments)

    return asked


def own_now(self: Networked) -> float:
    return self.clock.now().timestamp()


def take_unexpired(self: Networked, queues: tuple[str, ...]) -> Reservation | None:
    self.call("drop_expired", queues, own_now(self))
    return Networked.take(self, queues)


def settle_and_take_by_own_clock(
    self: Networked, reservation: Reservation, settlement: Settlement, queues: tuple[str, ...]
) -> Reservation | None:
    self.settle(reservation, settlement)
    deadline, token = self.clock.monotonic() + LEASE.total_seconds(), new_token()
    found = self.call("as_if_at", own_now(self), "take_for", (queues, token))
    if found is None:
        return None
    *shown, snoozes, kicks = found
    return Delivery(*shown, deadline, LEASE, snoozes, token, kicks=kicks)


def many_past_clock(self: Networked, messages: Sequence[Message]) -> list[AdapterError | None]:
    for message in messages:
        self.call("put", message, delay_past_clock(self, message))
    return [None] * len(messages)


def end_of_anybody(self: Networked, reservation: Reservation, settlement: Settlement) -> None:
    self.call("end_of_anybody", reservation.id, settlement)


mutant(
    "delay_past_clock",
    "clocks.delays",
    "delays count from another clock than the given one",
    delay=delay_past_clock,
)
mutant(
    "take_by_own_clock",
    "clocks.delays",
    "jobs are due by the clock of the worker",
    asked=asked_at("take_for", own_now),
)
mutant(
    "take_by_time",
    "clocks.delays",
    "jobs are due by `time.time` of the worker",
    asked=asked_at("take_for", lambda self: time.time()),
)
mutant(
    "settle_by_own_clock",
    "clocks.delays",
    "pauses end by the clock of the worker",
    asked=asked_at("end", own_now),
)
mutant(
    "pause_by_own_clock",
    "clocks.delays",
    "a queue is paused by the clock of the operator",
    asked=asked_at("pause", own_now),
)
mutant(
    "lease_by_own_clock",
    "clocks.leases",
    "leases are counted by the clock of the worker",
    asked=asked_at("take_for", own_now),
)
mutant(
    "renew_by_own_clock",
    "clocks.extensions",
    "an extended lease ends by the clock of the worker",
    asked=asked_at("renewed", own_now),
)
mutant(
    "renew_many_by_own_clock",
    "clocks.extensions",
    "leases that are extended together end by the clock of the worker",
    renew_many=lambda self, held: [
        self.call("as_if_at", own_now(self), "renewed", (one.id, self.token(one))) for one in held
    ],
)
mutant(
    "next_by_own_clock",
    "clocks.leases",
    "the lease of what is taken with a settlement is counted by the clock of the worker",
    settle_and_take=settle_and_take_by_own_clock,
)
mutant(
    "batch_past_clock",
    "clocks.delays",
    "delays of a batch count from another clock than the given one",
    enqueue_many=many_past_clock,
)
mutant(
    "expired_dropped", "clocks.expiration", "a worker drops what is expired by its clock", take=take_unexpired
)
mutant("token_ignored", "clocks.fenced", "the server does not look who settles", end=end_of_anybody)

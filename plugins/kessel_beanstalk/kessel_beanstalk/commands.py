"""The protocol: each command as bytes, and each of its valid replies as a value.

A refusal that a command may get (no such job, draining) is a reply like any other: False, None or a
`Refused`. Numbers are ints. A reply that is not in the table of its command is an error. Knows nothing of
connections; see `connection.Connection.ask`. A little over 350 lines: one short entry for each command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, Generic, TypeAlias, TypeVar

import attrs

from kessel_beanstalk.framing import MalformedReply, ReplyReader, UnendedChunk
from kessel_core.contract import JobState

__all__ = [
    "Command", "JobStats", "Kind", "Refused", "ServerFacts", "StoredBody", "TubeStats", "bury", "delete",
    "ignore", "kick_job", "list_tubes", "pause_tube", "peek", "peek_buried", "peek_delayed", "peek_ready",
    "put", "release", "reserve", "stats", "stats_job", "stats_tube", "touch", "use", "watch",
]  # fmt: skip

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Read: TypeAlias = Callable[[ReplyReader, list[bytes]], T]


class Kind(Generic[T_co]):
    """A kind of command: its name, and how to read each of its valid replies."""

    __slots__ = ("answers", "name")

    def __init__(self, name: str, answers: Mapping[bytes, Read[T_co]]) -> None:
        self.name = name
        self.answers = answers


@attrs.define(eq=False)  # not frozen: created for every command, and that would take three times as long
class Command(Generic[T_co]):
    """One command, ready to be sent."""

    #: Its name and replies.
    kind: Kind[T_co]
    #: The bytes to send, with the line end.
    line: bytes


@attrs.define(eq=False)  # as above
class StoredBody:
    """A job as the server returns it."""

    #: Its id on the server.
    server_id: int
    #: The body as it was put.
    body: bytes


@attrs.frozen
class Refused:
    """A refusal by the server, after which the connection can still be used."""

    #: Such as `DRAINING`.
    status: str
    #: Id of a job that a put stored and buried at once; else 0.
    server_id: int = 0


@attrs.frozen(kw_only=True)
class JobStats:
    """The server's statistics of one job."""

    server_id: int
    tube: str
    state: JobState
    #: Its priority number.
    pri: int
    #: Seconds since it was put.
    age: int
    #: Its time-to-run in seconds: the length of each lease.
    ttr: int
    #: Seconds until the end of its lease or delay, rounded down.
    time_left: int
    #: Deliveries so far.
    reserves: int
    releases: int
    kicks: int


@attrs.frozen(kw_only=True)
class TubeStats:
    """The server's statistics of one tube."""

    ready: int
    reserved: int
    delayed: int
    buried: int
    #: Jobs that were ever put into it, since it came into being.
    total: int
    #: Length of the last pause; None: it is not paused.
    pause: timedelta | None
    #: Rest of the pause, rounded down to seconds.
    pause_left: timedelta


@attrs.frozen(kw_only=True)
class ServerFacts:
    """The server's statistics of itself."""

    version: str
    #: Random for each server process, so a change means a restart.
    server_id: str
    #: Largest body that it accepts, in bytes.
    max_job_size: int
    #: Whether it keeps jobs in a binlog.
    binlog: bool
    #: Whether it refuses new jobs until it is restarted.
    draining: bool
    #: Number of jobs put so far.
    total_jobs: int

    def __str__(self) -> str:
        return (
            f"beanstalkd {self.version}, binlog {'on' if self.binlog else 'off'}, "
            f"max job size {self.max_job_size}, {'draining, ' if self.draining else ''}id {self.server_id}"
        )


# --- reading replies, from the words of their first line ---------------------------------


def _yes(_: ReplyReader, __: list[bytes]) -> bool:
    return True


def _no(_: ReplyReader, __: list[bytes]) -> bool:
    return False


def _none(_: ReplyReader, __: list[bytes]) -> None:
    return None


def _number(_: ReplyReader, words: list[bytes]) -> int:
    try:
        return int(words[1])
    except (IndexError, ValueError) as exc:
        raise MalformedReply(f"expected a number, got {words!r:.80}") from exc


def _body(reader: ReplyReader, words: list[bytes]) -> StoredBody:
    try:
        _, server_id, size = words
        return StoredBody(int(server_id), reader.chunk(int(size)))
    except ValueError as exc:
        raise MalformedReply(f"expected a job, got {words!r:.80}") from exc


def _body_if_whole(reader: ReplyReader, words: list[bytes]) -> StoredBody | None:
    """Read a job that was asked for by its number; None if it is still being put.

    The server has a number for it from the first line of the `put` on, and answers with as much of the body
    as it has received, filled up to the length (seen with beanstalkd 1.12).
    """
    try:
        return _body(reader, words)
    except UnendedChunk:
        return None


def _fields(reader: ReplyReader, words: list[bytes]) -> dict[str, str]:
    """Read `key: value` lines."""
    entries = (line.partition(": ") for line in _lines(reader, words))
    return {key: value.strip('"') for key, _, value in entries}


def _lines(reader: ReplyReader, words: list[bytes]) -> list[str]:
    chunk = reader.chunk(_number(reader, words))
    try:
        lines = chunk.decode("ascii").splitlines()
    except UnicodeDecodeError as exc:
        raise MalformedReply("statistics that are not ASCII") from exc
    if not lines or lines[0] != "---":
        raise MalformedReply("statistics without their first line")
    return lines[1:]


def _names(reader: ReplyReader, words: list[bytes]) -> list[str]:
    return [line[2:] for line in _lines(reader, words) if line.startswith("- ")]


def _from_fields(make: Callable[[dict[str, str]], T]) -> Read[T]:
    def read(reader: ReplyReader, words: list[bytes]) -> T:
        try:
            return make(_fields(reader, words))
        except (KeyError, ValueError) as exc:
            raise MalformedReply(f"statistics that lack or garble something: {exc}") from exc

    return read


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**64:
        raise ValueError(f"no count: {number}")
    return number


def _seconds(text: str) -> int:
    """Read a span; negative for what is over. The protocol knows no longer ones than 32 bits can say."""
    number = int(text)
    if abs(number) >= 2**34:
        raise ValueError(f"no span: {number}")
    return number


def _job_stats(fields: dict[str, str]) -> JobStats | None:
    if fields["state"] == "invalid":  # it is still being put, see `_body_if_whole`
        return None
    return JobStats(
        server_id=_count(fields["id"]),
        tube=fields["tube"],
        state=JobState(fields["state"]),
        pri=_count(fields["pri"]),
        age=_seconds(fields["age"]),
        ttr=_seconds(fields["ttr"]),
        time_left=_seconds(fields["time-left"]),
        reserves=_count(fields["reserves"]),
        releases=_count(fields["releases"]),
        kicks=_count(fields["kicks"]),
    )


def _tube_stats(fields: dict[str, str]) -> TubeStats:
    pause = _seconds(fields["pause"])
    return TubeStats(
        ready=_count(fields["current-jobs-ready"]),
        reserved=_count(fields["current-jobs-reserved"]),
        delayed=_count(fields["current-jobs-delayed"]),
        buried=_count(fields["current-jobs-buried"]),
        total=_count(fields["total-jobs"]),
        pause=timedelta(seconds=pause) if pause else None,
        pause_left=timedelta(seconds=_seconds(fields["pause-time-left"])),
    )


def _server_facts(fields: dict[str, str]) -> ServerFacts:
    return ServerFacts(
        version=fields["version"],
        server_id=fields["id"],
        max_job_size=_count(fields["max-job-size"]),
        binlog=_count(fields["binlog-current-index"]) > 0,
        draining=fields.get("draining") == "true",  # missing in older servers
        total_jobs=_count(fields["total-jobs"]),
    )


def _refusals(*statuses: bytes) -> dict[bytes, Read[Refused]]:
    def refused(status: bytes) -> Read[Refused]:
        answer = Refused(status.decode())
        return lambda _, __: answer

    return {status: refused(status) for status in statuses}


def _buried_at_once(reader: ReplyReader, words: list[bytes]) -> Refused:
    return Refused("BURIED", _number(reader, words))


# --- commands and their replies ------------------------------------------------------------------------

_BODY_OR_NONE: Final[Mapping[bytes, Read[StoredBody | None]]] = {b"FOUND": _body, b"NOT_FOUND": _none}
_REFUSED_PUT: Final = _refusals(b"JOB_TOO_BIG", b"DRAINING", b"OUT_OF_MEMORY")
_PUT: Final = Kind[int | Refused]("put", {b"INSERTED": _number, b"BURIED": _buried_at_once, **_REFUSED_PUT})
_USE: Final = Kind[None]("use", {b"USING": _none})
_WATCH: Final = Kind[None]("watch", {b"WATCHING": _none})
_IGNORE: Final = Kind[None]("ignore", {b"WATCHING": _none})
_RESERVE: Final = Kind[StoredBody | None](
    "reserve-with-timeout", {b"RESERVED": _body, b"TIMED_OUT": _none, b"DEADLINE_SOON": _none}
)
_DELETE: Final = Kind[bool]("delete", {b"DELETED": _yes, b"NOT_FOUND": _no})
_TOUCH: Final = Kind[bool]("touch", {b"TOUCHED": _yes, b"NOT_FOUND": _no})
_KICK: Final = Kind[bool]("kick-job", {b"KICKED": _yes, b"NOT_FOUND": _no})
_PAUSE: Final = Kind[bool]("pause-tube", {b"PAUSED": _yes, b"NOT_FOUND": _no})
_RELEASE: Final = Kind[Refused | None](
    "release",
    {b"RELEASED": _none, **_refusals(b"NOT_FOUND", b"BURIED", b"OUT_OF_MEMORY", b"INTERNAL_ERROR")},
)
_BURY: Final = Kind[Refused | None](
    "bury", {b"BURIED": _none, **_refusals(b"NOT_FOUND", b"OUT_OF_MEMORY", b"INTERNAL_ERROR")}
)
_PEEK: Final = Kind[StoredBody | None]("peek", {b"FOUND": _body_if_whole, b"NOT_FOUND": _none})
_STATS_JOB: Final = Kind[JobStats | None]("stats-job", {b"OK": _from_fields(_job_stats), b"NOT_FOUND": _none})
_STATS_TUBE: Final = Kind[TubeStats | None](
    "stats-tube", {b"OK": _from_fields(_tube_stats), b"NOT_FOUND": _none}
)
_STATS: Final = Kind[ServerFacts]("stats", {b"OK": _from_fields(_server_facts)})
_LIST: Final = Kind[list[str]]("list-tubes", {b"OK": _names})


# --- the commands; names of tubes are checked before they come here ---------------------------------


def put(body: bytes, pri: int, delay: int, ttr: int) -> Command[int | Refused]:
    """Store a job in the current tube; replies with its id. Delay and ttr in seconds."""
    return Command(_PUT, b"put %d %d %d %d\r\n%b\r\n" % (pri, delay, ttr, len(body), body))


def use(tube: str) -> Command[None]:
    """Choose the tube for `put`, `peek_ready`, `peek_delayed` and `peek_buried`."""
    return Command(_USE, b"use %b\r\n" % tube.encode("ascii"))


def watch(tube: str) -> Command[None]:
    """Reserve jobs from this tube, too."""
    return Command(_WATCH, b"watch %b\r\n" % tube.encode("ascii"))


def ignore(tube: str) -> Command[None]:
    """Reserve no more jobs from this tube; it must not be the only one."""
    return Command(_IGNORE, b"ignore %b\r\n" % tube.encode("ascii"))


def reserve(seconds: int) -> Command[StoredBody | None]:
    """Reserve the next job; None if there was none for so many seconds."""
    return Command(_RESERVE, b"reserve-with-timeout %d\r\n" % seconds)


def delete(server_id: int) -> Command[bool]:
    """Remove a job that this connection holds, or that nobody holds."""
    return Command(_DELETE, b"delete %d\r\n" % server_id)


def release(server_id: int, pri: int, delay: int) -> Command[Refused | None]:
    """Make a reserved job ready again, after so many seconds."""
    return Command(_RELEASE, b"release %d %d %d\r\n" % (server_id, pri, delay))


def bury(server_id: int, pri: int) -> Command[Refused | None]:
    """Set a reserved job aside."""
    return Command(_BURY, b"bury %d %d\r\n" % (server_id, pri))


def touch(server_id: int) -> Command[bool]:
    """Renew the lease of a reserved job."""
    return Command(_TOUCH, b"touch %d\r\n" % server_id)


def kick_job(server_id: int) -> Command[bool]:
    """Make one buried or delayed job ready."""
    return Command(_KICK, b"kick-job %d\r\n" % server_id)


def peek(server_id: int) -> Command[StoredBody | None]:
    """Return a job, whatever its state; None if it does not exist, or not yet as a whole."""
    return Command(_PEEK, b"peek %d\r\n" % server_id)


peek_ready: Final = Command(Kind[StoredBody | None]("peek-ready", _BODY_OR_NONE), b"peek-ready\r\n")
peek_delayed: Final = Command(Kind[StoredBody | None]("peek-delayed", _BODY_OR_NONE), b"peek-delayed\r\n")
peek_buried: Final = Command(Kind[StoredBody | None]("peek-buried", _BODY_OR_NONE), b"peek-buried\r\n")
stats: Final = Command(_STATS, b"stats\r\n")
list_tubes: Final = Command(_LIST, b"list-tubes\r\n")


def stats_job(server_id: int) -> Command[JobStats | None]:
    """Return the statistics of a job; None if it does not exist, or not yet as a whole."""
    return Command(_STATS_JOB, b"stats-job %d\r\n" % server_id)


def stats_tube(tube: str) -> Command[TubeStats | None]:
    """Return the statistics of a tube; None if it does not exist."""
    return Command(_STATS_TUBE, b"stats-tube %b\r\n" % tube.encode("ascii"))


def pause_tube(tube: str, seconds: int) -> Command[bool]:
    """Deliver no jobs of a tube for so many seconds."""
    return Command(_PAUSE, b"pause-tube %b %d\r\n" % (tube.encode("ascii"), seconds))

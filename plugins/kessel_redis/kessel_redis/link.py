"""One connection: commands go out together, and their answers are awaited for a bounded time.

It stands on the connections of redis-py, which bring TLS, access lists, Unix sockets and the parser of
hiredis, and not on its client, which repeats commands by itself: one call with a time-out ran a script
eleven times. Nothing here may send a command twice.
"""

from __future__ import annotations

import re
import select
from typing import Any, Final

import redis

__all__ = ["Link", "Lost", "Refused", "refusal"]

#: What redis-py takes off the text of an answer, and makes an exception of its own. Some of these count as a
#: lost connection there; but the server has answered, and has done nothing. The order matters.
_CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (redis.exceptions.NoScriptError, "NOSCRIPT"),
    (redis.exceptions.OutOfMemoryError, "OOM"),
    (redis.exceptions.ReadOnlyError, "READONLY"),
    (redis.exceptions.NoPermissionError, "NOPERM"),
    (redis.exceptions.AuthenticationError, "NOAUTH"),
    (redis.exceptions.BusyLoadingError, "LOADING"),
    (redis.exceptions.MasterDownError, "MASTERDOWN"),
    (redis.exceptions.ClusterDownError, "CLUSTERDOWN"),
    (redis.exceptions.MovedError, "MOVED"),
    (redis.exceptions.AskError, "ASK"),
    (redis.exceptions.TryAgainError, "TRYAGAIN"),
    (redis.exceptions.ClusterCrossSlotError, "CROSSSLOT"),
)
#: Before version 7 an error inside a script has its code in the middle of the text.
_INSIDE: Final = re.compile(r"^Error running script.*\b(OOM|READONLY|NOPERM|MISCONF|WRONGTYPE|NOREPLICAS)\b")
#: What else begins with a word in capitals is a sentence: redis-py takes `ERR` off.
_CODE: Final = re.compile("[A-Z]{3,}")


#: What a socket says of a time-out, without a number of the system; so may a signal handler.
_TIMED_OUT: Final = ("timed out",)


class Lost(Exception):
    """The connection is gone, or the answer did not come in time.

    `was_sent` says whether a whole command may have reached the server.
    """

    def __init__(self, why: str, was_sent: bool) -> None:
        super().__init__(why)
        self.why = why
        self.was_sent = was_sent


class Refused(Exception):
    """The server answered with an error. `code` is its first word, `why` the rest."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"{why} ({code})")
        self.code = code
        self.why = why


def refusal(exc: Exception) -> Refused | None:
    """Return what a server answered, or None if redis-py tells of something else."""
    text = " ".join(str(exc).split())
    if isinstance(exc, redis.ResponseError) and (inside := _INSIDE.search(text)) is not None:
        return Refused(inside[1], text)
    for kind, code in _CODES:
        if isinstance(exc, kind):
            return Refused(code, text)
    if "max number of clients" in text:
        return Refused("ERR", text)
    if isinstance(exc, redis.ResponseError):
        code, _, why = text.partition(" ")
        return Refused(code, why) if _CODE.fullmatch(code) else Refused("ERR", text)
    return None


class Link:
    """One open connection; used by one thread at a time. After `Lost` it is good for nothing but `close`.

    Args:
        connection: One of redis-py, whose types are incomplete; it is connected.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        #: Its descriptor.
        self.fd: int = connection._sock.fileno()
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)

    def is_sound(self) -> bool:
        """Whether an idle connection is still there: one that has something to say was closed, as a rule."""
        return not self._poll.poll(0)

    def run(self, commands: bytes, answers: int) -> list[Any]:
        """Send packed commands in one go; return their answers, an error answer as a `Refused`.

        Raises:
            Lost: Nothing is known about what was not answered.
        """
        try:
            self.send(commands)
        except Lost as exc:
            # Of several commands the first ones may have arrived whole.
            raise Lost(exc.why, was_sent=exc.was_sent or answers > 1) from exc
        return [self.read() for _ in range(answers)]

    def send(self, commands: bytes) -> None:
        """Send packed commands.

        Raises:
            Lost: Where not sent, the system refused the last part: the last command cannot have been done.
            OSError: Of a signal handler, which may have run after the last part had left.
        """
        try:
            self._connection.send_packed_command([commands], check_health=False)
        except (redis.RedisError, OSError) as exc:
            # redis-py takes what a signal handler raises for an error of its socket.
            first = exc.__context__ if isinstance(exc, redis.RedisError) else exc
            if isinstance(first, OSError) and first.errno is None and first.args != _TIMED_OUT:
                raise first from None
            was_refused = isinstance(first, OSError) and first.errno is not None
            raise Lost(_why(exc), was_sent=not was_refused) from exc

    def read(self) -> Any:
        """Read one answer, or the `Refused` that the server sent instead.

        Raises:
            Lost: The connection was closed, or nothing came in time.
        """
        try:
            # What looks like an error of the connection may be an answer, and others may follow it.
            return self._connection.read_response(disconnect_on_error=False)
        except (redis.RedisError, OSError) as exc:
            if (refused := refusal(exc)) is not None:
                return refused
            raise Lost(_why(exc), was_sent=True) from exc

    def has_more(self) -> bool:
        """Whether something has come that can be read.

        Raises:
            Lost: The connection was closed.
        """
        try:
            return bool(self._connection.can_read(0))
        except (redis.RedisError, OSError) as exc:
            raise Lost(_why(exc), was_sent=False) from exc

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()


def _why(exc: Exception) -> str:
    if isinstance(exc, redis.TimeoutError):
        return "no answer in time"
    return " ".join(str(exc).split()) or "the connection was closed"

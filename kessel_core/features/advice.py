"""What to do about a buried job, by the reason of its burial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kessel_core.model.result import Reason

__all__ = ["advice", "typed_id"]

_ADVICE: Final[Mapping[str, str]] = {
    Reason.NO_HANDLER: "start a worker that has a handler for its type, then kick it",
    Reason.BAD_PAYLOAD: "kick it with a mended payload (--payload JSON), or mend its handler first",
    Reason.UNDECODABLE: "its body is no request: mend who stored it, then delete it",
    Reason.RETRIES_EXHAUSTED: "mend what its attempts failed on, then kick it: it has all its attempts again",
    Reason.WORKER_LOST: "find out what killed its workers (memory, a signal, a crash), then kick it",
    Reason.TIMED_OUT: "make its handler quicker, or give it a longer timeout, then kick it",
    Reason.ERROR: "mend its handler, then kick it",
    Reason.EXPIRED: "it came too late: request it anew, or delete it",
    Reason.FOLLOW_UP_REFUSED: "it has done its work, only what it asked for was refused: read it first",
}

#: Reasons for which a kick is not the next step.
_NO_KICK: Final = frozenset({Reason.UNDECODABLE, Reason.EXPIRED, Reason.FOLLOW_UP_REFUSED})


def advice(reason: str | None, job_id: str) -> tuple[str, tuple[str, ...]]:
    """Return what to do, and the words of the next command behind `kessel`.

    Args:
        reason: The code of the burial; None, or one of another program: nothing is known about it.
        job_id: The job.
    """
    text = _ADVICE.get(reason or "", "look at it, mend what is wrong, then kick it")
    word = "show" if reason in _NO_KICK else "kick"
    return text, ("buried", word, *typed_id(job_id))


def typed_id(job_id: str) -> tuple[str, ...]:
    """Return an id as words of a command: behind `--` if it would be taken for an option."""
    return ("--", job_id) if job_id.startswith("-") else (job_id,)

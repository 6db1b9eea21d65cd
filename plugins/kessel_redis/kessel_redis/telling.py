"""What a script tells other processes of the jobs that it stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from kessel_core.contract import told_delayed, told_ready

__all__ = ["told_of"]


def told_of(stored: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return the messages of jobs, each by its queue and the span until it is due, as the scripts read it.

    One of each queue for all that are ready, and one for the first of the others.
    """
    ready: Counter[str] = Counter()
    first: dict[str, int] = {}
    for queue, span in stored:
        if span == b"0":
            ready[queue] += 1
        else:
            first[queue] = min(int(span), first.get(queue, int(span)))
    delayed = (told_delayed(queue, timedelta(microseconds=span)) for queue, span in first.items())
    return [*(told_ready(queue, count) for queue, count in ready.items()), *delayed]

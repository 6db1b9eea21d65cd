"""The options, and the one rounding rule: up to whole seconds (rule 6 of the README).

Cheap to import, because the plugin module loads it at discovery.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import attrs

from kessel_core.contract import InvalidConfig, Problem, quoted, redacted

__all__ = ["MAX_NUMBER", "BeanstalkOptions", "number_problem", "whole_seconds"]

#: The largest priority, delay and ttr of the protocol.
MAX_NUMBER: Final = 2**32 - 1
_SECOND: Final = timedelta(seconds=1)


def whole_seconds(span: timedelta) -> int:
    """Return the span in seconds, rounded up, because rounding down would be early."""
    whole, rest = divmod(span, _SECOND)  # not by negation, which overflows for the longest span
    return whole + bool(rest)


def number_problem(value: object) -> str | None:
    """Return why the protocol cannot carry this number, or None; `bool` is not a number."""
    if type(value) is not int:
        return f"expected a whole number, got {quoted(value)}"
    if not 0 <= value <= MAX_NUMBER:
        return f"expected 0 to {MAX_NUMBER}, got {value}"
    return None


@attrs.frozen(kw_only=True)
class BeanstalkOptions:
    """Options of `beanstalk://host:port?name=value`.

    Raises:
        InvalidConfig: Some values are out of range; lists all of them.
    """

    #: Name or address of the server.
    host: str = "localhost"
    #: Its port.
    port: int = 11300
    #: Length of a lease: beanstalkd's time-to-run of every job put here. At least 2 s, because
    #: the last second is beanstalkd's safety margin; 5 s or more is recommended.
    ttr: timedelta = timedelta(seconds=60)
    #: Longest wait for a connection, and for each reply while it is being set up.
    connect_timeout: timedelta = timedelta(seconds=5)
    #: Longest wait for a reply; for a reserve it is added to the reserve's own timeout.
    timeout: timedelta = timedelta(seconds=10)
    #: Refuse a server that runs without a binlog.
    require_durable: bool = False
    #: Refuse bodies larger than this, even if the server accepts them; None: only the server's limit.
    max_body_bytes: int | None = None
    #: States that the server runs with `-f 0` (fsync on every write), which cannot be read over the
    #: network. Makes the declared durability `power`.
    fsync_each: bool = False

    def __attrs_post_init__(self) -> None:
        """Check all values together."""
        problems: list[Problem] = []
        if not self.host.strip():
            problems.append(Problem(("host",), "must not be blank"))
        if not 1 <= self.port <= 65535:
            problems.append(Problem(("port",), f"expected 1 to 65535, got {self.port}"))
        if not timedelta(seconds=2) <= self.ttr <= timedelta(seconds=MAX_NUMBER):
            problems.append(Problem(("ttr",), f"expected 2 s to {MAX_NUMBER} s, got {self.ttr}"))
        for name in ("connect_timeout", "timeout"):
            span: timedelta = getattr(self, name)
            if not timedelta(milliseconds=10) <= span <= timedelta(hours=1):
                problems.append(Problem((name,), f"expected 10 ms to 1 h, got {span}"))
        if self.max_body_bytes is not None and self.max_body_bytes < 1:
            problems.append(Problem(("max_body_bytes",), f"expected 1 or more, got {self.max_body_bytes}"))
        if problems:
            raise InvalidConfig(problems, "invalid options of the adapter 'beanstalk'")

    @property
    def ttr_seconds(self) -> int:
        """The ttr in whole seconds."""
        return whole_seconds(self.ttr)

    @property
    def address(self) -> str:
        """`host:port`, as errors and logs name the server."""
        shown = redacted(self.host)
        host = f"[{shown}]" if ":" in shown else shown
        return f"{host}:{self.port}"

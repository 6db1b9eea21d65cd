"""The section `[kessel.http]`: its options, and what is wrong with them. Every mistake is found at start."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

import attrs

from kessel_core import InvalidConfig, Problem
from kessel_http.addresses import refusal
from kessel_http.signing import secret_problem
from kessel_http.urls import pattern_problem, read_url

__all__ = ["EndpointOptions", "HttpOptions"]

#: What an endpoint may be called: it stands behind `http:` in a callback.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(minutes=5)


def _each(problem_of: Callable[[Any], str | None]) -> Callable[[Any, Any, tuple[Any, ...]], None]:
    """Return a validator that names every wrong item of a list."""

    def validate(instance: object, attribute: attrs.Attribute[Any], values: tuple[Any, ...]) -> None:
        problems = [
            Problem((attribute.name, index), text)
            for index, value in enumerate(values)
            if (text := problem_of(value)) is not None
        ]
        if problems:
            raise InvalidConfig(problems)

    return validate


def _port_problem(port: int) -> str | None:
    return None if 1 <= port <= 65_535 else f"expected 1 to 65535, got {port}"


def _url(instance: object, attribute: object, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    read_url(value)


def _timeout(instance: object, attribute: object, value: timedelta) -> None:
    if not _SHORTEST <= value <= _LONGEST:
        raise ValueError(f"expected 1s to 5m, got {value.total_seconds():g}s")


@attrs.frozen(kw_only=True)
class EndpointOptions:
    """One endpoint: `[kessel.http.endpoints.NAME]`."""

    #: Where outcomes are sent by POST; text. That it is text is checked here, because kessel's own error for
    #: what is of another type repeats it, and its path may be secret.
    url: Any = attrs.field(validator=_url, repr=False)
    #: What signs, each of them: `env:NAME` of a variable, or `whsec_...` itself; at least one.
    secrets: tuple[str, ...] = attrs.field(validator=_each(secret_problem), repr=False)
    #: Whether it is in your own network: then any address is allowed, and plain http.
    internal: bool = False

    def __attrs_post_init__(self) -> None:
        problems = []
        if not self.secrets:
            problems.append(Problem(("secrets",), "needs at least one"))
        url = read_url(self.url)
        if url.scheme == "http" and not self.internal:
            problems.append(Problem(("url",), "must be https, or internal = true"))
        elif url.address is not None and not self.internal and (what := refusal(url.address)):
            problems.append(Problem(("url",), f"must not lead to {url.host} ({what}), or internal = true"))
        if problems:
            raise InvalidConfig(problems)


@attrs.frozen(kw_only=True)
class HttpOptions:
    """The section `[kessel.http]`."""

    #: Hosts that URLs of requests may lead to: `hooks.example.org`, or `*.example.org` for all below it.
    allow: tuple[str, ...] = attrs.field(default=(), validator=_each(pattern_problem))
    #: What signs the deliveries to URLs of requests.
    secrets: tuple[str, ...] = attrs.field(default=(), validator=_each(secret_problem), repr=False)
    #: Ports that URLs of requests may have.
    ports: tuple[int, ...] = attrs.field(default=(443,), validator=_each(_port_problem))
    #: Whether URLs of requests may be http.
    plain_http: bool = False
    #: How long one call may take, from the look-up of the name to the end of the answer; 1 s to 5 min.
    timeout: timedelta = attrs.field(default=timedelta(seconds=20), validator=_timeout)
    #: Name -> endpoint.
    endpoints: Mapping[str, EndpointOptions] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        problems = [*self._problems()]
        if problems:
            raise InvalidConfig(problems)

    def _problems(self) -> Iterator[Problem]:
        for name in self.endpoints:
            if _NAME.fullmatch(name) is None:
                text = "the name of an endpoint is 1 to 64 letters, digits, dots, hyphens and underscores"
                yield Problem(("endpoints", name), text)
        if self.allow and not self.secrets:
            yield Problem(("secrets",), "needs at least one, because allow is not empty")

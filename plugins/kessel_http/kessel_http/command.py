"""`kessel endpoints`: list those of the configuration and how they do, try one, enable one that was gone.

`kessel --help` loads this module, so what a command needs is imported when it runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from kessel_core import InvalidConfig, KesselError, with_section

if TYPE_CHECKING:
    from kessel_http.delivery import HttpCallbacks
    from kessel_http.endpoints import Endpoint
    from kessel_http.states import EndpointState

__all__ = ["endpoints"]


@click.group()
def endpoints() -> None:
    """List, try and enable the endpoints of HTTP callbacks."""


@endpoints.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@with_section("http")
def list_(callbacks: HttpCallbacks, as_json: bool) -> None:
    """List the endpoints, and URLs of requests that failed, with how they do.

    Neither secrets nor the path of a URL are shown.
    """
    rows = list(_rows(callbacks))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo("no endpoints; add them in [kessel.http.endpoints]", err=True)
    for row in rows:
        click.echo(f"{row['name']}  {row['place']}  {row['state']}")


def _rows(callbacks: HttpCallbacks) -> Iterator[Mapping[str, Any]]:
    from kessel_http.states import FRESH
    from kessel_http.urls import read_url

    known = dict(callbacks.endpoint_states.all())
    for name, options in sorted(callbacks.options.endpoints.items()):
        yield _row(name, read_url(options.url).place, known.pop(name, FRESH), len(options.secrets))
    for key, state in known.items():
        yield _row(key, state.place, state, None)


def _row(name: str, place: str, state: EndpointState, secrets: int | None) -> Mapping[str, Any]:
    from kessel_http.states import described, iso

    return {
        "name": name,
        "place": place,
        "state": described(state),
        "failures": state.failures,
        "disabled_at": iso(state.disabled_at),
        "rests_until": iso(state.rests_until),
        "secrets": secrets,
    }


@endpoints.command("test")
@click.argument("name")
@with_section("http")
def test(callbacks: HttpCallbacks, name: str) -> None:
    """Send a signed event of type kessel.test to an endpoint now, and say what it answers.

    What is known of the endpoint does not matter, and does not change. Exits with 1 unless it answers 2xx.
    """
    from kessel_http.late import NotAnswered, RefusedAddress, Unable

    endpoint, now = _named(callbacks, name), datetime.now(UTC)
    event = {"type": "kessel.test", "timestamp": now.isoformat(), "data": {}}
    try:
        answer = callbacks.send(endpoint, str(uuid4()), json.dumps(event).encode(), now)
    except (NotAnswered, RefusedAddress, Unable) as exc:
        raise KesselError(f"{endpoint.label} at {endpoint.url.place}: {exc}") from None
    if not 200 <= answer.status < 300:
        raise KesselError(f"{endpoint.label} at {endpoint.url.place} answered {answer.status}")
    click.echo(f"{endpoint.label} at {endpoint.url.place} answered {answer.status}")


def _named(callbacks: HttpCallbacks, name: str) -> Endpoint:
    _known(callbacks, name)
    try:
        found = callbacks.endpoints.named(name)
    except InvalidConfig as exc:
        raise InvalidConfig([problem.under("sections", "http") for problem in exc.problems]) from None
    assert found is not None
    return found


def _known(callbacks: HttpCallbacks, name: str) -> None:
    if name not in callbacks.options.endpoints:
        known = ", ".join(sorted(callbacks.options.endpoints)) or "none"
        raise KesselError(f"no endpoint {name!r} in [kessel.http.endpoints]; known: {known}")


@endpoints.command("enable")
@click.argument("name")
@with_section("http")
def enable(callbacks: HttpCallbacks, name: str) -> None:
    """Use an endpoint again that answered 410, or at once one that rests.

    NAME is the name of an endpoint, a URL, or what the list shows for one. Jobs that were buried meanwhile
    come again with: kessel buried kick --type kessel.http
    """
    from kessel_http.endpoints import key_of
    from kessel_http.states import FRESH, MemoryStates, change, described

    before: list[EndpointState] = []

    def fresh(state: EndpointState) -> EndpointState:
        before.append(state)
        return FRESH

    key = key_of(name)
    states = callbacks.endpoint_states
    change(states, key, fresh)
    if before[-1] == FRESH:
        if key == name and not name.startswith("url:"):
            _known(callbacks, name)
        nowhere = isinstance(states, MemoryStates)
        why = (
            "nothing is kept of endpoints, because there is no store yet"
            if nowhere
            else "it was not disabled"
        )
        click.echo(f"{name}: {why}; nothing changed", err=True)
        return
    click.echo(f"{name} is enabled; it was: {described(before[-1])}")

"""Options that there are none of, and values that make no sense, of an adapter or of a store (S17)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

import attrs

from kessel_core import AdapterError, InvalidConfig

if TYPE_CHECKING:
    from kessel_conformance.opencase import OpenCase

__all__ = ["senseless_refused", "unknown_refused"]


def unknown_refused(bench: OpenCase) -> None:
    """Check that an option is refused that there is none of, by its name."""
    harness = bench.harness
    url = harness.url
    if harness.spec is None or url is None:
        return
    odd = url + ("&" if "?" in url else "?") + "no_such_option=1"
    error = bench.refused(
        InvalidConfig,
        "open a URL with an unknown option",
        lambda: harness.open_url(odd, bench.clock, bench.namespace),
    )
    bench.check("no_such_option" in str(error), "the error does not name the option")


def senseless_refused(bench: OpenCase, options: type, use: Callable[[Any], None]) -> None:
    """Check of each option that takes a span that zero and less are refused by its name, or work.

    Args:
        bench: Its harness opens them.
        options: The class of the options.
        use: Uses what was opened; an `AdapterError` says that it does not work.
    """
    for name in _spans(options):
        for value in (timedelta(0), timedelta(seconds=-1)):
            given = f"{name}={value.total_seconds():g}s"
            bench.history.add(f"open with {given}")
            try:
                opened = bench.harness.with_option(name, value).open(bench.clock, bench.namespace)
            except InvalidConfig as exc:
                # By a URL alone the core opens it, and puts the section of its configuration before the name.
                paths = ((name,), ("adapter_options", name))
                is_named = any(problem.where in paths for problem in exc.problems)
                bench.check(is_named, f"the error of {given} has not the option's name as its path: {exc}")
                continue
            except Exception as exc:
                bench.broken(f"{given} raised {exc!r}, expected InvalidConfig")
            with closing(opened):
                try:
                    use(opened)
                except AdapterError as exc:
                    bench.broken(f"{given} was taken, and then there is {exc!r}; expected InvalidConfig")


def _spans(options: type) -> Iterator[str]:
    """Yield the names of the options that take a span of time."""
    for field in attrs.fields(attrs.resolve_types(options)):
        if field.init and timedelta in (field.type, *get_args(field.type)):
            yield field.alias or field.name

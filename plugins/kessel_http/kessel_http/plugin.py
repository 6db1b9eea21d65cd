"""The plugin: the section `[kessel.http]` with the handler of `kessel.http`, and `kessel endpoints`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kessel_core import hookimpl
from kessel_core.hooks import Section, SectionContext

if TYPE_CHECKING:
    import click

    from kessel_http.delivery import HttpCallbacks
    from kessel_http.options import HttpOptions

__all__ = ["kessel_cli", "kessel_sections"]


def _made(options: HttpOptions, context: SectionContext) -> HttpCallbacks:
    from kessel_http.delivery import HttpCallbacks

    return HttpCallbacks(options, context)


@hookimpl
def kessel_sections() -> list[Section]:
    """Offer the section `http`; what it makes handles the jobs of type `kessel.http`."""
    from kessel_http.options import HttpOptions

    return [Section(name="http", options=HttpOptions, factory=_made)]


@hookimpl
def kessel_cli(group: click.Group) -> None:
    """Add `kessel endpoints`."""
    from kessel_http.command import endpoints

    group.add_command(endpoints)

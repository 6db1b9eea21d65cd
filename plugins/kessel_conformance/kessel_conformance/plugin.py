"""The plugin: adds the commands `kessel conformance` and `kessel new`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kessel_core import hookimpl

if TYPE_CHECKING:
    import click

__all__ = ["kessel_cli"]


@hookimpl
def kessel_cli(group: click.Group) -> None:
    """Add the commands for plugin authors."""
    from kessel_conformance.command import conformance
    from kessel_conformance.scaffold import new

    group.add_command(conformance)
    group.add_command(new)

"""What commands of plugins take from the command: a manager, connected as configured."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from kessel_core.cli.app import App, configured, pass_app

__all__ = ["with_manager"]


def with_manager(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command of a plugin a manager, and the options `--config` and `--adapter`.

    Args:
        command: Called with the connected manager, and with its own arguments by name. The manager only
            requests jobs, so no handlers are imported; it is closed when the command returns.

    Returns:
        What `click.command()` takes. Errors of kessel that it raises become one message and an exit code.

    Example:
        >>> import click
        >>> @click.command()
        ... @click.argument("name")
        ... @with_manager
        ... def greet(manager, name):
        ...     "Request a greeting."
        ...     click.echo(manager.request("greeting", name).id)
    """

    @configured
    @pass_app
    @functools.wraps(command)
    def run(app: App, /, **arguments: Any) -> Any:
        with app.manager(only_requests=True) as manager, app.located():
            return command(manager, **arguments)

    return run

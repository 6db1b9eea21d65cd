"""What commands of plugins take from the command: what their plugin made of its section."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

from kessel_core.cli.app import App, configured, pass_app

if TYPE_CHECKING:
    from kessel_core.contract.store import Store

__all__ = ["with_section"]

_Command: TypeAlias = Callable[..., Any]


def with_section(name: str) -> Callable[[_Command], _Command]:
    """Give a command of a plugin what the plugin made of its section, as it is configured.

    The command gets the options `--config` and `--adapter`, too. Nothing is opened for it: the store is
    opened when the section asks for it, and closed when the command returns. What does not exist yet is not
    made, and counts as no store.

    Args:
        name: Of the section, `[kessel.NAME]`.

    Returns:
        A decorator for a function that takes what was made, and its own arguments by name. What it returns
        goes to `click.command()`; errors of kessel become one message and an exit code.

    Example:
        >>> import click
        >>> @click.command()
        ... @click.argument("ship")
        ... @with_section("tide")
        ... def enter(tide, ship):
        ...     "Say when a ship may enter."
        ...     click.echo(tide.next_high())
    """

    def decorate(command: _Command) -> _Command:
        @configured
        @pass_app
        @functools.wraps(command)
        def run(app: App, /, **arguments: Any) -> Any:
            from kessel_core.clock import SystemClock
            from kessel_core.plugins.sections import Sections

            with ExitStack() as opened, app.located():
                sections = Sections(
                    app.plugins,
                    app.config.sections,
                    clock=SystemClock(),
                    runs_jobs=False,
                    store=functools.cache(lambda: _store(app, opened)),
                )
                return command(sections.get(name), **arguments)

        return run

    return decorate


def _store(app: App, opened: ExitStack) -> Store | None:
    """Open the store of the configuration; None: there is none, or nothing was kept in it yet."""
    from kessel_core.clock import SystemClock
    from kessel_core.config.options import ADAPTER_STORE
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.spec import AdapterContext
    from kessel_core.contract.store import Store

    of_adapter = app.config.store == ADAPTER_STORE
    chosen = app.chosen if of_adapter else app.plugins.chosen_store(app.config.store)
    if chosen.spec.absent(chosen.options) is not None:
        return None
    backend = chosen.open(AdapterContext(clock=SystemClock()))
    opened.callback(backend.close)
    return backend.facet(Store) if isinstance(backend, QueueAdapter) else backend

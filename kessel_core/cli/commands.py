"""What commands of plugins take from the command: what their plugin made of its section, their adapter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from kessel_core.cli.app import App, configured, pass_app

if TYPE_CHECKING:
    from kessel_core.contract.store import Store

__all__ = ["with_adapter_options", "with_section"]

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


def with_adapter_options(command: _Command) -> _Command:
    """Give a command of a plugin the options of the configured adapter, which is not opened.

    The command gets the options `--config` and `--adapter`, and an argument ADDRESS, which is the same as
    `--adapter`.

    Args:
        command: A function that takes the options, an object of the class that the adapter's `AdapterSpec`
            names, and its own arguments by name. What it returns goes to `click.command()`; errors of
            kessel become one message and an exit code. An adapter that is none of the plugin's is to be
            refused with `InvalidConfig` at the place `("adapter",)`.

    Example:
        >>> import click
        >>> @click.command()
        ... @with_adapter_options
        ... def vacuum(options):
        ...     "Give space back to the system."
        ...     click.echo(options)
    """

    @click.argument("address", metavar="[ADDRESS]", required=False, expose_value=False, callback=_remember)
    @configured
    @pass_app
    @functools.wraps(command)
    def run(app: App, /, **arguments: Any) -> Any:
        options = app.chosen.options
        with app.located():
            return command(options, **arguments)

    return run


def _remember(ctx: click.Context, parameter: click.Parameter, address: str | None) -> None:
    if address is not None:
        ctx.ensure_object(App).argument("adapter", address, "ADDRESS")


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

"""What the commands share: the options of the configuration, and what is created from them when needed.

Longer than 350 lines: a decorator for each option, with its help.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from kessel_core.values.printing import printable, printable_lines
from kessel_core.values.secrets import without_secrets

if TYPE_CHECKING:
    from kessel_core.client.manager import JobManager
    from kessel_core.config.options import Config
    from kessel_core.config.origin import Argument, LoadedConfig
    from kessel_core.contract.adapter import QueueAdapter
    from kessel_core.contract.store import Store
    from kessel_core.errors import InvalidConfig
    from kessel_core.handlers.modules import Imported
    from kessel_core.plugins.opening import Chosen
    from kessel_core.plugins.registry import Implementation, Plugins

__all__ = [
    "App",
    "as_json",
    "config_option",
    "configured",
    "handlers_option",
    "logs_options",
    "pass_app",
    "queue_option",
    "say",
    "say_as_is",
    "sigterm_as_ctrl_c",
]

F = TypeVar("F", bound=Callable[..., Any])


class App:
    """One run of the command; everything is created on first use."""

    def __init__(self) -> None:
        self.file: str | None = None
        #: Modules whose handlers are taken besides those of configuration and plugins.
        self.handler_modules: tuple[str, ...] = ()
        self._arguments: dict[str, Argument] = {}
        self._commands: dict[str, click.Command] | None = None

    def argument(self, path: str, value: object, name: str) -> None:
        """Set an option of the configuration from an argument."""
        from kessel_core.config.origin import Argument

        self._arguments[path] = Argument(value, name)
        # A configuration that was read before does not know this argument yet.
        self.__dict__.pop("loaded", None)

    def given(self, path: str) -> bool:
        """Whether an argument sets this option."""
        return path in self._arguments

    @cached_property
    def loaded(self) -> LoadedConfig:
        """The configuration with its origins.

        Raises:
            InvalidConfig: With every problem of every layer.
        """
        from kessel_core.config.layers import load_config

        return load_config(self.file, environ=os.environ, arguments=self._arguments)

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.loaded.config

    @cached_property
    def plugins(self) -> Plugins:
        """The plugins, including all required ones.

        Raises:
            PluginError: A required one is not usable.
        """
        required = self.config.plugins.required
        for name in required:
            self.any_plugins.require(name)
        return self.any_plugins

    def plugins_with(self, **extra: object) -> Plugins:
        """Load the plugins again, with additional ones of the command itself, by name."""
        from kessel_core.plugins.loading import build_plugins

        settings = self.config.plugins
        return build_plugins(disabled=settings.disabled, required=settings.required, extra=extra)

    @cached_property
    def any_plugins(self) -> Plugins:
        """The plugins, however many of them are broken, and even if the configuration is."""
        from kessel_core.errors import ConfigError
        from kessel_core.plugins.loading import build_plugins

        try:
            disabled = self.config.plugins.disabled
        except ConfigError:
            click.echo(
                "warning: the configuration is wrong, and not used: `kessel config` tells why", err=True
            )
            disabled = ()
        return build_plugins(disabled=disabled)

    def start_logging(self, stream: TextIO | None = None) -> None:
        """Print log records as configured, on standard error or another stream."""
        from kessel_core.cli.logs import configure

        configure(self.config.logging.level, self.config.logging.json, stream=stream)

    def warn_of_plugins(self, plugins: Plugins) -> None:
        """Warn about plugins that are not usable; none of them is required, so the command continues."""
        for status in plugins.report:
            if status.is_broken:
                owner = f" (from {status.distribution})" if status.distribution else ""
                text = printable(f"{status.name!r}{owner}: {status.state}: {status.why}")
                say(f"warning: plugin {text}", err=True)

    def wrong(self, option: str, why: str) -> InvalidConfig:
        """Create the error that the value of an option cannot be used, with its origin."""
        from kessel_core.errors import InvalidConfig, Problem

        return self.loaded.located(InvalidConfig([Problem(tuple(option.split(".")), why)]))

    @contextmanager
    def located(self) -> Iterator[None]:
        """Add file, variable or argument to the problems of an `InvalidConfig` that is raised inside."""
        from kessel_core.errors import InvalidConfig

        try:
            yield
        except InvalidConfig as exc:
            raise self.loaded.located(exc) from exc

    @cached_property
    def chosen(self) -> Chosen[QueueAdapter]:
        """The configured adapter, not open yet.

        Raises:
            InvalidConfig: It or its options are wrong; says where that is written.
        """
        with self.located():
            return self.plugins.chosen_adapter(self.config.adapter, self.config.adapter_options)

    @property
    def place(self) -> str:
        """Where the jobs are, for people: the absolute path of a file, or a URL without its secrets."""
        from kessel_core.values.secrets import redacted

        chosen = self.chosen
        return chosen.spec.place(chosen.options) or redacted(self.config.adapter)

    @contextmanager
    def adapter(self, *, only_looks: bool = False) -> Iterator[QueueAdapter]:
        """Open the configured adapter for an operation.

        Args:
            only_looks: Whether the command needs jobs that are there already, so that it must not make
                what opening would make.

        Raises:
            InvalidConfig: It or its options are wrong; says where that is written.
            KesselError: The queue does not exist yet.
        """
        from kessel_core.clock import SystemClock
        from kessel_core.contract.spec import AdapterContext
        from kessel_core.errors import KesselError

        chosen = self.chosen
        if only_looks and (why := chosen.spec.absent(chosen.options)) is not None:
            raise KesselError(f"{why}; nothing was made. The first request makes it")
        with self.located():
            adapter = chosen.open(AdapterContext(clock=SystemClock()))
        try:
            yield adapter
        finally:
            adapter.close()

    @cached_property
    def chosen_store(self) -> Chosen[Store] | None:
        """The configured store, not open yet; None: that of the adapter, if it has one.

        Raises:
            InvalidConfig: It or its options are wrong; says where that is written.
        """
        from kessel_core.config.options import ADAPTER_STORE

        if self.config.store == ADAPTER_STORE:
            return None
        with self.located():
            return self.plugins.chosen_store(self.config.store)

    @property
    def store_place(self) -> str:
        """Where the entries of the store are, for people, as `place`."""
        from kessel_core.values.secrets import redacted

        chosen = self.chosen_store
        if chosen is None:
            return self.place
        return chosen.spec.place(chosen.options) or redacted(self.config.store)

    @contextmanager
    def store(self) -> Iterator[Store | None]:
        """Open the configured store to look into it; a queue beside it is not touched.

        Yields:
            The store; None: the adapter has none of its own, and no other is configured.

        Raises:
            InvalidConfig: It or its options are wrong; says where that is written.
            KesselError: It does not exist yet, or cannot be reached.
        """
        from kessel_core.contract.store import Store

        chosen = self.chosen_store
        if chosen is None:
            with self.adapter(only_looks=True) as adapter:
                yield adapter.facet(Store)
            return
        self.check_store()
        with self._open_store(chosen) as store:
            yield store

    def check_store(self) -> None:
        """Refuse to look into a store that does not exist yet; opening would make it.

        Raises:
            InvalidConfig: It or its options are wrong; says where that is written.
            KesselError: It does not exist.
        """
        from kessel_core.errors import KesselError

        chosen = self.chosen_store
        if chosen is not None and (why := chosen.spec.absent(chosen.options)) is not None:
            raise KesselError(f"{why}; nothing was made. The first worker or request makes it")

    @contextmanager
    def _open_store(self, chosen: Chosen[Store]) -> Iterator[Store]:
        from kessel_core.clock import SystemClock
        from kessel_core.contract.spec import AdapterContext

        with self.located():
            store = chosen.open(AdapterContext(clock=SystemClock()))
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def store_beside(self, adapter: QueueAdapter) -> Iterator[tuple[Store | None, str]]:
        """Open the configured store for a command that can do without; makes none.

        Yields:
            The store, or None and why there is none that can be used.

        Raises:
            InvalidConfig: It or its options are wrong; says where that is written.
        """
        from kessel_core.contract.store import SET_A_STORE, Store
        from kessel_core.errors import AdapterError

        chosen = self.chosen_store
        if chosen is None:
            yield adapter.facet(Store), SET_A_STORE
            return
        if (why := chosen.spec.absent(chosen.options)) is not None:
            yield None, why
            return
        with ExitStack() as opened:
            found: tuple[Store | None, str]
            try:
                found = opened.enter_context(self._open_store(chosen)), ""
            except AdapterError as exc:
                found = None, str(exc)
            yield found

    @contextmanager
    def manager(self, **overrides: Any) -> Iterator[JobManager]:
        """Create and connect a manager with the configuration.

        Raises:
            InvalidConfig: Adapter, handlers or middleware are wrong; says where that is written.
        """
        from kessel_core.client.manager import JobManager

        # Plugins first: none is found in the working directory because its handlers are.
        settings: dict[str, Any] = {"config": self.config, "plugins": self.plugins}
        if not overrides.get("only_requests") and self.handler_modules:
            settings["handlers"] = self.named_handlers()
        self.import_from_here()
        manager = JobManager(**(settings | overrides))
        with self.located():
            manager.connect()
        with manager:
            yield manager

    def named_handlers(self) -> Imported:
        """Import the modules of `--handlers` and return what they declare.

        Raises:
            InvalidConfig: A module is not there, fails, or declares no handler.
        """
        from kessel_core.handlers.modules import imported_handlers

        self.import_from_here()
        return imported_handlers(self.handler_modules, "--handlers")

    def import_from_here(self) -> None:
        """Let configuration and `--handlers` name modules that lie where the command is started."""
        # At the end of the path, so that they hide no installed module.
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)

    def plugin_commands(self, taken: frozenset[str]) -> dict[str, click.Command]:
        """Collect commands from the `kessel_cli` hooks, each plugin in isolation; warn about failures."""
        if self._commands is None:
            plugins = self.any_plugins
            self.warn_of_plugins(plugins)
            self._commands = _added_commands(plugins, taken)
        return self._commands


def _added_commands(plugins: Plugins, taken: frozenset[str]) -> dict[str, click.Command]:
    from kessel_core.hooks import specs

    def commands(implementation: Implementation) -> dict[str, click.Command]:
        group = click.Group("kessel")
        implementation(group=group)
        return dict(group.commands)

    added: dict[str, click.Command] = {}
    owners: dict[str, str] = {}
    for plugin, offered in plugins.ask(specs.kessel_cli, commands):
        for name, command in offered.items():
            if name in taken or name in added:
                owner = f"plugin {owners[name]!r}" if name in added else "kessel itself"
                text = f"plugin {plugin.name!r} adds a command {name!r} that {owner} has; left out"
                say(f"warning: {text}", err=True)
                continue
            added[name], owners[name] = command, plugin.name
    return added


def say(text: str, *, err: bool = False) -> None:
    """Print a sentence of kessel's own: without secrets, and what it quotes of others escaped and cut."""
    click.echo(printable_lines(without_secrets(text)), err=err)


def say_as_is(text: str, *, err: bool = False) -> None:
    """Print what is to be copied, as ids and commands: escaped and cut as by `say`, and nothing is hidden.

    An id or a type may look like a URL with a password, and names nothing any more once that is hidden. The
    caller puts no URL of a server into the text.
    """
    click.echo(printable_lines(text), err=err)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM interrupt like Ctrl-C, for commands that report how far they got.

    Signals that come together interrupt once: `timeout` sends each to the process and to its group, and the
    second one would interrupt the report.
    """
    import signal
    import time

    from kessel_core.runtime.signals import Requests

    requests = Requests()

    def interrupt(number: int, frame: object) -> None:
        if requests.is_news(time.monotonic()):
            raise KeyboardInterrupt

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if handlers[signal.SIGINT] is not signal.default_int_handler:
        del handlers[signal.SIGINT]  # it is ignored, as in the background of a script
    for number in handlers:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


# --- options -------------------------------------------------------------------------------


def config_option(*names: str, path: str, **settings: Any) -> Callable[[F], F]:
    """Create a click option that sets an option of the configuration.

    The text is given on as it was typed, so that everything that is wrong with arguments, file
    and environment is found in one place and listed together.
    """

    def remember(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        if value is None or value == ():
            return
        given = list(value) if isinstance(value, tuple) else value
        longest = max(parameter.opts, key=len)
        ctx.ensure_object(App).argument(path, given, longest)

    return click.option(*names, expose_value=False, callback=remember, **settings)


def _remember_file(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        app = ctx.ensure_object(App)
        app.file = value
        # The command of a plugin was found with the configuration that is read without this argument.
        for name in ("loaded", "any_plugins", "plugins"):
            app.__dict__.pop(name, None)


def configured(command: F) -> F:
    """Add `--config` and `--adapter`, which every command knows, before or after its name."""
    command = config_option(
        "-a", "--adapter", path="adapter", metavar="URL", help="Where jobs are kept, as sqlite:///kessel.db."
    )(command)
    return click.option(
        "-c",
        "--config",
        metavar="FILE",
        expose_value=False,
        callback=_remember_file,
        help="Configuration file; default: kessel.toml or pyproject.toml in this directory.",
    )(command)


def logs_options(command: F) -> F:
    """Add the options of logging."""
    command = config_option(
        "--log-json", path="logging.json", is_flag=True, default=None, help="Log JSON lines."
    )(command)
    return config_option(
        "--log-level", path="logging.level", metavar="LEVEL", help="trace, debug, info, warning or error."
    )(command)


def _remember_modules(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    ctx.ensure_object(App).handler_modules += value


def handlers_option(command: F) -> F:
    """Add `--handlers`, which may be given several times."""
    return click.option(
        "--handlers",
        metavar="MODULE",
        multiple=True,
        expose_value=False,
        callback=_remember_modules,
        help="Module of your own whose functions have @handler; may be given several times.",
    )(command)


def queue_option(command: F) -> F:
    """Add `--queue`, which may be given several times."""
    return config_option(
        "-q", "--queue", "--queues", path="queues", multiple=True, metavar="NAME",
        help="Queue; may be given several times; default: the configured ones.",
    )(command)  # fmt: skip


def as_json(command: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


pass_app = click.make_pass_decorator(App, ensure=True)

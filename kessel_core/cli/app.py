"""What the commands share: the options that configure, and what is made of them when needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from kessel_core.adapter import QueueAdapter
    from kessel_core.config import Config
    from kessel_core.configfile import Argument, LoadedConfig
    from kessel_core.errors import InvalidConfig
    from kessel_core.manager import JobManager
    from kessel_core.plugins import Plugins

__all__ = ["App", "as_json", "config_option", "configured", "logs_options", "pass_app", "queue_option"]

F = TypeVar("F", bound=Callable[..., Any])

#: Distributions of this project that open a scheme, for the advice what to install.
KNOWN_SCHEMES: Final = {
    "sqlite": "kessel-sqlite",
    "memory": "kessel-memory",
    "beanstalk": "kessel-beanstalk",
}


class App:
    """One run of the command; everything is made at its first use."""

    def __init__(self) -> None:
        self.file: str | None = None
        self._arguments: dict[str, Argument] = {}
        self._commands: dict[str, click.Command] | None = None

    def argument(self, path: str, value: object, name: str) -> None:
        """Let an argument decide an option of the configuration."""
        from kessel_core.configfile import Argument

        self._arguments[path] = Argument(value, name)
        # A configuration that was read before does not know this argument yet.
        self.__dict__.pop("loaded", None)

    def given(self, path: str) -> bool:
        """Say whether an argument decides this option."""
        return path in self._arguments

    @cached_property
    def loaded(self) -> LoadedConfig:
        """The configuration with its origins.

        Raises:
            InvalidConfig: With every problem of every layer.
        """
        from kessel_core.configfile import load

        return load(self.file, environ=os.environ, arguments=self._arguments)

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.loaded.config

    @cached_property
    def plugins(self) -> Plugins:
        """The plugins, those that are required among them.

        Raises:
            PluginError: A required one is not usable.
        """
        from kessel_core.plugins import build_plugins

        return build_plugins(disabled=self.config.plugins.disabled, required=self.config.plugins.required)

    def plugins_with(self, name: str, plugin: object) -> Plugins:
        """Load the plugins anew, with one more of the command's own."""
        from kessel_core.plugins import build_plugins

        settings = self.config.plugins
        return build_plugins(disabled=settings.disabled, required=settings.required, extra={name: plugin})

    @cached_property
    def any_plugins(self) -> Plugins:
        """The plugins, however many of them are broken, and even if the configuration is."""
        from kessel_core.errors import ConfigError
        from kessel_core.plugins import build_plugins

        try:
            disabled = self.config.plugins.disabled
        except ConfigError:
            disabled = ()
        return build_plugins(disabled=disabled)

    def start_logging(self) -> None:
        """Print log records as configured."""
        from kessel_core.logs import configure

        configure(self.config.logging.level, self.config.logging.json)

    def warn_of_plugins(self, plugins: Plugins) -> None:
        """Say which plugins are not usable; none of them was named, so the command goes on."""
        for status in plugins.report:
            if str(status.status) not in ("active", "disabled"):
                owner = f" (from {status.distribution})" if status.distribution else ""
                click.echo(f"warning: plugin {status.name!r}{owner}: {status.status}: {status.why}", err=True)

    def check_adapter(self) -> None:
        """Say at once, and with the origin, when nothing can open the configured adapter.

        Raises:
            PluginError: The plugin that would open it is there, but not usable (D4).
            InvalidConfig: There is no such plugin; says what to install, or the nearest name.
        """
        import difflib

        name, is_url, _ = self.config.adapter.partition("://")
        specs = self.plugins.adapters().values()
        known = {key for spec in specs for key in (spec.schemes if is_url else (spec.name,))}
        if name in known:
            return
        distribution = KNOWN_SCHEMES.get(name)
        for status in self.plugins.report:
            if distribution is not None and status.distribution == distribution:
                self.plugins.require(status.name)
        if distribution is not None:
            hint = f"; run: pip install {distribution}"
        elif near := difflib.get_close_matches(name, known, 1):
            hint = f"; did you mean {near[0]!r}?"
        else:
            hint = f"; known: {', '.join(sorted(known)) or 'none'}"
        broken = [s.name for s in self.plugins.report if str(s.status) not in ("active", "disabled")]
        if broken:
            hint += f" (not usable now: {', '.join(broken)}; `kessel plugins` tells why)"
        raise self.wrong_adapter(f"no plugin opens {name + is_url!r}{hint}")

    def wrong_adapter(self, why: str) -> InvalidConfig:
        """Make the error that the configured adapter does not serve, with its origin."""
        from kessel_core.errors import InvalidConfig, Problem

        origin = self.loaded.origins["adapter"]
        return InvalidConfig([Problem(origin.at("adapter") if origin.name else "adapter", why)])

    @contextmanager
    def adapter(self) -> Iterator[QueueAdapter]:
        """Open the configured adapter for an operation."""
        from kessel_core.adapter import AdapterContext
        from kessel_core.clock import SystemClock

        self.check_adapter()
        adapter = self.plugins.adapter_for(
            self.config.adapter, self.config.adapter_options, context=AdapterContext(clock=SystemClock())
        )
        try:
            yield adapter
        finally:
            adapter.close()

    def manager(self, **overrides: Any) -> JobManager:
        """Make a manager as configured; it connects when it is entered."""
        from kessel_core.manager import JobManager

        self.check_adapter()
        # `[kessel.handlers]` names modules of the application, which usually lie where the command is
        # started. At the end of the path, so that they hide no installed module.
        if (here := str(Path.cwd())) not in sys.path:
            sys.path.append(here)
        config = self.config
        settings: dict[str, Any] = {
            "adapter": config.adapter,
            "adapter_options": config.adapter_options,
            "middleware": config.middleware,
            "config": config,
            "plugins": self.plugins,
        }
        return JobManager(**(settings | overrides))

    def plugin_commands(self, taken: frozenset[str]) -> dict[str, click.Command]:
        """Ask the plugins' `kessel_cli` hook for commands, each plugin alone; warn of what fails."""
        if self._commands is None:
            plugins = self.any_plugins
            self.warn_of_plugins(plugins)
            self._commands = _added_commands(plugins, taken)
        return self._commands


def _added_commands(plugins: Plugins, taken: frozenset[str]) -> dict[str, click.Command]:
    added: dict[str, click.Command] = {}
    owners: dict[str, str] = {}
    for hook in plugins.manager.hook.kessel_cli.get_hookimpls():
        group = click.Group("kessel")
        try:
            hook.function(group)
        # SystemExit too: a plugin must not end `kessel --help`.
        except (Exception, SystemExit) as exc:
            click.echo(
                f"warning: plugin {hook.plugin_name!r} cannot add its commands: {type(exc).__name__}: {exc}",
                err=True,
            )
            continue
        for name, command in group.commands.items():
            if name in taken or name in added:
                owner = f"plugin {owners[name]!r}" if name in added else "kessel itself"
                text = f"plugin {hook.plugin_name!r} adds a command {name!r} that {owner} has; left out"
                click.echo(f"warning: {text}", err=True)
                continue
            added[name], owners[name] = command, hook.plugin_name
    return added


# --- options -------------------------------------------------------------------------------


def config_option(*names: str, path: str, **settings: Any) -> Callable[[F], F]:
    """Make a click option that decides an option of the configuration.

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
        ctx.ensure_object(App).file = value


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

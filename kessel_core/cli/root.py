"""The group of all commands: those of the core, imported when chosen, and those of plugins.

Here, and only here, errors become messages and exit codes (D12): 0 done, 1 what was asked for
failed, 2 wrong usage or configuration, 3 a plugin that is named is not usable.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from kessel_core.cli.app import App, configured, say
from kessel_core.errors import (
    ConfigError,
    InvalidConfig,
    KesselError,
    PluginError,
    RequestError,
    UnusablePlugin,
)
from kessel_core.plugins import known
from kessel_core.plugins.status import missing
from kessel_core.values.nearest import nearest
from kessel_core.values.printing import printable_lines, traceback_text
from kessel_core.values.secrets import without_secrets

__all__ = ["COMMANDS", "KesselGroup", "code_of", "kessel", "run"]

#: Name -> (module, attribute, what `kessel --help` says), in the order of the help. The line is
#: repeated from the command, so that the help imports no command; a test compares them.
COMMANDS: Final = {
    "demo": ("demo.command", "demo", "Run a few hundred jobs of every kind, and watch."),
    "request": ("request", "request", "Request one job, or many from a file."),
    "worker": ("worker", "worker", "Work on jobs until told to stop."),
    "drain": ("worker", "drain", "Work until the queues are empty, then end."),
    "result": ("result", "result", "Show how a job ended, or wait for it."),
    "workers": ("workers", "workers", "List the workers that run, and the jobs that they run."),
    "top": ("top.command", "top", "Watch queues, running jobs, burials and workers."),
    "stats": ("queues", "stats", "Count the jobs of each queue by state."),
    "peek": ("queues", "peek", "Show jobs without reserving them."),
    "list": ("listing", "list_", "List the jobs in a state, by kind and age, page by page."),
    "find": ("operate", "find", "Find jobs by ref, type, age or the start of an id."),
    "show": ("operate", "show", "Show one job whole, in whatever state it is."),
    "explain": ("explain", "explain", "Say why a job does not run, and what would change it."),
    "history": ("history", "history", "Show what happened to a job, in order, and what is missing."),
    "delete": ("operate", "delete", "Remove single jobs that no worker holds, as to cancel them."),
    "buried": ("buried", "buried", "Show why jobs were buried; list, show, kick or delete them."),
    "pause": ("operate", "pause", "Deliver nothing from a queue for a while."),
    "resume": ("operate", "resume", "Deliver from a paused queue again."),
    "purge": ("queues", "purge", "Remove all jobs of a queue that no worker holds."),
    "move": ("move", "move", "Move waiting jobs from one adapter to another."),
    "plugins": ("plugins", "plugins", "List the plugins and what is wrong with them."),
    "adapters": ("adapters", "adapters", "List the queue adapters, their conformance and their options."),
    "hooks": ("plugins", "hooks", "List the hooks and who implements them."),
    "middleware": ("plugins", "middleware", "Show what goes around every job, and where it comes from."),
    "config": ("config", "config", "Show every option, its value, and where it comes from."),
    "doctor": ("doctor", "doctor", "Look for what is wrong, and say what to do."),
}

#: Commands that are proposed only for what is nearly their name: they remove or run jobs.
CAREFUL: Final = frozenset({"purge", "drain", "demo", "delete"})

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_PLUGIN: Final = 3
EXIT_INTERRUPTED: Final = 130

#: A disk, a quota or a limit is used up.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class KesselGroup(click.Group):
    """Commands of the core by name, then whatever the plugins' `kessel_cli` hook adds."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names: the core's in their own order, then the plugins', sorted."""
        return [*COMMANDS, *sorted(_plugin_commands(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the requested command."""
        if cmd_name in COMMANDS:
            module, attribute, _ = COMMANDS[cmd_name]
            found = getattr(importlib.import_module(f"kessel_core.cli.{module}"), attribute)
            assert isinstance(found, click.Command)
            return found
        return _plugin_commands(ctx).get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; suggest the nearest name for a misspelt one."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            names = self.list_commands(ctx)
            near = nearest(name, CAREFUL, 0.85) or nearest(name, [n for n in names if n not in CAREFUL], 0.5)
            hint = f" Did you mean {near!r}?" if near is not None else ""
            if name in known.COMMANDS:
                report = ctx.ensure_object(App).any_plugins.report
                hint = f" A plugin adds it{missing(known.COMMANDS[name], report)}"
            raise click.UsageError(f"There is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Format one line per command, without importing those of the core."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])
        if added := _plugin_commands(ctx):
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, added[name].get_short_help_str(70)) for name in sorted(added)])


def _plugin_commands(ctx: click.Context) -> dict[str, click.Command]:
    return ctx.ensure_object(App).plugin_commands(frozenset(COMMANDS))


@click.group(
    name="kessel",
    cls=KesselGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`kessel COMMAND --help` tells more of one command.",
)
@click.version_option(None, "--version", package_name="kessel-core", prog_name="kessel")
@configured
def kessel() -> None:
    """Request jobs, work on them, and look after the queues."""


def run(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code; a user's mistake is one message."""
    try:
        code = kessel.main(list(arguments), prog_name="kessel", standalone_mode=False)
        sys.stdout.flush()
        # Without standalone mode click returns the code of `ctx.exit` and `--help`.
        return code if isinstance(code, int) else 0
    except click.ClickException as exc:
        # Its own words quote what was typed, which may be an address in the wrong place.
        exc.message = printable_lines(without_secrets(exc.message))  # type: ignore[misc]  # final by habit
        exc.show()
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    except KesselError as exc:
        say(f"error: {exc}", err=True)
        return code_of(exc)
    except BrokenPipeError:
        # The reader has seen enough (`kessel stats | head`).
        _leave_output()
        return EXIT_FAILED
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in _FULL and _is_output_full():
            _leave_output()
            why = f"{exc.strerror}; what was done is done, and not told"
            click.echo(f"error: standard output: {why}", err=True)
        else:  # a mistake of kessel or a plugin: as Python shows it, but by our rules
            click.echo(traceback_text(sys.exc_info(), margin=""), err=True)
        return EXIT_FAILED


def _is_output_full() -> bool:
    """Whether it was standard output that took nothing, and not another file."""
    try:
        click.echo()
    except OSError:
        return True
    return False


def _leave_output() -> None:
    """Send to nowhere what is still to be written, so that it does not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def code_of(error: KesselError) -> int:
    """Return the exit code for an error (D12); of several mistakes at once a plugin's counts most."""
    match error:
        case PluginError():
            return EXIT_PLUGIN
        case InvalidConfig() if any(isinstance(problem, UnusablePlugin) for problem in error.problems):
            return EXIT_PLUGIN
        case ConfigError() | RequestError():
            return EXIT_USAGE
        case _:
            return EXIT_FAILED

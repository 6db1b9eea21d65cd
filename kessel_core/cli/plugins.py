"""`kessel plugins`, `hooks`, `middleware`: what is installed and how it fits together.

These work with any number of broken plugins: that is when they are needed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, pass_app, say
from kessel_core.cli.output import emit, preview, table
from kessel_core.errors import ConfigError, InvalidConfig, PluginClash
from kessel_core.values.printing import printable

if TYPE_CHECKING:
    from kessel_core.plugins.registry import Plugins
    from kessel_core.plugins.status import PluginStatus

__all__ = ["hooks", "middleware", "plugins"]


#: What the metadata of a plugin may say; it is written by others.
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+_-]+")

# --- plugins -------------------------------------------------------------------------------


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--check",
    is_flag=True,
    help="Exit with 3 if a NAME, or what the configuration names, is not usable, or claimed by two plugins.",
)
@click.option("--requirements", is_flag=True, help="Print the distributions as lines for pip.")
@as_json
@configured
@pass_app
def plugins(app: App, names: tuple[str, ...], check: bool, requirements: bool, as_json: bool) -> None:
    """List the plugins and what is wrong with them."""
    found = app.any_plugins
    clashes = _clashes(app, found)
    report = [status for status in found.report if not names or status.name in names]
    if requirements:
        _print_requirements(report)
    elif as_json:
        emit([_fields(status, clashes) for status in report])
    else:
        table(
            ["plugin", "distribution", "version", "status", "hooks", "remark"],
            [
                (
                    s.name,
                    s.distribution,
                    _version(s),
                    s.state,
                    ", ".join(_short(h) for h in s.hooks),
                    _remark(s, clashes),
                )
                for s in report
            ],
        )
    if check:
        _check(app, found, names)


def _print_requirements(report: list[PluginStatus]) -> None:
    lines = {f"{s.distribution}=={version}" for s in report if s.distribution and (version := _version(s))}
    for line in sorted(lines):
        if _REQUIREMENT.fullmatch(line):
            click.echo(line)
        else:  # pip would take a line of its own for an option
            say(f"warning: {printable(line, 200)!r} is not a name and a version; left out", err=True)


def _version(status: PluginStatus) -> str | None:
    if status.distribution == "kessel-core":  # what is built in was not found through its metadata
        from importlib.metadata import version

        return version("kessel-core")
    return status.version


def _fields(status: PluginStatus, clashes: list[PluginClash]) -> dict[str, object]:
    return {
        "name": status.name,
        "distribution": status.distribution,
        "version": _version(status),
        "module": status.module,
        "status": str(status.state),
        "why": status.why,
        "hooks": list(status.hooks),
        "conflicts": _conflicts(status, clashes),
        "warnings": list(status.warnings),
    }


def _short(hook: str) -> str:
    return hook.removeprefix("kessel_")


def _clashes(app: App, found: Plugins) -> list[PluginClash]:
    """Return the names that several plugins offer, and the configuration does not resolve."""
    try:
        settled = tuple(app.config.handlers)
    except ConfigError:
        settled = ()  # it was said that it is wrong, and not used
    return found.clashes(settled)


def _conflicts(status: PluginStatus, clashes: list[PluginClash]) -> list[str]:
    return [str(clash) for clash in clashes if status.owner in clash.owners]


def _remark(status: PluginStatus, clashes: list[PluginClash]) -> str:
    conflicts = (f"conflict: {text}" for text in _conflicts(status, clashes))
    return "; ".join(preview(text, 500) for text in (status.why, *conflicts, *status.warnings) if text)


def _check(app: App, found: Plugins, names: tuple[str, ...]) -> None:
    """Check everything that the arguments or the configuration name; print one line per mistake."""
    from kessel_core.cli.root import code_of
    from kessel_core.client.manager import JobManager

    app.import_from_here()
    attempts: list[Callable[[], object]] = [
        partial(found.require, name) for name in dict.fromkeys((*names, *app.config.plugins.required))
    ]
    if not names:
        attempts.append(JobManager(config=app.config, plugins=found).check)
    code = 0
    for attempt in attempts:
        try:
            attempt()
        except ConfigError as exc:
            code = max(code, code_of(exc))
            problems = app.loaded.located(exc).problems if isinstance(exc, InvalidConfig) else [exc]
            for problem in problems:
                say(f"error: {problem}", err=True)
    if code:
        raise SystemExit(code)


# --- hooks ---------------------------------------------------------------------------------


@click.command()
@as_json
@configured
@pass_app
def hooks(app: App, as_json: bool) -> None:
    """List the hooks and who implements them."""
    from kessel_core.hooks import specs

    found = app.any_plugins
    app.warn_of_plugins(found)
    rows: list[dict[str, Any]] = []
    for name, spec in vars(specs).items():
        if name.startswith("kessel_") and callable(spec):
            rows.append(
                {
                    "hook": name,
                    "arguments": list(inspect.signature(spec).parameters),
                    "summary": (inspect.getdoc(spec) or "").partition("\n")[0],
                    "plugins": [implementation.owner.name for implementation in found.implementations(spec)],
                }
            )
    if as_json:
        emit(rows)
        return
    table(
        ["hook", "plugins, first called first", "what it is for"],
        [
            (f"{row['hook']}({', '.join(row['arguments'])})", ", ".join(row["plugins"]), row["summary"])
            for row in rows
        ],
    )


# --- middleware ----------------------------------------------------------------------------


@click.command()
@as_json
@configured
@pass_app
def middleware(app: App, as_json: bool) -> None:
    """Show what goes around every job, and where it comes from.

    Outermost first.
    """
    from kessel_core.plugins.chain import build_chain

    found = app.any_plugins
    app.warn_of_plugins(found)
    origin = app.loaded.origins["middleware"]
    with app.located():
        chain = build_chain(found, app.config.middleware, app.config.middleware_options).members
    if as_json:
        emit({"origin": str(origin), "middleware": [attrs.asdict(link) for link in chain]})
        return
    say(f"order from: {origin}")
    table(
        ["#", "middleware", "from"],
        [(index, link.name, link.origin) for index, link in enumerate(chain, 1)],
    )

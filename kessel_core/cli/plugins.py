"""`kessel plugins`, `hooks`, `middleware`: what is installed and how it fits together.

These work with any number of broken plugins: that is when they are needed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import click

from kessel_core.cli.app import App, as_json, configured, pass_app
from kessel_core.cli.output import emit, preview, table
from kessel_core.errors import ConfigError, InvalidConfig

if TYPE_CHECKING:
    from kessel_core.plugins.discovery import PluginStatus
    from kessel_core.plugins.registry import Plugins

__all__ = ["hooks", "middleware", "plugins"]


# --- plugins -------------------------------------------------------------------------------


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--check", is_flag=True, help="Exit with 3 if a NAME, or what the configuration names, is not usable."
)
@click.option("--requirements", is_flag=True, help="Print the distributions as lines for pip.")
@as_json
@configured
@pass_app
def plugins(app: App, names: tuple[str, ...], check: bool, requirements: bool, as_json: bool) -> None:
    """List the plugins and what is wrong with them."""
    found = app.any_plugins
    report = [status for status in found.report if not names or status.name in names]
    if requirements:
        _print_requirements(report)
    elif as_json:
        emit([_fields(status) for status in report])
    else:
        table(
            ["plugin", "distribution", "version", "status", "hooks", "remark"],
            [
                (
                    s.name,
                    s.distribution,
                    _version(s),
                    s.status,
                    ", ".join(_short(h) for h in s.hooks),
                    _remark(s),
                )
                for s in report
            ],
        )
    if check:
        _check(app, found, names)


def _print_requirements(report: list[PluginStatus]) -> None:
    lines = {f"{s.distribution}=={version}" for s in report if s.distribution and (version := _version(s))}
    for line in sorted(lines):
        click.echo(line)


def _version(status: PluginStatus) -> str | None:
    if status.distribution == "kessel-core":  # what is built in was not found through its metadata
        from importlib.metadata import version

        return version("kessel-core")
    return status.version


def _fields(status: PluginStatus) -> dict[str, object]:
    return {
        "name": status.name,
        "distribution": status.distribution,
        "version": _version(status),
        "module": status.module,
        "status": str(status.status),
        "why": status.why,
        "hooks": list(status.hooks),
        "warnings": list(status.warnings),
    }


def _short(hook: str) -> str:
    return hook.removeprefix("kessel_")


def _remark(status: PluginStatus) -> str:
    return "; ".join(preview(text, 500) for text in (status.why, *status.warnings) if text)


def _check(app: App, found: Plugins, names: tuple[str, ...]) -> None:
    """Try all that is named, by argument or by the configuration; one line for each mistake."""
    from kessel_core.cli.root import code_of
    from kessel_core.plugins.chain import build_chain

    config = app.config
    attempts: list[Callable[[], object]] = [
        partial(found.require, name) for name in dict.fromkeys((*names, *config.plugins.required))
    ]
    if not names:
        attempts += [
            partial(found.chosen_adapter, config.adapter, config.adapter_options),
            partial(build_chain, found, config.middleware, config.middleware_options),
        ]
    code = 0
    for attempt in attempts:
        try:
            attempt()
        except ConfigError as exc:
            code = max(code, code_of(exc))
            told = app.loaded.located(exc).problems if isinstance(exc, InvalidConfig) else [exc]
            for problem in told:
                click.echo(f"error: {problem}", err=True)
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
            caller = getattr(found.manager.hook, name)
            rows.append(
                {
                    "hook": name,
                    "arguments": list(inspect.signature(spec).parameters),
                    "summary": (inspect.getdoc(spec) or "").partition("\n")[0],
                    # pluggy lists them in the order of registration; they are called last first.
                    "plugins": [impl.plugin_name for impl in reversed(caller.get_hookimpls())],
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
        chain = build_chain(found, app.config.middleware, app.config.middleware_options).links
    if as_json:
        emit({"origin": str(origin), "middleware": [attrs.asdict(link) for link in chain]})
        return
    click.echo(f"order from: {origin}")
    table(
        ["#", "middleware", "from"],
        [(index, link.name, link.origin) for index, link in enumerate(chain, 1)],
    )

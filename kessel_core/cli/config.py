"""`kessel config`: every option, its value, and where it comes from; never a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from kessel_core.cli.app import App, as_json, configured, logs_options, pass_app, queue_option, say
from kessel_core.cli.output import emit, table
from kessel_core.config.origin import LoadedConfig
from kessel_core.config.showing import shown

__all__ = ["config"]


@click.command()
@as_json
@logs_options
@queue_option
@configured
@pass_app
def config(app: App, as_json: bool) -> None:
    """Show every option, its value, and where it comes from.

    Passwords and other secrets are shown as ***.
    """
    loaded = app.loaded
    rows = list(_rows(loaded))
    if as_json:
        emit(
            {
                "file": None if loaded.file is None else str(loaded.file),
                "options": {
                    path: {"value": value, "origin": str(loaded.origins[path])} for path, value in rows
                },
            }
        )
        return
    say(f"file: {loaded.file or 'none'}")
    table(
        ["option", "value", "from"],
        [(path, _text(value), loaded.origins[path]) for path, value in rows],
    )


def _rows(loaded: LoadedConfig) -> Iterator[tuple[str, Any]]:
    for path in loaded.origins:
        value: Any = loaded.config
        for name in path.split("."):
            value = getattr(value, name)
        yield path, shown(path, value)


def _text(value: object) -> str:
    if value is None:
        return "(unset)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

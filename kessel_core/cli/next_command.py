"""The command that is shown to be typed next, as it must be typed here."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kessel_core.values.secrets import redacted

if TYPE_CHECKING:
    from kessel_core.cli.app import App

__all__ = ["next_command"]


def next_command(app: App, words: Sequence[str], ids: Sequence[str] = (), more: Sequence[str] = ()) -> str:
    """Return a command line: words, ids, and the options that chose the adapter as they were typed.

    Never with a secret. An adapter that was typed with one is there without it, so that the line, typed as it
    is, is refused; without any adapter it would act on the jobs of another one.

    Args:
        app: The command that shows it.
        words: What stands behind `kessel`.
        ids: Of jobs; one may look like an option.
        more: Options that stand behind those of the adapter.
    """
    options = [*_chosen(app), *more]
    looks_like_option = any(one.startswith("-") for one in ids)
    rest = [*options, "--", *ids] if looks_like_option else [*ids, *options]
    return shlex.join(["kessel", *words, *rest])


def _chosen(app: App) -> list[str]:
    words = [] if app.file is None else ["--config", app.file]
    if app.given("adapter"):
        words += ["--adapter", redacted(app.config.adapter)]
    return words

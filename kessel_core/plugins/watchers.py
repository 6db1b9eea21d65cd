"""Watching hooks, each called alone: what one raises is logged and changes nothing (D3)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pluggy

log = logging.getLogger("kessel.plugins")


def _fitted(impl: pluggy.HookImpl) -> Callable[..., Any]:
    """Call an implementation with only the arguments that it wants."""
    function, wanted = impl.function, impl.argnames

    def call(**arguments: Any) -> Any:
        return function(*[arguments[name] for name in wanted])

    return call


def _isolated(hook: str, impl: pluggy.HookImpl, owner: str) -> Callable[..., None]:
    call = _fitted(impl)

    def watch(**arguments: Any) -> None:
        try:
            call(**arguments)
        except KeyboardInterrupt:
            raise
        except BaseException:  # SystemExit would end the slot's thread in silence
            log.exception(
                "plugin %s: %s failed; the job goes on", owner, hook, extra={"plugin": impl.plugin_name}
            )

    return watch

"""What goes around the jobs of one application: a chain with a pluggy manager of its own (D2).

A chain is made for each application, so any number of them can stand on one set of plugins. It reads
the plugins and never changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final

import attrs
import pluggy

from kessel_core.errors import InvalidConfig, Problem, UnusablePlugin
from kessel_core.hooks import specs
from kessel_core.model.result import JobResult
from kessel_core.plugins.discovery import PluginStatus, hook_faults
from kessel_core.plugins.registry import Plugins
from kessel_core.values.nearest import nearest_or_all

__all__ = ["Chain", "ChainMember", "build_chain"]

#: The hooks that a chain calls; each is answered by the first that has an answer.
_HOOKS: Final = ("kessel_execute_job", "kessel_retry_pause")

#: What would be middleware by its name, but is set elsewhere.
_ELSEWHERE: Final = {"retry": "retries are set in the section `jobs`: jobs.retry_base, jobs.retry_cap"}


class _Around:
    """The specifications of these hooks, for pluggy."""

    kessel_execute_job = staticmethod(specs.kessel_execute_job)
    kessel_retry_pause = staticmethod(specs.kessel_retry_pause)


@attrs.frozen
class ChainMember:
    """One middleware of a chain."""

    name: str
    #: Plugin and distribution that it comes from.
    origin: str


@attrs.frozen(kw_only=True, eq=False)
class Chain:
    """What goes around every job of one application; safe for any thread."""

    #: Runs a job: `execute(job=...)`; raises what a middleware raises. Without a runner inside it may
    #: return None.
    execute: Callable[..., JobResult]
    #: Says how long to wait before the next attempt: `retry_pause(job=..., result=...)`; None: nobody says.
    retry_pause: Callable[..., timedelta | None]
    #: The configured middleware, outermost first.
    links: tuple[ChainMember, ...]


def build_chain(
    plugins: Plugins,
    order: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    inner: Iterable[object] = (),
) -> Chain:
    """Make the configured middleware, and put it around what plugins always do and the core's own.

    From the outside in: the middleware in the order of its names, the implementations that plugins
    have themselves, and `inner`.

    Args:
        plugins: What is offered.
        order: Names of middleware, outermost first.
        options: Options by name of the middleware.
        inner: The core's own implementations, which answer last: the retry policy, the handler's runner.

    Raises:
        InvalidConfig: Unknown names, wrong options, or what is no middleware; all at once.
    """
    made = _made(plugins, order, options or {})
    manager = pluggy.PluginManager("kessel")
    manager.add_hookspecs(_Around)
    # pluggy calls what was registered last first, so the innermost comes first; but of those that
    # want to be last (`trylast`) it calls the latest last.
    for name, plugin in plugins.manager.list_name_plugin():
        _register(manager, f"plugin {name}", plugin)
    problems: list[Problem] = []
    for name, thing, owner in reversed(made):
        problems.extend(
            UnusablePlugin(("middleware",), f"{name!r} from {owner.owner}: {text}")
            for text in _register(manager, f"middleware {name}", thing)
        )
    if problems:
        raise InvalidConfig(problems, "invalid middleware")
    for number, thing in enumerate(inner):
        _register(manager, f"core {number}", thing)
    return Chain(
        execute=manager.hook.kessel_execute_job,
        retry_pause=manager.hook.kessel_retry_pause,
        links=tuple(ChainMember(name, owner.owner) for name, _, owner in made),
    )


def _register(manager: pluggy.PluginManager, name: str, thing: object) -> list[str]:
    """Register what a thing has of the two hooks; return what is wrong with it as middleware."""
    found = hook_faults(thing)
    if found.why or not found.hooks:
        return [text for text in (found.why, *found.warnings) if text]
    hooks = {hook: getattr(thing, hook) for hook in _HOOKS if hook in found.hooks}
    try:
        if hooks:
            manager.register(SimpleNamespace(**hooks), name=name)
    except Exception as exc:
        return [f"{type(exc).__name__}: {exc}"]
    return [
        *found.warnings,
        *(
            f"a middleware has no {hook}: let the plugin itself implement it"
            for hook in found.hooks
            if hook not in _HOOKS
        ),
    ]


def _made(
    plugins: Plugins, order: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, object, PluginStatus]]:
    """Make the middleware of a chain: name, object, and the plugin that it comes from."""
    offered = plugins.named(specs.kessel_middleware, "middleware")
    problems = [
        Problem(("middleware",), f"{name!r} is named twice")
        for name in dict.fromkeys(order)
        if order.count(name) > 1
    ]
    chain: list[tuple[str, object, PluginStatus]] = []
    for name in dict.fromkeys(order):
        if name not in offered:
            problems.append(UnusablePlugin(("middleware",), _why_not(plugins, name, offered)))
            continue
        status, factory = offered[name]
        try:
            chain.append((name, factory(options.get(name, {})), status))
        except InvalidConfig as exc:
            problems.extend(exc.problems)
        except Exception as exc:
            problems.append(Problem(("middleware_options", name), f"{type(exc).__name__}: {exc}"))
    problems.extend(
        Problem(
            ("middleware_options", name),
            _ELSEWHERE.get(name) or f"no such middleware{nearest_or_all(name, offered)}",
        )
        for name in options
        if name not in offered
    )
    if problems:
        raise InvalidConfig(problems, "invalid middleware")
    return chain


def _why_not(plugins: Plugins, name: str, offered: Iterable[str]) -> str:
    if name in _ELSEWHERE:
        return f"{name!r} is no middleware; {_ELSEWHERE[name]}"
    unknown = f"{name!r} is not known{nearest_or_all(name, offered)}"
    return plugins.clashes.get(f"middleware {name!r}") or plugins.blamed(unknown)

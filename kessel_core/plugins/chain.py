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
from kessel_core.hooks.middleware import Middleware
from kessel_core.model.result import JobResult
from kessel_core.plugins.inspection import inspected
from kessel_core.plugins.offers import Offer, Offers
from kessel_core.plugins.registry import Plugins
from kessel_core.plugins.status import PluginStatus, blamed
from kessel_core.values.nearest import nearest_or_all

__all__ = ["Chain", "ChainMember", "build_chain"]

#: The hooks that a chain calls; each is answered by the first that has an answer.
_HOOKS: Final = tuple(sorted(specs.WRAPPABLE))

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
        order: Names of middleware, outermost first: `name`, or `plugin/name` or `distribution/name`.
        options: Options by name of the middleware, spelled as in `order`.
        inner: The core's own implementations, which answer last: the retry policy, the handler's runner.

    Raises:
        InvalidConfig: Unknown names, wrong options, or what is no middleware; all at once.
    """
    made = _made(plugins, order, options or {})
    manager = pluggy.PluginManager("kessel")
    manager.add_hookspecs(_Around)
    # pluggy calls what was registered last first, so the innermost comes first; but of those that
    # want to be last (`trylast`) it calls the latest last.
    for name, plugin in plugins.objects():
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
    found = inspected(thing)
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
    """Make the middleware of a chain: its name as it is written, the object, and its plugin."""
    offered = plugins.middleware()
    problems: list[Problem] = []
    chosen: dict[str, Offer] = {}
    for name in order:
        found = offered.of(name)
        if len(found) > 1:
            problems.append(offered.clash(name, ("middleware",)))
        elif not found:
            problems.append(UnusablePlugin(("middleware",), _unknown(plugins, name)))
        elif found[0] in chosen.values():
            problems.append(Problem(("middleware",), f"{name!r} is named twice"))
        else:
            chosen[name] = found[0]
    chain: list[tuple[str, object, PluginStatus]] = []
    for name, offer in chosen.items():
        try:
            chain.append((name, _object(name, offer.thing, options.get(name, {})), offer.owner))
        except InvalidConfig as exc:
            problems += exc.problems
        except Exception as exc:
            where = ("middleware_options", name) if name in options else ("middleware",)
            problems.append(Problem(where, f"{name!r} cannot be made: {type(exc).__name__}: {exc}"))
    problems += _useless(offered, chosen, options)
    if problems:
        raise InvalidConfig(problems, "invalid middleware")
    return chain


def _object(name: str, middleware: Middleware, given: Mapping[str, Any]) -> object:
    """Make one middleware; its options are structured and checked."""
    where = ("middleware_options", name)
    kind = middleware.options
    if kind is None:
        if given:
            text = f"unknown option; {middleware.name!r} has none"
            raise InvalidConfig([Problem((*where, option), text) for option in given])
        return middleware.factory()
    if given or any(field.default is attrs.NOTHING and field.init for field in attrs.fields(kind)):
        from kessel_core.values.options import structure_options  # cattrs loads only where there are options

        return middleware.factory(structure_options(kind, given, where=where))
    return middleware.factory(kind())


def _useless(
    offered: Offers, chosen: Mapping[str, Offer], options: Mapping[str, Mapping[str, Any]]
) -> Iterable[Problem]:
    """Yield the tables of options that nothing would read."""
    for name in options:
        where = ("middleware_options", name)
        written = [text for text, offer in chosen.items() if offer in offered.of(name)]
        if name in chosen:
            continue
        if written:
            yield Problem(where, f"`middleware` calls it {written[0]!r}: write it so here, too")
        elif not offered.of(name):
            yield Problem(
                where, _ELSEWHERE.get(name) or f"no such middleware{nearest_or_all(name, offered.names)}"
            )


def _unknown(plugins: Plugins, name: str) -> str:
    if name in _ELSEWHERE:
        return f"{name!r} is no middleware; {_ELSEWHERE[name]}"
    return blamed(f"{name!r} is not known{nearest_or_all(name, plugins.middleware().names)}", plugins.report)

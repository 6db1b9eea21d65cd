"""The middleware chain of an application, in a pluggy manager of its own (D2), around jobs and requests.

Each application has its own chain, so any number of applications can share one set of plugins. Building
a chain reads the plugins and never changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final

import attrs
import pluggy

from kessel_core.errors import InvalidConfig, Problem, UnusablePlugin
from kessel_core.handlers.wrapping import Runs, composed
from kessel_core.hooks import specs
from kessel_core.hooks.middleware import Middleware
from kessel_core.plugins import known
from kessel_core.plugins.enqueuing import EnqueueWrapper
from kessel_core.plugins.hooking import hook_manager
from kessel_core.plugins.inspection import inspected
from kessel_core.plugins.offers import Offer, Offers
from kessel_core.plugins.registry import Plugins
from kessel_core.plugins.status import missing, with_unusable
from kessel_core.values.nearest import nearest_or_all
from kessel_core.values.raised import said

__all__ = ["Chain", "ChainMember", "build_chain"]

#: The hooks that a chain calls; the first implementation with an answer decides.
_HOOKS: Final = tuple(sorted(specs.WRAPPABLE))

#: Names that look like middleware, but are configured elsewhere.
_ELSEWHERE: Final = {"retry": "retries are set in the section `jobs`: jobs.retry_base, jobs.retry_cap"}


class _ChainSpecs:
    """The specifications of these hooks, for pluggy."""

    kessel_execute_job = staticmethod(specs.kessel_execute_job)
    kessel_retry_pause = staticmethod(specs.kessel_retry_pause)
    kessel_enqueue_jobs = staticmethod(specs.kessel_enqueue_jobs)


@attrs.frozen
class ChainMember:
    """One middleware of a chain."""

    #: Its name as configured.
    name: str
    #: The plugin and distribution that it comes from.
    origin: str


@attrs.frozen(kw_only=True, eq=False)
class Chain:
    """What wraps every job of an application; thread-safe."""

    #: Runs a job; raises what a middleware raises. Returns None if there is no handler runner inside and
    #: nothing else answers.
    execute: Runs
    #: Returns the pause before the next attempt: `retry_pause(job=..., result=...)`; None: no policy answers.
    retry_pause: Callable[..., timedelta | None]
    #: Who goes around a call that stores jobs, outermost first.
    enqueue: tuple[EnqueueWrapper, ...]
    #: The configured middleware, outermost first.
    members: tuple[ChainMember, ...]


def build_chain(
    plugins: Plugins,
    order: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    inner: Iterable[object] = (),
    only_requests: bool = False,
) -> Chain:
    """Create the configured middleware, and put it around the plugins' own hooks and those of the core.

    From the outside in: the middleware in the given order, the implementations of the plugins themselves,
    and `inner`.

    Args:
        plugins: The plugins that offer middleware.
        order: Names of middleware, outermost first: `name`, or `plugin/name` or `distribution/name`.
        options: Options by name of middleware, spelled as in `order`.
        inner: The core's own implementations, which answer last: the retry policy, the handler runner.
        only_requests: Whether the process runs no jobs: then only middleware that is for requests is made,
            and what else is named need not be there.

    Raises:
        InvalidConfig: Unknown names, wrong options, or objects that are not middleware; all at once.
    """
    if only_requests:
        order = [name for name in order if _is_for_requests(plugins, name)]
        options = {name: table for name, table in (options or {}).items() if name in order}
    configured = _configured(plugins, order, options or {})
    manager = hook_manager(_ChainSpecs)
    # pluggy calls the latest registration first, so the innermost is registered first; but among those
    # with `trylast` it calls the latest last.
    for name, plugin in plugins.objects():
        _register(manager, f"plugin {name}", plugin)
    problems: list[Problem] = []
    for name, thing, offer in reversed(configured):
        if hasattr(thing, "kessel_enqueue_jobs") and not offer.thing.for_requests:
            text = "it has a kessel_enqueue_jobs, so its Middleware needs for_requests=True"
            problems.append(UnusablePlugin(("middleware",), f"{name!r} from {offer.owner.owner}: {text}"))
        problems.extend(
            UnusablePlugin(("middleware",), f"{name!r} from {offer.owner.owner}: {text}")
            for text in _register(manager, f"middleware {name}", thing)
        )
    if problems:
        raise InvalidConfig(problems, "invalid middleware")
    for number, thing in enumerate(inner):
        _register(manager, f"core {number}", thing)
    return Chain(
        execute=composed(manager.hook.kessel_execute_job.get_hookimpls()),
        retry_pause=manager.hook.kessel_retry_pause,
        enqueue=tuple(
            EnqueueWrapper(impl.plugin_name, impl.function, tuple(impl.argnames))
            for impl in reversed(manager.hook.kessel_enqueue_jobs.get_hookimpls())
        ),
        members=tuple(ChainMember(name, offer.owner.owner) for name, _, offer in configured),
    )


def _register(manager: pluggy.PluginManager, name: str, thing: object) -> list[str]:
    """Register the chain hooks of an object; return what is wrong with it as middleware."""
    found = inspected(thing)
    if found.why or not found.hooks:
        return [text for text in (found.why, *found.warnings) if text]
    hooks = {hook: getattr(thing, hook) for hook in _HOOKS if hook in found.hooks}
    try:
        if hooks:
            manager.register(SimpleNamespace(**hooks), name=name)
    except Exception as exc:
        return [said(exc)]
    return [
        *found.warnings,
        *(
            f"a middleware has no {hook}: let the plugin itself implement it"
            for hook in found.hooks
            if hook not in _HOOKS
        ),
    ]


def _configured(
    plugins: Plugins, order: Sequence[str], options: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, object, Offer]]:
    """Create the middleware of a chain: name as configured, object, and offer of each."""
    offered = plugins.middleware()
    problems: list[Problem] = []
    offers: dict[str, Offer] = {}
    for name in order:
        found = offered.of(name)
        if len(found) > 1:
            problems.append(offered.clash(name, ("middleware",)))
        elif not found:
            problems.append(UnusablePlugin(("middleware",), _unknown(plugins, name)))
        elif found[0] in offers.values():
            problems.append(Problem(("middleware",), f"{name!r} is named twice"))
        else:
            offers[name] = found[0]
    chain: list[tuple[str, object, Offer]] = []
    for name, offer in offers.items():
        try:
            chain.append((name, _create(name, offer.thing, options.get(name, {})), offer))
        except InvalidConfig as exc:
            problems += exc.problems
        except (Exception, SystemExit) as exc:  # as at import
            where = ("middleware_options", name) if name in options else ("middleware",)
            problems.append(Problem(where, f"{name!r} cannot be made: {said(exc)}"))
    problems += _unread_options(offered, offers, options)
    if problems:
        raise InvalidConfig(problems, "invalid middleware")
    return chain


def _is_for_requests(plugins: Plugins, name: str) -> bool:
    # One that is known to be for requests, and is not installed, must not be left out in silence.
    return name in known.MIDDLEWARE or any(
        offer.thing.for_requests for offer in plugins.middleware().of(name)
    )


def _create(name: str, middleware: Middleware, given: Mapping[str, Any]) -> object:
    """Create one middleware from its options."""
    where = ("middleware_options", name)
    options_class = middleware.options
    if options_class is None:
        if given:
            text = f"unknown option; {middleware.name!r} has none"
            raise InvalidConfig([Problem((*where, option), text) for option in given])
        return middleware.factory()
    if given or any(field.default is attrs.NOTHING and field.init for field in attrs.fields(options_class)):
        from kessel_core.values.options import structure_options  # cattrs loads only where there are options

        return middleware.factory(structure_options(options_class, given, where=where))
    return middleware.factory(options_class())


def _unread_options(
    offered: Offers, used: Mapping[str, Offer], options: Mapping[str, Mapping[str, Any]]
) -> Iterable[Problem]:
    """Yield a problem for each table of options that nothing would read."""
    for name in options:
        where = ("middleware_options", name)
        written = [text for text, offer in used.items() if offer in offered.of(name)]
        if name in used:
            continue
        if written:
            yield Problem(where, f"`middleware` calls it {written[0]!r}: write it so here, too")
        elif not offered.of(name):
            yield Problem(
                where, _ELSEWHERE.get(name) or f"no such middleware{nearest_or_all(name, offered.names)}"
            )


def _unknown(plugins: Plugins, name: str) -> str:
    if name in _ELSEWHERE:
        return f"{name!r} is not a middleware; {_ELSEWHERE[name]}"
    hint = nearest_or_all(name, plugins.middleware().names)
    if name in known.MIDDLEWARE:
        hint = missing(known.MIDDLEWARE[name], plugins.report)
    return with_unusable(f"{name!r} is not known{hint}", plugins.report)

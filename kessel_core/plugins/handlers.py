"""Which handler runs which job type: the application takes precedence over plugins.

If two plugins offer the same type, that is an error until the configuration says which is meant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from kessel_core.errors import InvalidConfig, Problem
from kessel_core.handlers.modules import Imported
from kessel_core.handlers.registry import HandlerRegistry
from kessel_core.plugins.offers import Offers
from kessel_core.plugins.registry import Plugins
from kessel_core.values.logs import get_logger
from kessel_core.values.nearest import did_you_mean

__all__ = ["collect_handlers"]

log = get_logger("kessel.plugins")


def collect_handlers(
    plugins: Plugins,
    configured: Mapping[str, str],
    given: Mapping[str, object] | Iterable[object] | None = None,
) -> HandlerRegistry:
    """Collect the handlers of an application.

    Args:
        plugins: The plugins that offer handlers; used for types that neither of the other two maps.
        configured: `[kessel.handlers]`: type -> `module:attribute`, or the handler of a plugin: its type,
            `plugin/type` or `distribution/type`.
        given: Handlers that the application passes in code.

    Raises:
        InvalidConfig: With every mistake, each under `handlers` or `handlers.TYPE`.
    """
    offered = plugins.handlers()
    registry = HandlerRegistry(plugins.payload_types())
    problems = [Problem(("handlers",), text, f"plugin {owner.owner}") for owner, text in offered.rejected]
    for job_type, target in configured.items():
        try:
            registry.add(job_type, _target(job_type, target, offered), "the configuration")
        except InvalidConfig as exc:
            # The option alone: whoever reports it adds the file and the variable that it comes from.
            where = ("handlers", job_type)
            problems += [attrs.evolve(found, where=where, origin="") for found in exc.problems]
    if given is not None:
        source = given.origin if isinstance(given, Imported) else "JobManager(handlers=...)"
        try:
            registry.add_all(given, source)
        except InvalidConfig as exc:
            problems += exc.problems
    for name in offered.names:
        first, *more = offered.of(name)
        known = registry.get(name)
        if known is not None:
            for offer in (first, *more):
                log.debug("handler %r: %s goes before plugin %s", name, known.source, offer.owner.owner)
        elif name in configured:
            continue  # its mistake is already in the list
        elif more:
            problems.append(offered.clash(name, ("handlers", name)))
        else:
            try:
                registry.add(name, first.thing, f"plugin {first.owner.owner}")
            except InvalidConfig as exc:
                problems += exc.problems
    if problems:
        raise InvalidConfig(problems, "invalid handlers")
    return registry


def _target(job_type: str, text: str, offered: Offers) -> object:
    """Return what a value in the configuration stands for: a `module:attribute`, or a plugin's handler."""
    if ":" in text.partition("/")[0]:
        return text
    found = offered.of(text)
    if len(found) == 1:
        return found[0].thing
    if found:
        written = " or ".join(repr(offer.qualified[0]) for offer in found)
        raise InvalidConfig([attrs.evolve(offered.clash(text), advice=f"write {written} there")])
    hint = did_you_mean(text, offered.table)
    problem = Problem(
        ("handlers", job_type), f"no plugin offers a handler {text!r}{hint}; use 'module:attribute'"
    )
    raise InvalidConfig([problem])

"""What plugins offer under which names: one table for each kind of offer. Calls no plugin, decides nothing.

A name that two plugins offer is a clash, unless it is written with its owner: `plugin/name` or
`distribution/name`. The same object from two sources is not a clash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MethodType
from typing import Any, Final, TypeAlias

import attrs

from kessel_core.contract.spec import AdapterSpec
from kessel_core.contract.store import StoreSpec
from kessel_core.errors import PluginClash
from kessel_core.handlers.declare import options_of
from kessel_core.hooks.middleware import Middleware
from kessel_core.hooks.section import Section
from kessel_core.plugins.discovery import normalized_name
from kessel_core.plugins.status import APPLICATION, PluginStatus

__all__ = ["Offer", "Offers", "same_thing"]

#: What the hook of each plugin returned.
Given: TypeAlias = Iterable[tuple[PluginStatus, Mapping[Any, Any] | list[Any]]]

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@attrs.frozen(kw_only=True, eq=False)
class Offer:
    """One thing that a plugin offers under a name."""

    #: The name, without its owner.
    name: str
    #: What is offered.
    thing: Any
    #: The plugin that offers it.
    owner: PluginStatus

    @property
    def qualified(self) -> tuple[str, ...]:
        """The ways to write the name with its owner; the first is the shortest."""
        owners = [self.owner.name]
        if self.owner.distribution != APPLICATION:
            owners += [self.owner.distribution, normalized_name(self.owner.distribution)]
        return tuple(dict.fromkeys(f"{owner}/{self.name}" for owner in owners))


def _in_handlers(name: str, written: Sequence[str]) -> str:
    key = name if _BARE_KEY.fullmatch(name) else json.dumps(name)
    return f"write in [kessel.handlers] {' or '.join(f'{key} = {text}' for text in written)}"


#: Kind of offer -> advice on a clash, from the name and the ways to write it with each owner.
_ADVICE: Final[Mapping[str, Callable[[str, Sequence[str]], str]]] = {
    "handler": _in_handlers,
    "middleware": lambda name, written: f"write in `middleware` {' or '.join(written)}",
    "callback": lambda name, written: f"ask for {' or '.join(written)}, followed by `:target`",
    "adapter": lambda name, written: "disable one of them in [kessel.plugins]",
    "store": lambda name, written: "disable one of them in [kessel.plugins]",
    "section": lambda name, written: "disable one of them in [kessel.plugins]",
}


@attrs.frozen(kw_only=True, eq=False)
class Offers:
    """All offers of one kind; immutable, so thread-safe."""

    #: `adapter`, `store`, `handler`, `middleware`, `section` or `callback`.
    kind: str
    #: Spelling -> the offers that it means: each plain name, and each name with its owner.
    table: Mapping[str, tuple[Offer, ...]]
    #: Plain names, sorted.
    names: tuple[str, ...]
    #: Return values that the hook does not allow: the plugin, and what is wrong.
    rejected: tuple[tuple[PluginStatus, str], ...] = ()

    def of(self, spelling: str) -> tuple[Offer, ...]:
        """Return the offers under a name: none, one, or several that clash.

        Args:
            spelling: A name, or `plugin/name`, or `distribution/name`.
        """
        return self.table.get(spelling, ())

    def usable(self) -> dict[str, Any]:
        """Return what each spelling means: a plain name that is unique, else each name with its owner."""
        found: dict[str, Any] = {}
        for name in self.names:
            first, *more = self.of(name)
            if not more:
                found[name] = first.thing
                continue
            for text in (text for offer in (first, *more) for text in offer.qualified):
                if len(self.of(text)) == 1:
                    found[text] = self.of(text)[0].thing
        return found

    def clash(self, name: str, where: tuple[str, ...] = ()) -> PluginClash:
        """Describe the clash of a name, and how to resolve it."""
        offers = self.of(name)
        owners = tuple(dict.fromkeys(offer.owner.owner for offer in offers))
        by = " and by ".join(owners) if len(owners) > 1 else f"{owners[0]} more than once"
        written = [json.dumps(text) for text in dict.fromkeys(offer.qualified[0] for offer in offers)]
        advice = _ADVICE[self.kind](name, written)
        if len(owners) == 1:  # its name says no more than that of the offer
            is_handler = self.kind == "handler"
            advice = _in_handlers(name, ['"module:attribute"']) if is_handler else "tell its author"
        return PluginClash(where, f"{self.kind} {name!r} is offered by {by}", owners=owners, advice=advice)

    def clashes(self) -> list[PluginClash]:
        """Return a clash for each plain name with several offers, sorted."""
        return [self.clash(name) for name in self.names if len(self.of(name)) > 1]


def gathered(kind: str, given: Given) -> Offers:
    """Build the table from what plugins returned."""
    plain: dict[str, list[Offer]] = {}
    qualified: dict[str, list[Offer]] = {}
    rejected: list[tuple[PluginStatus, str]] = []
    for owner, things in given:
        for name, thing in _READ[kind](things):
            if name is None:
                rejected.append((owner, f"{thing}"))
                continue
            offer = Offer(name=name, thing=thing, owner=owner)
            _add(plain.setdefault(name, []), offer)
            for text in offer.qualified:
                _add(qualified.setdefault(text, []), offer)
    return Offers(
        kind=kind,
        table={text: tuple(offers) for text, offers in (qualified | plain).items()},
        names=tuple(sorted(plain)),
        rejected=tuple(rejected),
    )


def _add(offers: list[Offer], offer: Offer) -> None:
    if not any(same_thing(offer.thing, known.thing) for known in offers):
        offers.append(offer)


def same_thing(one: object, other: object) -> bool:
    """Whether two sources offer the same object; bound methods are compared, as each access creates one."""
    values = (MethodType, str, Middleware, Section)
    return one is other or (type(one) is type(other) and isinstance(one, values) and one == other)


# --- one reader per kind: pairs of name and thing; if the name is None, the thing says what is wrong -------

_Read: TypeAlias = Iterator[tuple[str | None, Any]]


def _no_options(name: str, options: object) -> str:
    return f"the options of {name!r} must be an attrs class, got {options!r:.80}"


def _specs(hook: str, kind: type[AdapterSpec] | type[StoreSpec], things: Iterable[Any]) -> _Read:
    for spec in things:
        if not isinstance(spec, kind):
            article = "an" if kind is AdapterSpec else "a"
            yield None, f"{hook} gave {type(spec).__name__}, not {article} {kind.__name__}"
            continue
        if not attrs.has(spec.options):
            yield None, f"{hook}: {_no_options(spec.name, spec.options)}"
            continue
        for key in dict.fromkeys((spec.name, *(f"{scheme}://" for scheme in spec.schemes))):
            yield key, spec


def _handlers(things: Mapping[Any, Any] | list[Any]) -> _Read:
    if isinstance(things, Mapping):
        for name, target in things.items():
            if isinstance(name, str) and name.strip():
                yield name.strip(), target
            else:
                yield None, f"kessel_handlers gave the type {name!r:.80}; expected text that is not blank"
        return
    for target in things:
        options = options_of(target)
        if options is not None:
            yield options.type, target
        else:
            why = "which has no type: decorate it with @handler(type), or offer a mapping"
            yield None, f"kessel_handlers gave {target!r:.80}, {why}"


def _middleware(things: Iterable[Any]) -> _Read:
    for thing in things:
        if not isinstance(thing, Middleware):
            yield None, f"kessel_middleware gave {type(thing).__name__}, not a Middleware"
        elif thing.options is not None and not attrs.has(thing.options):
            yield None, f"kessel_middleware: {_no_options(thing.name, thing.options)}"
        else:
            yield thing.name, thing


def _sections(things: Iterable[Any]) -> _Read:
    for thing in things:
        if not isinstance(thing, Section):
            yield None, f"kessel_sections gave {type(thing).__name__}, not a Section"
        elif not attrs.has(thing.options):
            yield None, f"kessel_sections: {_no_options(thing.name, thing.options)}"
        else:
            yield thing.name, thing


def _callbacks(things: Mapping[Any, Any] | list[Any]) -> _Read:
    if not isinstance(things, Mapping):
        yield None, f"kessel_callbacks gave a {type(things).__name__}, not a mapping scheme -> function"
        return
    for scheme, function in things.items():
        if isinstance(scheme, str) and callable(function):
            yield scheme, function
        else:
            yield None, f"kessel_callbacks gave {scheme!r:.80}: {function!r:.80}, not a scheme and a function"


_READ: Final[Mapping[str, Callable[[Any], _Read]]] = {
    "adapter": partial(_specs, "kessel_adapters", AdapterSpec),
    "store": partial(_specs, "kessel_stores", StoreSpec),
    "handler": _handlers,
    "middleware": _middleware,
    "section": _sections,
    "callback": _callbacks,
}

"""Finds the adapter or the store for a URL or a name, checks its options, and opens it.

In two steps, so that all mistakes are found at once, before anything connects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import SplitResult

import attrs

from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.spec import AdapterContext, AdapterSpec
from kessel_core.contract.store import Store, StoreSpec
from kessel_core.contract.url import split_url
from kessel_core.errors import ConfigError, InvalidConfig, KesselError, PluginError, Problem, UnusablePlugin
from kessel_core.plugins.known import BACKENDS
from kessel_core.plugins.offers import Offers
from kessel_core.plugins.status import PluginState, PluginStatus, unusable, with_unusable
from kessel_core.values.nearest import nearest_or_all
from kessel_core.values.raised import said
from kessel_core.values.secrets import redacted

__all__ = ["ADAPTERS", "STORES", "Chosen", "Kind", "choose"]

T = TypeVar("T")
_Spec: TypeAlias = AdapterSpec | StoreSpec


@attrs.frozen
class Kind(Generic[T]):
    """What is opened: adapters or stores."""

    #: `adapter` or `store`: the option that names it, and the word in errors.
    word: str
    #: The class of what is opened.
    opened: type[T]


ADAPTERS: Final[Kind[QueueAdapter]] = Kind("adapter", QueueAdapter)  # type: ignore[type-abstract]  # only compared
STORES: Final[Kind[Store]] = Kind("store", Store)  # type: ignore[type-abstract]  # only compared


@attrs.frozen(kw_only=True, eq=False)
class Chosen(Generic[T]):
    """An adapter or a store that is not open yet, with its checked options."""

    #: What it is.
    kind: Kind[T]
    #: How to open it.
    spec: _Spec
    #: An instance of its own options class.
    options: Any

    def open(self, context: AdapterContext) -> T:
        """Open it.

        Raises:
            AdapterError: The backend cannot be reached, or is not the expected one.
            InvalidConfig: It declares what cannot be, such as a lease of zero.
            PluginError: Its own code failed, for example because its client library is missing.
        """
        word = self.kind.word
        try:
            opened = self.spec.open(self.options, context)
            if isinstance(opened, QueueAdapter):
                # They may depend on options and be made when they are asked for; what cannot be is told now.
                try:
                    _ = opened.capabilities
                except BaseException:
                    # What is wrong with it is told, and not what follows from that.
                    with suppress(Exception, SystemExit):
                        opened.close()
                    raise
        except KesselError:
            raise
        except (Exception, SystemExit) as exc:
            # A missing client library, or code that does not translate its errors.
            why = f"its {word} cannot be opened: {said(exc)}"
            raise PluginError(self.spec.name, why) from exc
        if not isinstance(opened, self.kind.opened):
            expected = self.kind.opened.__name__
            raise ConfigError(f"{word} {self.spec.name!r} opened a {type(opened).__name__}, not a {expected}")
        return opened


def choose(
    kind: Kind[T],
    offered: Offers,
    report: Sequence[PluginStatus],
    url_or_name: str,
    options: Mapping[str, Any],
) -> Chosen[T]:
    """Find an adapter or a store, and check its options.

    Args:
        kind: Which of both.
        offered: What is available of that kind, by name and by `scheme://`.
        report: The plugins, for advice if there is nothing of that name.
        url_or_name: A URL, whose scheme finds it, or its name.
        options: Additional options; one that is also in the URL is an error.

    Raises:
        InvalidConfig: There is nothing of that name, or the URL or the options are wrong; all at once, each
            under `adapter` or `adapter_options`, or `store` or `store_options`.
        PluginError: The plugin that would open it is not usable, or its code failed.
    """
    name, is_url, _ = url_or_name.partition("://")
    key = f"{name.lower()}{is_url}" if is_url else name
    if key not in offered.names:
        raise _unknown(kind.word, offered, report, key)
    found = offered.of(key)
    if len(found) > 1:
        raise InvalidConfig([offered.clash(key, (kind.word,))], f"{kind.word} that is offered twice")
    spec: _Spec = found[0].thing
    if not is_url:
        return _structured(kind, spec, {}, options, name)
    try:
        url = split_url(url_or_name)
    except ValueError:
        # Python's message repeats the URL, so it is not kept as the cause either.
        why = f"{redacted(url_or_name)!r} cannot be read as a URL"
        raise InvalidConfig([Problem((kind.word,), why)], f"invalid {kind.word} URL") from None
    return _structured(kind, spec, _from_url(kind.word, spec, url), options, redacted(url))


def _unknown(word: str, offered: Offers, report: Sequence[PluginStatus], key: str) -> ConfigError:
    """Return the error that no plugin opens this URL or name, with advice."""
    name, is_url, _ = key.partition("://")
    distribution = BACKENDS[word].get(name)
    owned = [status for status in report if status.distribution == distribution]
    for status in owned:
        if status.state is not PluginState.ACTIVE:
            return unusable(status)
    if distribution is not None and not owned:
        hint = f"; run: pip install {distribution}"
    elif not is_url and not set(name).isdisjoint("/.:"):
        hint = "; write a URL, as sqlite:///jobs.db"
    else:
        ending = "://" if is_url else ""
        known = [text.removesuffix(ending) for text in offered.names if text.endswith("://") == bool(is_url)]
        hint = nearest_or_all(name, known)
    opens = "opens" if word == "adapter" else f"has a {word} for"
    problem = UnusablePlugin((word,), with_unusable(f"no plugin {opens} {redacted(key)!r}{hint}", report))
    return InvalidConfig([problem], f"unknown {word}")


def _from_url(word: str, spec: _Spec, url: SplitResult) -> Mapping[str, Any]:
    try:
        return spec.from_url(url)
    except InvalidConfig as exc:
        problems = [p.under(word).given_by(redacted(url)) for p in exc.problems]
        raise InvalidConfig(problems, f"invalid {word} URL") from exc
    except KesselError:
        raise
    except (Exception, SystemExit) as exc:
        why = f"it cannot read the URL {redacted(url)}: {said(exc)}"
        raise PluginError(spec.name, why) from exc


def _structured(
    kind: Kind[T], spec: _Spec, from_url: Mapping[str, Any], additional: Mapping[str, Any], shown: str
) -> Chosen[T]:
    from kessel_core.values.options import structure_options  # cattrs loads only where options are read

    section, headline = f"{kind.word}_options", f"invalid {kind.word} options"

    def placed(problem: Problem) -> Problem:
        name = problem.where[0] if problem.where else ""
        if name in additional and name not in from_url:
            return problem.under(section)
        return problem.under(kind.word).given_by(shown)

    twice = [Problem((section, name), "is also in the URL") for name in additional if name in from_url]
    try:
        options = structure_options(spec.options, {**additional, **from_url})
    except InvalidConfig as exc:
        raise InvalidConfig([*twice, *map(placed, exc.problems)], headline) from exc
    except Exception as exc:  # of its own class, as an annotation that nobody can resolve
        raise PluginError(spec.name, f"its options cannot be read: {said(exc)}") from exc
    if twice:
        raise InvalidConfig(twice, headline)
    return Chosen(kind=kind, spec=spec, options=options)

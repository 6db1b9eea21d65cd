"""Finds the adapter for a URL or a name, checks its options, and opens it.

In two steps, so that all mistakes are found at once, before anything connects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

import attrs

from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.spec import AdapterContext, AdapterSpec
from kessel_core.errors import ConfigError, InvalidConfig, KesselError, PluginError, Problem, UnusablePlugin
from kessel_core.plugins.known import ADAPTERS
from kessel_core.plugins.offers import Offers
from kessel_core.plugins.status import PluginState, PluginStatus, unusable, with_unusable
from kessel_core.values.nearest import nearest_or_all
from kessel_core.values.secrets import redacted, without_secrets

__all__ = ["ChosenAdapter", "choose_adapter"]


@attrs.frozen(kw_only=True, eq=False)
class ChosenAdapter:
    """An adapter that is not open yet, with its checked options."""

    #: How to open it.
    spec: AdapterSpec
    #: An instance of the adapter's own options class.
    options: Any

    def open(self, context: AdapterContext) -> QueueAdapter:
        """Open it.

        Raises:
            AdapterError: The backend cannot be reached, or is not the expected one.
            PluginError: The adapter's own code failed, for example because its client library is missing.
        """
        try:
            opened = self.spec.open(self.options, context)
        except KesselError:
            raise
        except Exception as exc:
            # A missing client library, or an adapter that does not translate its errors.
            why = f"its adapter cannot be opened: {type(exc).__name__}: {without_secrets(str(exc))}"
            raise PluginError(self.spec.name, why) from exc
        if not isinstance(opened, QueueAdapter):
            raise ConfigError(
                f"adapter {self.spec.name!r} opened a {type(opened).__name__}, not a QueueAdapter"
            )
        return opened


def choose_adapter(
    offered: Offers, report: Sequence[PluginStatus], url_or_name: str, options: Mapping[str, Any]
) -> ChosenAdapter:
    """Find the adapter and check its options.

    Args:
        offered: The available adapters, by name and by `scheme://`.
        report: The plugins, for advice if there is no such adapter.
        url_or_name: A URL, whose scheme finds the adapter, or an adapter's name.
        options: Additional options; one that is also in the URL is an error.

    Raises:
        InvalidConfig: There is no such adapter, or the URL or the options are wrong; all at once, each
            under `adapter` or `adapter_options`.
        PluginError: The plugin that would open it is not usable, or its code failed.
    """
    name, is_url, _ = url_or_name.partition("://")
    key = f"{name.lower()}{is_url}" if is_url else name
    if key not in offered.names:
        raise _unknown(offered, report, key)
    found = offered.of(key)
    if len(found) > 1:
        raise InvalidConfig([offered.clash(key, ("adapter",))], "adapter that is offered twice")
    spec: AdapterSpec = found[0].thing
    if not is_url:
        return _structured(spec, {}, options, name)
    try:
        url = urlsplit(url_or_name)
    except ValueError:
        # Python's message repeats the URL, so it is not kept as the cause either.
        why = f"{redacted(url_or_name)!r} cannot be read as a URL"
        raise InvalidConfig([Problem(("adapter",), why)], "invalid adapter URL") from None
    return _structured(spec, _from_url(spec, url), options, redacted(url))


def _unknown(offered: Offers, report: Sequence[PluginStatus], key: str) -> ConfigError:
    """Return the error that no plugin opens this URL or name, with advice."""
    name, is_url, _ = key.partition("://")
    distribution = ADAPTERS.get(name)
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
    problem = UnusablePlugin(("adapter",), with_unusable(f"no plugin opens {redacted(key)!r}{hint}", report))
    return InvalidConfig([problem], "unknown adapter")


def _from_url(spec: AdapterSpec, url: SplitResult) -> Mapping[str, Any]:
    try:
        return spec.from_url(url)
    except InvalidConfig as exc:
        problems = [p.under("adapter").given_by(redacted(url)) for p in exc.problems]
        raise InvalidConfig(problems, "invalid adapter URL") from exc
    except KesselError:
        raise
    except Exception as exc:
        why = f"it cannot read the URL {redacted(url)}: {type(exc).__name__}: {without_secrets(str(exc))}"
        raise PluginError(spec.name, why) from exc


def _structured(
    spec: AdapterSpec, from_url: Mapping[str, Any], additional: Mapping[str, Any], shown: str
) -> ChosenAdapter:
    from kessel_core.values.options import structure_options  # cattrs loads only where options are read

    def placed(problem: Problem) -> Problem:
        name = problem.where[0] if problem.where else ""
        if name in additional and name not in from_url:
            return problem.under("adapter_options")
        return problem.under("adapter").given_by(shown)

    twice = [
        Problem(("adapter_options", name), "is also in the URL") for name in additional if name in from_url
    ]
    try:
        options = structure_options(spec.options, {**additional, **from_url})
    except InvalidConfig as exc:
        raise InvalidConfig([*twice, *map(placed, exc.problems)], "invalid adapter options") from exc
    if twice:
        raise InvalidConfig(twice, "invalid adapter options")
    return ChosenAdapter(spec=spec, options=options)

"""Which adapter is meant by a URL or a name, and whether its options are right; then opening it.

Two steps, so that whatever is wrong is found, and told with everything else, before anything connects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import attrs

from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.spec import AdapterContext, AdapterSpec
from kessel_core.errors import ConfigError, InvalidConfig, KesselError, PluginError, Problem
from kessel_core.values.secrets import redacted

__all__ = ["ChosenAdapter", "KNOWN_DISTRIBUTIONS", "chosen", "key_of"]


#: Distributions of this project that open a scheme or a name, for the advice what to install.
KNOWN_DISTRIBUTIONS: Final = {
    "sqlite": "kessel-sqlite",
    "memory": "kessel-memory",
    "beanstalk": "kessel-beanstalk",
}


@attrs.frozen(kw_only=True, eq=False)
class ChosenAdapter:
    """An adapter that is not open yet, with options that are right."""

    spec: AdapterSpec
    #: An instance of the adapter's own options class.
    options: Any

    def open(self, context: AdapterContext) -> QueueAdapter:
        """Open it.

        Raises:
            AdapterError: The backend cannot be reached, or is not what it should be.
            PluginError: The adapter's own code failed, for example because its client library is missing.
        """
        try:
            opened = self.spec.open(self.options, context)
        except KesselError:
            raise
        except Exception as exc:
            # A missing client library, or an adapter that does not translate its errors.
            why = f"its adapter cannot be opened: {type(exc).__name__}: {exc}"
            raise PluginError(self.spec.name, why) from exc
        if not isinstance(opened, QueueAdapter):
            raise ConfigError(
                f"adapter {self.spec.name!r} opened a {type(opened).__name__}, not a QueueAdapter"
            )
        return opened


def key_of(url_or_name: str) -> str:
    """Return what finds the adapter: `sqlite://` of a URL, or the name itself."""
    name, is_url, _ = url_or_name.partition("://")
    return f"{name.lower()}{is_url}" if is_url else name


def chosen(
    specs: Iterable[AdapterSpec], url_or_name: str, options: Mapping[str, Any] | None = None
) -> ChosenAdapter | None:
    """Find the adapter and structure its options; None if no spec fits.

    Args:
        specs: The adapters that are there.
        url_or_name: A URL, whose scheme finds the adapter, or an adapter's name.
        options: Further options; one that is also in the URL is an error.

    Raises:
        InvalidConfig: The URL or the options are wrong; all at once, each under `adapter` or
            `adapter_options`.
        PluginError: The adapter's own code failed.
    """
    name, is_url, _ = url_or_name.partition("://")
    if not is_url:
        spec = next((spec for spec in specs if spec.name == name), None)
        return None if spec is None else _structured(spec, {}, options or {}, name)
    try:
        url = urlsplit(url_or_name)
    except ValueError as exc:
        raise InvalidConfig([Problem(("adapter",), f"{exc}")], "invalid adapter URL") from exc
    spec = next((spec for spec in specs if url.scheme in spec.schemes), None)
    if spec is None:
        return None
    return _structured(spec, _from_url(spec, url), options or {}, redacted(url))


def _from_url(spec: AdapterSpec, url: SplitResult) -> Mapping[str, Any]:
    try:
        return spec.from_url(url)
    except InvalidConfig as exc:
        problems = [p.under("adapter").given_by(redacted(url)) for p in exc.problems]
        raise InvalidConfig(problems, "invalid adapter URL") from exc
    except KesselError:
        raise
    except Exception as exc:
        why = f"it cannot read the URL {redacted(url)}: {type(exc).__name__}: {exc}"
        raise PluginError(spec.name, why) from exc


def _structured(
    spec: AdapterSpec, of_url: Mapping[str, Any], further: Mapping[str, Any], shown: str
) -> ChosenAdapter:
    from kessel_core.values.options import structure_options  # cattrs loads only where options are read

    def placed(problem: Problem) -> Problem:
        name = problem.where[0] if problem.where else ""
        if name in further and name not in of_url:
            return problem.under("adapter_options")
        return problem.under("adapter").given_by(shown)

    twice = [Problem(("adapter_options", name), "is also in the URL") for name in further if name in of_url]
    try:
        options = structure_options(spec.options, {**further, **of_url})
    except InvalidConfig as exc:
        raise InvalidConfig([*twice, *map(placed, exc.problems)], "invalid adapter options") from exc
    if twice:
        raise InvalidConfig(twice, "invalid adapter options")
    return ChosenAdapter(spec=spec, options=options)

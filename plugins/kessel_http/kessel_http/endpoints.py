"""Where a delivery may go: the endpoints of the configuration, and URLs of requests that it allows (S24)."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from kessel_core import Fatal, InvalidConfig, Problem
from kessel_http.options import HttpOptions
from kessel_http.signing import Secret, read_secret
from kessel_http.urls import Url, admits, read_url

__all__ = ["Endpoint", "Endpoints", "key_of"]


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where a delivery goes."""

    #: Under which its state is kept.
    key: str
    #: For messages: its name, or the place of its URL; never a path or a query.
    label: str
    #: Where it is.
    url: Url
    #: Each signs.
    secrets: tuple[Secret, ...]
    #: Whether any address is allowed.
    internal: bool


def key_of(target: str) -> str:
    """Return the key of the state of a target; that of a URL hides its path, which may be secret."""
    if "://" not in target:
        return target
    from hashlib import sha256  # here, because it loads OpenSSL's digests; see `late` for the rest of it

    return f"url:{sha256(target.encode('utf-8', 'backslashreplace')).hexdigest()[:32]}"


class Endpoints:
    """Finds endpoints; thread-safe.

    Args:
        options: The checked section.
        environ: Where secrets are looked up.
    """

    def __init__(self, options: HttpOptions, environ: Mapping[str, str]) -> None:
        self._options = options
        self._environ = environ

    def check(self) -> None:
        """Look every secret up.

        Raises:
            InvalidConfig: Some are not usable; each is named by its variable.
        """
        found: list[Problem] = []
        for name in (None, *self._options.endpoints):
            try:
                self._secrets(name)
            except InvalidConfig as exc:
                found += exc.problems
        if found:
            raise InvalidConfig(found)

    def _secrets(self, name: str | None) -> tuple[Secret, ...]:
        """Return the secrets of an endpoint or, for None, those of the section."""
        texts = self._options.secrets if name is None else self._options.endpoints[name].secrets
        where = () if name is None else ("endpoints", name)
        secrets: list[Secret] = []
        problems: list[Problem] = []
        for index, text in enumerate(texts):
            try:
                secrets.append(read_secret(text, self._environ))
            except ValueError as exc:
                problems.append(Problem((*where, "secrets", index), str(exc)))
        if problems:
            raise InvalidConfig(problems)
        return tuple(secrets)

    def named(self, name: str) -> Endpoint | None:
        """Return an endpoint of the configuration, or None.

        Raises:
            InvalidConfig: One of its secrets is not usable.
        """
        options = self._options.endpoints.get(name)
        if options is None:
            return None
        return Endpoint(
            key=name,
            label=f"endpoint {name!r}",
            url=read_url(options.url),
            secrets=self._secrets(name),
            internal=options.internal,
        )

    def of(self, target: str) -> Endpoint:
        """Return where a job goes.

        Args:
            target: The name of an endpoint, or a URL.

        Raises:
            Fatal: Nowhere, as it is configured now.
        """
        if "://" in target:
            return self._at(target)
        found = self.named(target)
        if found is None:
            known = ", ".join(sorted(self._options.endpoints)) or "none"
            text = f"no endpoint {target[:64]!r} in [kessel.http.endpoints]; known: {known}"
            raise Fatal(f"{text}; add it, then kick this job")
        return found

    def _at(self, target: str) -> Endpoint:
        try:
            url = read_url(target)
        except ValueError as exc:
            raise Fatal(f"the URL cannot be used: it {exc}") from None
        if not admits(self._options.allow, url):
            raise Fatal(f"the host {url.host} is not in [kessel.http] allow; add it, then kick this job")
        if url.scheme == "http" and not self._options.plain_http:
            raise Fatal(f"{url.place} is not https, and [kessel.http] plain_http is not set")
        if url.port not in self._options.ports:
            raise Fatal(f"the port of {url.place} is not in [kessel.http] ports")
        return Endpoint(
            key=key_of(target), label=url.place, url=url, secrets=self._secrets(None), internal=False
        )

"""The one rule for what must not be printed: values with the name of a secret, and secrets in URLs.

It hides too much rather than too little: whatever may be a password is treated as one. Nothing here checks
whether a URL is well formed, because malformed ones are just those that are printed in errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, unquote_plus

__all__ = ["HIDDEN", "is_secret", "quoted", "redacted", "without_secrets"]


HIDDEN: Final = "***"

#: A name that contains one of these is secret.
_SECRET: Final = re.compile(
    r"(?i)passw|passphrase|secret|token|credential|apikey|bearer|signature|private_?key"
)
#: A name with one of these words is secret, too; a harmless `partition_key` is hidden as well.
_SECRET_WORDS: Final = frozenset(
    {
        "auth",
        "authorization",
        "cookie",
        "cred",
        "creds",
        "jwt",
        "key",
        "keys",
        "pass",
        "pw",
        "pwd",
        "sas",
        "sig",
    }
)
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
#: A URL inside a text; without its scheme, which is never secret and takes time to find.
_ADDRESS: Final = re.compile(r"://\S*")
_PAIR: Final = re.compile(r"([?&;])([^=&;?]*)=([^&;]*)")
#: Longer texts are cut here, in characters; the rest is neither searched nor shown.
_LONGEST: Final = 100_000
#: Values that are nested more deeply are shown as `...`.
_DEEPEST: Final = 6


def is_secret(name: str) -> bool:
    """Whether the value of an option, query key or field with this name must not be printed."""
    return _SECRET.search(name) is not None or any(
        word.lower() in _SECRET_WORDS for word in _WORD.findall(name)
    )


def redacted(url: str | SplitResult) -> str:
    """Return a URL without its user information, secret query values and fragment.

    Args:
        url: The complete URL, even if malformed: in quotes, or with `/`, `?` or `#` in its password.
    """
    if isinstance(url, SplitResult):
        # By hand, because urlunsplit drops the empty host of `sqlite:///jobs.db`.
        url = f"{url.scheme}://{url.netloc}{url.path}" + "".join(
            f"{mark}{part}" for mark, part in (("?", url.query), ("#", url.fragment)) if part
        )
    url = url[:_LONGEST]
    scheme, mark, rest = url.partition("://")
    if mark:
        return scheme + mark + _address(rest)
    before, _, after = url.rpartition("@")
    if ":" in before:  # the slashes are missing
        return f"{HIDDEN}@{_queries(after)}"
    return _queries(url)


def without_secrets(text: str) -> str:
    """Return a text in which every URL is `redacted`; what is beyond 100,000 characters is left out."""
    return _ADDRESS.sub(lambda found: "://" + _address(found[0][3:]), text[:_LONGEST])


def quoted(value: object, limit: int = 60) -> str:
    """Return a wrong value for a message: its repr, without secrets, cut to the limit. Raises nothing.

    Args:
        value: Anything; in mappings the values of secret names are hidden.
        limit: Longest text, in characters.
    """
    try:
        text = without_secrets(repr(_open_part("", value, 0)))
    except Exception:  # a __repr__ that fails
        return f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _open_part(name: str, value: object, depth: int) -> object:
    if name and is_secret(name):
        return HIDDEN
    if isinstance(value, str):
        return redacted(value)
    if not isinstance(value, (Mapping, list, tuple)):
        return value
    if depth == _DEEPEST:
        return ...
    if isinstance(value, Mapping):
        return {key: _open_part(str(key), inner, depth + 1) for key, inner in value.items()}
    parts = [_open_part("", inner, depth + 1) for inner in value]
    return parts if isinstance(value, list) else tuple(parts)


def _address(rest: str) -> str:
    """Hide the secrets in what follows `://`."""
    if rest.startswith("/"):  # a path, which has no password
        return _queries(rest)
    if "@" in rest:
        # The last @ counts, because an unencoded password may hold /, ?, # and even @.
        return f"{HIDDEN}@{_queries(rest.rpartition('@')[2])}"
    # In a sentence, punctuation may follow the URL.
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0].rstrip(":,.;'\")")
    head, colon, port = authority.rpartition(":")
    if (
        colon
        and not head.endswith("%40")
        and "%40" not in authority
        # `{port}` is a placeholder, as in a harness of the conformance suite.
        and re.match(r"(\d*|\{\w+\})\W*$|[0-9a-f:]*\]", port)
    ):
        return _queries(rest)
    if colon:  # not a port: perhaps a password without a host
        return f"{head.partition(':')[0]}:{HIDDEN}"
    return _queries(rest)


def _queries(text: str) -> str:
    before, mark, _ = text.partition("#")
    # The decoded name counts: %74oken is token.
    shown = _PAIR.sub(
        lambda pair: f"{pair[1]}{pair[2]}={HIDDEN if is_secret(unquote_plus(pair[2])) else pair[3]}", before
    )
    return f"{shown}#{HIDDEN}" if mark else shown

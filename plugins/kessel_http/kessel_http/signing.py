"""Signatures by Standard Webhooks 1.0.0, symmetric form: HMAC-SHA256 over `id.timestamp.body`.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Final

import attrs

__all__ = ["Secret", "header_id", "read_secret", "secret_problem", "signed_headers"]

_PREFIX: Final = "whsec_"
_VARIABLE: Final = "env:"
#: Of the key, in bytes.
_SHORTEST, _LONGEST = 24, 64
#: What an id may be: no dot, which separates what is signed, and nothing that a header cannot hold.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")


@attrs.frozen(eq=False)
class Secret:
    """A key that an endpoint shares with kessel; its repr shows nothing of it."""

    _key: bytes = attrs.field(repr=False)

    def signature(self, signed: bytes) -> str:
        """Return the signature of some bytes, as it stands in the header."""
        from kessel_http.late import digest

        return "v1," + base64.b64encode(digest(self._key, signed, "sha256")).decode("ascii")


def secret_problem(text: str) -> str | None:
    """Return what is wrong with a configured secret, or None; never any part of it.

    A secret of the environment is judged by the name of its variable only.
    """
    if text.startswith(_VARIABLE):
        # Capitals only: errors show the name, and what was taken for one may be a secret.
        if re.fullmatch(r"[A-Z_][A-Z0-9_]*", text.removeprefix(_VARIABLE)):
            return None
        return "what follows env: must be the name of a variable, in capitals"
    return _literal_problem(text)


def read_secret(text: str, environ: Mapping[str, str]) -> Secret:
    """Return the secret that a configured text stands for.

    Args:
        text: `whsec_` and base64, or `env:` and the name of a variable that holds it.
        environ: The environment.

    Raises:
        ValueError: It is not usable; the message has the name of the variable, and nothing of the secret.
    """
    where = ""
    if text.startswith(_VARIABLE):
        name = text.removeprefix(_VARIABLE)
        if not environ.get(name):
            raise ValueError(f"the variable {name} is not set")
        where, text = f"the variable {name}: ", environ[name]
    if (problem := _literal_problem(text)) is not None:
        raise ValueError(where + problem)
    return Secret(_decoded(text))


def _literal_problem(text: str) -> str | None:
    if text.startswith("whsk_"):
        return "is a key of the asymmetric form; only whsec_ is supported"
    if not text.startswith(_PREFIX):
        return f"must begin with {_PREFIX}, or with env: and the name of a variable"
    try:
        length = len(_decoded(text))
    except (binascii.Error, ValueError):
        return f"what follows {_PREFIX} must be base64"
    if not _SHORTEST <= length <= _LONGEST:
        return f"must have {_SHORTEST} to {_LONGEST} bytes behind {_PREFIX}, has {length}"
    return None


def _decoded(text: str) -> bytes:
    digits = text.removeprefix(_PREFIX).rstrip("=")
    return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)


def header_id(job_id: str) -> str:
    """Return the id of a job as `webhook-id`: unchanged, or a UUID made of it if it cannot stand there."""
    if _ID.fullmatch(job_id):
        return job_id
    from kessel_http.late import NAMESPACE_URL, uuid5

    return str(uuid5(NAMESPACE_URL, f"kessel-http:{job_id}"))


def signed_headers(message_id: str, seconds: int, body: bytes, secrets: Sequence[Secret]) -> dict[str, str]:
    """Return the headers of Standard Webhooks.

    Args:
        message_id: The same at every attempt; as `header_id` gives it.
        seconds: When this attempt is made, in whole seconds since 1970.
        body: Exactly the bytes that are sent.
        secrets: Every current secret of the endpoint; each signs.
    """
    signed = f"{message_id}.{seconds}.".encode("ascii") + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(secret.signature(signed) for secret in secrets),
    }

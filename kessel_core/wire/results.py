"""Results as JSON: what adapters that keep results store."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kessel_core.errors import DecodeError, Problem
from kessel_core.model.json import JsonValue
from kessel_core.model.result import JobResult
from kessel_core.wire.requests import dump, iso

__all__ = ["encode_result"]


def encode_result(result: JobResult) -> bytes:
    """Encode a result, for adapters that keep results."""
    fields: dict[str, JsonValue] = {
        "id": result.id,
        "type": result.request.type if result.request else None,
        "ref": result.request.ref if result.request else None,
        "status": str(result.status),
        "value": result.value,
        "message": result.message,
        "reason": str(result.reason) if result.reason else None,
        "attempt": result.attempt,
        "started_at": iso(result.started_at) if result.started_at else None,
        "finished_at": iso(result.finished_at) if result.finished_at else None,
    }
    return dump(fields).encode()


def result_fields(body: bytes) -> Mapping[str, JsonValue]:
    """Decode what `encode_result` wrote, as its fields.

    Raises:
        DecodeError: The bytes are a JSON value, but not an object.
        ValueError: They are not JSON.
    """
    fields = json.loads(body)
    if not isinstance(fields, dict):
        raise DecodeError(body, [Problem(("$",), "expected an object")])
    return fields

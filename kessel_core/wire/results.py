"""Outcomes as JSON: what callbacks are told, and what is kept as the result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from kessel_core.errors import DecodeError, Problem
from kessel_core.model.json import JsonValue
from kessel_core.model.outcome import Outcome
from kessel_core.model.result import Reason, Status
from kessel_core.wire.requests import dump, iso

__all__ = ["decode_outcome", "encode_outcome", "outcome_fields"]


def outcome_fields(outcome: Outcome) -> dict[str, JsonValue]:
    """Return an outcome as a JSON object, in the order in which it is written."""
    fields: dict[str, JsonValue] = {
        "id": outcome.id,
        "type": outcome.type,
        "ref": outcome.ref,
        "status": str(outcome.status),
        "value": outcome.value,
        "message": outcome.message,
        "reason": str(outcome.reason) if outcome.reason else None,
        "attempt": outcome.attempt,
        "started_at": iso(outcome.started_at) if outcome.started_at else None,
        "finished_at": iso(outcome.finished_at) if outcome.finished_at else None,
    }
    if outcome.value_omitted:
        fields["value_omitted"] = True
    return fields


def encode_outcome(outcome: Outcome) -> bytes:
    """Encode an outcome."""
    return dump(outcome_fields(outcome)).encode()


def decode_outcome(body: bytes) -> Outcome:
    """Decode what `encode_outcome` wrote; keys that this version does not know are left out.

    Raises:
        DecodeError: The bytes are not an outcome.
    """
    try:
        fields = json.loads(body)
        if not isinstance(fields, Mapping):
            raise TypeError(f"expected an object, got {type(fields).__name__}")
        return Outcome(
            id=fields["id"],
            type=fields.get("type"),
            ref=fields.get("ref"),
            status=Status(fields["status"]),
            value=fields.get("value"),
            value_omitted=fields.get("value_omitted", False),
            message=fields.get("message", ""),
            reason=Reason(fields["reason"]) if fields.get("reason") else None,
            attempt=fields.get("attempt", 1),
            started_at=_time(fields.get("started_at")),
            finished_at=_time(fields.get("finished_at")),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        why = f"{type(exc).__name__}: {exc}"
        raise DecodeError(body, [Problem(("$",), why)], "it is not an outcome") from exc


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

"""The body that is sent: what became of a job, and never its payload. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from kessel_core import JsonValue

__all__ = ["LONGEST", "encoded"]

#: The standard recommends bodies below 20 kB; in bytes. A value that makes a longer one is left out.
LONGEST: Final = 20_000

#: What is sent of an outcome, in this order; nothing else, whatever a later kessel adds to it.
FIELDS: Final = (
    "id",
    "type",
    "ref",
    "status",
    "value",
    "message",
    "reason",
    "attempt",
    "started_at",
    "finished_at",
)


def encoded(outcome: Mapping[str, JsonValue]) -> bytes:
    """Return the body for an outcome, as UTF-8; the same bytes for the same outcome.

    Args:
        outcome: The fields of a job's result; `status` is `success`, or the job failed.
    """
    data: dict[str, JsonValue] = {name: outcome.get(name) for name in FIELDS}
    body = _event(outcome, data)
    if len(body) > LONGEST or outcome.get("value_omitted"):  # it may have been too large for the queue
        del data["value"]
        body = _event(outcome, data | {"value_omitted": True})
    return body


def _event(outcome: Mapping[str, JsonValue], data: Mapping[str, JsonValue]) -> bytes:
    kind = "job.succeeded" if outcome.get("status") == "success" else "job.failed"
    event = {"type": kind, "timestamp": outcome.get("finished_at"), "data": data}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

"""The policies that a configuration can choose for how jobs end."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["BadPayload", "DefaultError", "OnExpired", "UnknownType"]


class DefaultError(StrEnum):
    """How to treat an exception that neither the handler nor the core declares transient."""

    FATAL = "fatal"
    TRANSIENT = "transient"


class OnExpired(StrEnum):
    """How a job that expired before it started is settled (S5)."""

    COMMIT = "commit"
    BURY = "bury"


class BadPayload(StrEnum):
    """What happens to a job whose payload does not match the annotation of its handler."""

    BURY = "bury"
    RETRY = "retry"


class UnknownType(StrEnum):
    """What happens to a job whose type has no handler (S12)."""

    BURY = "bury"
    RETRY = "retry"

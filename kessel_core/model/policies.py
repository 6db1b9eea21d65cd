"""The choices that the configuration has about the end of a job."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["DefaultError", "OnExpired", "UnknownType"]


class DefaultError(StrEnum):
    """What an exception means that neither the handler nor the core declares transient."""

    FATAL = "fatal"
    TRANSIENT = "transient"


class OnExpired(StrEnum):
    """How a job that expired before it started is settled (S5)."""

    COMMIT = "commit"
    BURY = "bury"


class UnknownType(StrEnum):
    """What happens to a job whose type no handler is mapped to (S12)."""

    BURY = "bury"
    RETRY = "retry"

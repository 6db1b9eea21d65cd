"""Settles a job with what follows it (S20), and with what plugins put around that."""

from __future__ import annotations

from collections.abc import Sequence

from kessel_core.errors import AdapterError, EnqueueUnknown
from kessel_core.model.job import Job
from kessel_core.plugins.enqueuing import EnqueueWrapper, Enqueuing
from kessel_core.runtime.delivery import Decision
from kessel_core.runtime.following import Following, FollowUp, FollowUps
from kessel_core.runtime.held import HeldJob, SettleResult
from kessel_core.wire.messages import labelled

__all__ = ["Settling"]


class Settling:
    """Settles the jobs of one application that bring something along; thread-safe.

    Args:
        follow_ups: How what follows is stored.
        wrappers: Who goes around the storing of jobs, outermost first.
        most_bytes: The longest body that the queue takes; None: it has no limit.
    """

    def __init__(
        self, follow_ups: FollowUps, wrappers: Sequence[EnqueueWrapper], most_bytes: int | None
    ) -> None:
        self._follow_ups = follow_ups
        self._wrappers = tuple(wrappers)
        self._most_bytes = most_bytes

    def settle(
        self, held: HeldJob, decision: Decision, following: Following, *, take_next: bool
    ) -> tuple[Following, SettleResult]:
        """Settle a job with what follows it; return that as it was stored, and what the queue said."""
        if not following.jobs or not self._wrappers:
            return following, self._settled(held, decision, following, take_next)
        jobs = [one.job for one in following.jobs]
        with Enqueuing(self._wrappers, jobs, decision.result) as enqueuing:
            wanted = zip(following.jobs, enqueuing.jobs, strict=True)
            made = [FollowUp(*labelled(*one, job, self._most_bytes)) for one, job in wanted]
            following = following._replace(jobs=tuple(made))
            settled = self._settled(held, decision, following, take_next)
            enqueuing.outcomes = [_outcome(job, settled) for job in jobs]
        return following, settled

    def _settled(
        self, held: HeldJob, decision: Decision, following: Following, take_next: bool
    ) -> SettleResult:
        settlement, before = self._follow_ups.with_settlement(decision.settlement, following)
        return held.settle(settlement, take_next=take_next, before=before)


def _outcome(job: Job, settled: SettleResult) -> AdapterError | None:
    if settled.is_settled:
        return None
    return settled.refused or EnqueueUnknown(job.id, "the job that it follows could not be settled")

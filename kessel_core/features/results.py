"""Outcomes that are kept in the store, and waiting for them (S25, S26)."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from kessel_core.contract.adapter import QueueAdapter
from kessel_core.contract.facets import Find
from kessel_core.contract.store import Store, key_problem
from kessel_core.errors import ResultPending, ResultTimeout, ResultUnknown, StoreRejected
from kessel_core.features.progress import progress_of
from kessel_core.model.outcome import Outcome, ever_shorter
from kessel_core.model.result import JobResult
from kessel_core.model.settlement import NO_PAUSE, Put
from kessel_core.values.logs import get_logger
from kessel_core.wire.results import decode_outcome, encode_outcome

__all__ = ["SPACE", "KeptOutcomes", "awaited"]

log = get_logger("kessel.pipeline")

#: Where outcomes are, each under the id of its job.
SPACE: Final = "results"


class KeptOutcomes:
    """Says what is kept of the jobs of one application; thread-safe.

    Args:
        keep: How long every outcome is kept; None: only where the handler says so.
        store: Where; None: nowhere, which is checked when the application opens.
    """

    def __init__(self, keep: timedelta | None, store: Store | None) -> None:
        self.keep = keep if store is not None else None
        self._limit = store.capabilities.max_value_bytes if store is not None else None

    def puts(self, result: JobResult, keep: timedelta) -> tuple[Put, ...]:
        """Return the entry of an outcome; what is too large for the store is left out."""
        if not result.id:
            return ()  # no one can ask for it
        if (problem := key_problem(result.id)) is not None:
            # Here, because in one transaction with it not even the settlement would be made.
            text = "job %s: its outcome is not kept: its id %s"
            log.error(text, result.id, problem, extra={"job_id": result.id})
            return ()
        body = b""
        for outcome in ever_shorter(Outcome.of(result)):
            body = encode_outcome(outcome)
            if self._limit is None or len(body) <= self._limit:
                break
        return (Put(SPACE, result.id, body, keep),)


def awaited(adapter: QueueAdapter, store: Store, job_id: str, timeout: timedelta) -> Outcome:
    """Return the outcome of a job, waiting for it if need be.

    Args:
        adapter: Where the job may still be.
        store: Where its outcome will be.
        job_id: The id of the job.
        timeout: Longest wait, by the application's clock; zero only looks.

    Raises:
        ResultPending: There is none yet, and nothing was to be waited for.
        ResultTimeout: There is none within the time.
        ResultUnknown: There is neither an outcome nor a job.
        AdapterError: The store or the queue cannot be asked.
        DecodeError: What is kept of the job is not an outcome.
    """
    try:
        entry = store.wait(SPACE, job_id, timeout=timeout)
    except StoreRejected as exc:  # no entry has such a key, and no job such an id
        raise ResultUnknown(job_id) from exc
    if entry is not None:
        return decode_outcome(entry.value)
    finding = adapter.facet(Find)
    job = finding.find(job_id) if finding is not None else None
    if job is not None or finding is None:
        waited = ResultTimeout if timeout > NO_PAUSE else ResultPending
        state = str(job.state) if job is not None else None
        raise waited(job_id, state, progress_of(store, job_id))
    # It may have ended between the two looks: its outcome is there before the job is gone.
    entry = store.get(SPACE, job_id)
    if entry is None:
        raise ResultUnknown(job_id)
    return decode_outcome(entry.value)

"""Calls the callback of a job with its result: once, after its last settlement (S15).

Decides nothing: a callback that fails is logged, and has no effect on the job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from kessel_core.model.result import JobResult
from kessel_core.values.logs import get_logger

__all__ = ["Callbacks"]


log = get_logger("kessel.callbacks")


class Callbacks:
    """The callbacks of one application; thread-safe.

    Functions are kept by job id from the request until the job's last settlement, in this process
    only. For `scheme:target` the function is called that a plugin registered for the scheme.
    """

    def __init__(self, schemes: Mapping[str, Callable[[JobResult, str], object]]) -> None:
        self._schemes = dict(schemes)
        self._functions: dict[str, Callable[[JobResult], object]] = {}

    def expect(
        self, job_id: str, function: Callable[[JobResult], object]
    ) -> Callable[[JobResult], object] | None:
        """Remember a function for a job that is about to be enqueued; return the one that it replaces."""
        before = self._functions.get(job_id)
        self._functions[job_id] = function
        return before

    def restore(self, job_id: str, before: Callable[[JobResult], object] | None) -> None:
        """Undo `expect` for a job that was not stored: another job with its id may be in the queue."""
        if before is None:
            self.forget(job_id)
        else:
            self._functions[job_id] = before

    def forget(self, job_id: str) -> None:
        """Forget the function of a job that is definitely not stored."""
        self._functions.pop(job_id, None)

    def is_awaited(self, result: JobResult) -> bool:
        """Whether a callback waits for this result."""
        if result.request is not None and result.request.callback is not None:
            return True
        return result.id in self._functions

    def call(self, result: JobResult) -> None:
        """Call the callbacks of this job; exceptions are logged."""
        function = self._functions.pop(result.id, None)
        try:
            if function is not None:
                function(result)
            text = result.request.callback if result.request is not None else None
            if isinstance(text, str):
                self._call_registered(text, result)
        except BaseException as exc:  # sys.exit() in a callback must not end the slot
            if isinstance(exc, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
            log.exception("callback of job %s failed", result.id, extra={"job_id": result.id})

    def _call_registered(self, text: str, result: JobResult) -> None:
        scheme, _, target = text.partition(":")
        function = self._schemes.get(scheme)
        if function is None:
            known = ", ".join(sorted(self._schemes)) or "none"
            log.warning(
                "job %s: no callback is registered for %r (known: %s)",
                result.id,
                scheme,
                known,
                extra={"job_id": result.id},
            )
            return
        function(result, target)

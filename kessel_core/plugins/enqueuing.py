"""What plugins put around a call that stores jobs: their `kessel_enqueue_jobs` (D3).

The generators are driven here and not by pluggy, because they may add headers with what they yield, and
because none of them may change what is known of a job once the queue has answered.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

import attrs

from kessel_core.errors import AdapterError, PluginError
from kessel_core.model.job import Job
from kessel_core.model.json import text_problem
from kessel_core.model.result import JobResult
from kessel_core.values.logs import get_logger
from kessel_core.values.raised import is_interrupt

__all__ = ["EnqueueWrapper", "Enqueuing"]

log = get_logger("kessel.plugins")

#: What became of each job: None if it is stored.
Outcomes: TypeAlias = Sequence[AdapterError | None]
#: What an implementation is made of.
_Wrapped: TypeAlias = Generator[Sequence[Mapping[str, str]] | None, Outcomes, None]


@attrs.frozen
class EnqueueWrapper:
    """One implementation of `kessel_enqueue_jobs`."""

    #: The plugin or middleware, for errors and logs.
    owner: str
    #: The implementation itself.
    function: Any
    #: Names of the hook's arguments that it accepts, in its own order.
    wanted: tuple[str, ...]


class Enqueuing:
    """Goes around one call that stores jobs; for one thread, as a context manager.

    Args:
        wrappers: Who goes around it, outermost first.
        jobs: The jobs that are to be stored.
        result: How the job ended that brings them along; None: they are requested. Then a wrapper may
            refuse them by raising; a job that has ended has to be settled, so there one that raises is
            logged and left out.
    """

    def __init__(
        self, wrappers: Sequence[EnqueueWrapper], jobs: Sequence[Job], result: JobResult | None = None
    ) -> None:
        self._wrappers = wrappers
        self._result = result
        #: Those that have begun, in this order.
        self._running: list[tuple[EnqueueWrapper, _Wrapped]] = []
        #: The jobs, with the headers that were added.
        self.jobs = list(jobs)
        #: What became of each; None: each was stored, unless the block raises.
        self.outcomes: Outcomes | None = None

    def __enter__(self) -> Self:
        for wrapper in self._wrappers:
            try:
                self._begin(wrapper)
            except BaseException as exc:
                # Whatever it is: it would end the thread of a slot, or let its job come back for ever.
                if self._result is not None and not is_interrupt(exc):
                    log.exception("plugin %s: kessel_enqueue_jobs failed; the jobs go on", wrapper.owner)
                    continue
                self._throw(exc)
                raise
        return self

    def __exit__(
        self, cls: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc is None:
            self._end(self.outcomes if self.outcomes is not None else [None] * len(self.jobs))
        elif isinstance(exc, AdapterError):
            self._end([exc] * len(self.jobs))
        else:
            self._throw(exc)

    def _begin(self, wrapper: EnqueueWrapper) -> None:
        arguments = {"jobs": tuple(self.jobs), "result": self._result}
        running: _Wrapped = wrapper.function(*[arguments[name] for name in wrapper.wanted])
        try:
            headers = next(running)
        except StopIteration:
            raise PluginError(wrapper.owner, "its kessel_enqueue_jobs did not yield") from None
        if headers is not None:
            try:
                self.jobs = _with_headers(self.jobs, headers)
            except Exception as exc:
                running.close()
                why = f"its kessel_enqueue_jobs yielded wrong headers: {exc}"
                raise PluginError(wrapper.owner, why) from exc
        self._running.append((wrapper, running))

    def _end(self, outcomes: Outcomes) -> None:
        """Tell what became of the jobs, innermost first; nobody can change it any more."""
        outcomes = tuple(outcomes)
        while self._running:
            wrapper, running = self._running.pop()
            try:
                running.send(outcomes)
            except StopIteration:
                continue
            except BaseException as exc:
                if is_interrupt(exc):
                    raise
                _log_failed(wrapper)
                continue
            log.error("plugin %s: kessel_enqueue_jobs yielded twice", wrapper.owner)

    def _throw(self, exc: BaseException) -> None:
        """Tell that the call broke off, and that nobody knows what became of the jobs."""
        while self._running:
            wrapper, running = self._running.pop()
            try:
                running.throw(exc)
            except StopIteration:
                continue
            except BaseException as raised:
                if raised is not exc:
                    _log_failed(wrapper)


def _log_failed(wrapper: EnqueueWrapper) -> None:
    log.exception(
        "plugin %s: kessel_enqueue_jobs failed after the call; what became of the jobs stays", wrapper.owner
    )


def _with_headers(jobs: list[Job], headers: Sequence[Mapping[str, str]]) -> list[Job]:
    if len(headers) != len(jobs):
        raise ValueError(f"expected {len(jobs)} mappings, one for each job, got {len(headers)}")
    made = []
    for job, added in zip(jobs, headers, strict=True):
        if not isinstance(added, Mapping):
            raise TypeError(f"expected a mapping for each job, got {type(added).__name__}")
        for text in (*added, *added.values()):
            if (problem := text_problem(text)) is not None:
                raise ValueError(problem)
        made.append(attrs.evolve(job, headers={**job.headers, **added}) if added else job)
    return made

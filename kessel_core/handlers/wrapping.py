"""Makes one function of all that runs a job: the wrappers of `kessel_execute_job` around what answers (D2).

Composed once for an application and not looked up for every job, as pluggy does: that was a sixth of all that
kessel does for a job. pluggy still collects the implementations, checks them and puts them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import reduce
from typing import Any, TypeAlias

import pluggy

from kessel_core.errors import PluginError
from kessel_core.handlers.context import JobContext

__all__ = ["Runs", "composed"]

#: Runs a job; returns what was answered, which ought to be a `JobResult`; None: nobody answered.
Runs: TypeAlias = Callable[[JobContext], object]


def composed(implementations: Sequence[pluggy.HookImpl]) -> Runs:
    """Return a function that calls implementations of `kessel_execute_job`, wrappers around the others.

    It raises what they raise, and `PluginError` for a wrapper that does not yield exactly once.

    Args:
        implementations: As `pluggy.HookCaller.get_hookimpls` returns them: innermost first, wrappers last.
    """
    answering = [_wanting_job(one) for one in reversed(implementations) if not one.wrapper]
    wrappers = [one for one in implementations if one.wrapper]
    return reduce(_around, wrappers, _first_answer(answering))


def _wanting_job(implementation: pluggy.HookImpl) -> Callable[[JobContext], Any]:
    """Return the function of an implementation, which may leave out the argument."""
    function: Callable[..., Any] = implementation.function
    return function if implementation.argnames else lambda job: function()


def _first_answer(answering: Sequence[Runs]) -> Runs:
    if len(answering) == 1:
        return answering[0]

    def run(job: JobContext) -> object:
        for one in answering:
            if (answer := one(job)) is not None:
                return answer
        return None

    return run


def _around(inner: Runs, wrapper: pluggy.HookImpl) -> Runs:
    owner, begin = wrapper.plugin_name, _wanting_job(wrapper)

    def run(job: JobContext) -> object:
        running: Generator[None, object, object] = begin(job)
        try:
            next(running)
        except StopIteration:
            raise PluginError(owner, "its kessel_execute_job did not yield") from None
        try:
            result = inner(job)
        except BaseException as exc:
            try:
                running.throw(exc)
            except StopIteration as end:
                return end.value
        else:
            try:
                running.send(result)
            except StopIteration as end:
                return end.value
        running.close()
        raise PluginError(owner, "its kessel_execute_job yielded twice")

    return run

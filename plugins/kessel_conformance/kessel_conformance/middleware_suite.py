"""The suite for middleware: it goes around every job, and changes no outcome that it does not mean to."""

from __future__ import annotations

from typing import Any, ClassVar

from kessel_conformance.inprocess import manager_of
from kessel_conformance.suite import SealedSuite
from kessel_core import Fatal, JobContext, JobResult, Status, Transient, hookimpl

__all__ = ["MiddlewareConformance"]


class _Outer:
    """Sees what comes out of the chain."""

    def __init__(self) -> None:
        self.seen: list[JobResult] = []

    @hookimpl(wrapper=True)
    def kessel_execute_job(self, job: JobContext) -> Any:
        result = yield
        self.seen.append(result)
        return result


class MiddlewareConformance(SealedSuite):
    """Derive a class named `Test...` and give it `make`.

    Example:
        >>> class TestTiming(MiddlewareConformance):
        ...     def make(self):
        ...         return TimingMiddleware()
    """

    #: Whether it may stop a plain job `t` with the payload 1 by a result of its own.
    stops_jobs: ClassVar[bool] = False
    _sealed = (
        "test_success_is_passed_on",
        "test_failures_are_passed_on",
        "test_works_twice_and_in_any_order",
        "test_stopped_job_has_a_result",
    )

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.make is MiddlewareConformance.make and not cls.__name__.startswith("_"):
            raise TypeError(f"{cls.__name__} needs `def make(self)`, which returns a new middleware")

    def make(self) -> object:
        """Return a new middleware."""
        raise NotImplementedError

    def _run(self, handler: Any, *chain: str) -> tuple[JobResult, list[int]]:
        ran: list[int] = []

        def counted(payload: Any) -> Any:
            ran.append(payload)
            return handler(payload)

        parts: dict[str, object] = {name: self.make() if name == "own" else _Outer() for name in chain}
        with manager_of({"t": counted}, parts) as manager:
            result = manager.process_single_job("t", 1)
        for part in parts.values():
            if isinstance(part, _Outer) and chain[0] != "own":
                assert len(part.seen) == 1, "an outer middleware has to see one result"
        return result, ran

    def test_success_is_passed_on(self) -> None:
        """The handler runs once, and its value comes through."""
        if self.stops_jobs:
            return
        result, ran = self._run(lambda payload: {"value": payload}, "own")
        assert ran == [1], f"the handler ran {len(ran)} times"
        assert result.ok and result.value == {"value": 1}, f"the result changed to {result}"

    def test_failures_are_passed_on(self) -> None:
        """A failing handler stays a failure, and the next job finds the middleware clean."""
        if self.stops_jobs:
            return
        for error, status in (
            (Fatal("no"), Status.FAILED),
            (Transient("later"), Status.TRANSIENT),
            (KeyError("k"), Status.FAILED),
        ):

            def fails(payload: object, error: Exception = error) -> None:
                raise error

            result, ran = self._run(fails, "own")
            assert ran == [1]
            assert result.status is status, f"{error!r} ended as {result.status}: {result.message}"
        middleware = self.make()
        tries: list[object] = []

        def first_fails(payload: object) -> str:
            tries.append(payload)
            if len(tries) == 1:
                raise Fatal("first")
            return "second"

        with manager_of({"t": first_fails}, {"own": middleware}) as manager:
            manager.process_single_job("t", 1)
            assert manager.process_single_job("t", 1).value == "second", (
                "what a failure left behind spoils the next job"
            )

    def test_works_twice_and_in_any_order(self) -> None:
        """Outermost, innermost and between others, the result is the same."""
        results = [
            self._run(lambda payload: payload, *chain)[0]
            for chain in (("own", "a"), ("a", "own"), ("a", "own", "b"))
        ]
        assert len({(result.status, str(result.value), result.reason) for result in results}) == 1, results

    def test_stopped_job_has_a_result(self) -> None:
        """One that stops jobs answers with a result, and the handler does not run."""
        if not self.stops_jobs:
            return
        result, ran = self._run(lambda payload: payload, "a", "own")
        assert ran == [], "the job was stopped, but its handler ran"
        assert isinstance(result, JobResult)

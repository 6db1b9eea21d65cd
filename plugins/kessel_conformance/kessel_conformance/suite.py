"""The class that an adapter's author derives from: the whole catalogue in one test.

One parametrized test, so that no case can be overridden, and a check that the test itself
is still there.
"""

from __future__ import annotations

from collections.abc import Iterator
from inspect import getattr_static
from typing import Any, ClassVar, NoReturn

import pytest

from kessel_conformance.catalogue import cases
from kessel_conformance.harness import Harness, ServerMissing
from kessel_conformance.runner import Run, Verdict, check_listed, under_ci
from kessel_conformance.settings import Settings
from kessel_core import KesselError

__all__ = ["AdapterConformance", "SealedSuite"]


class SealedSuite:
    """A base of test classes whose own tests cannot be replaced."""

    _sealed: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__mro__:
            for name in base.__dict__.get("_sealed", ()):
                if getattr_static(cls, name, None) is not base.__dict__[name]:
                    raise TypeError(
                        f"{cls.__name__}.{name} replaces a test of the suite; "
                        "list what fails in the harness's expected_failures, with a reason"
                    )
        if cls.__module__.startswith("kessel_conformance."):
            return
        if cls.__dict__.get("__test__") is False or not cls.__name__.startswith(("Test", "_")):
            raise TypeError(
                f"{cls.__name__} would not be collected by pytest; its name must start with 'Test'"
            )


class _NotUp:
    """Stands for a run whose harness does not come up: the first case says why, for all of them."""

    def __init__(self, error: Exception) -> None:
        self._error: Exception | None = error

    def fail(self) -> NoReturn:
        """Fail with the reason, once; a mistake in the wiring needs no traceback."""
        error, self._error = self._error, None
        if error is None:
            pytest.skip("the harness did not come up; the first case says why")
        if isinstance(error, (KesselError, ServerMissing)):
            pytest.fail(f"the harness does not come up: {error}", pytrace=False)
        raise error


class AdapterConformance(SealedSuite):
    """Derive a class named `Test...` and give it a `harness`."""

    #: How the adapter is opened.
    harness: ClassVar[Harness]
    _sealed = ("test_conformance", "pytest_generate_tests", "run_")

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__.startswith("_"):
            return
        if not isinstance(getattr(cls, "harness", None), Harness):
            raise TypeError(f"{cls.__name__} needs `harness = Harness(...)`")
        check_listed(cls.harness)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test of every case."""
        if metafunc.function.__name__ == "test_conformance":
            metafunc.parametrize("case_id", list(cases()))

    @pytest.fixture(scope="class", name="kessel_run")
    @classmethod
    def run_(cls, request: pytest.FixtureRequest) -> Iterator[Run | _NotUp]:
        """Bring the harness up for the selected cases, and hand the outcomes to the report."""
        settings = settings_of(request.config)
        own = [item for item in request.session.items if getattr(item, "cls", None) is cls]
        wanted = [
            item.callspec.params["case_id"]
            for item in own
            if hasattr(item, "callspec") and "case_id" in item.callspec.params
        ]
        run = Run(cls.harness, settings, wanted)
        try:
            run.up()
        except Exception as exc:
            if isinstance(exc, ServerMissing) and not under_ci():
                pytest.skip(f"the server is missing: {exc}")
            yield _NotUp(exc)
            return
        try:
            yield run
        finally:
            run.down()
            request.config.stash.setdefault(RUNS, []).append(run)

    def test_conformance(self, case_id: str, kessel_run: Run | _NotUp, record_property: Any) -> None:
        """Run one case of the catalogue."""
        if isinstance(kessel_run, _NotUp):
            kessel_run.fail()
        outcome = kessel_run.outcome(case_id)
        record_property("kessel_case", case_id)
        record_property("kessel_clauses", " ".join(outcome.case.clauses))
        match outcome.verdict:
            case Verdict.FAIL | Verdict.ERROR:
                settings = kessel_run.settings
                again = f"--kessel-budget {settings.budget} --kessel-seed {settings.seed}"
                text = f"{case_id}\n{outcome.text}\nWhy it matters: {outcome.case.why}\nAgain: {again}"
                pytest.fail(text, pytrace=False)
            case Verdict.SKIP:
                pytest.skip(outcome.reason)
            case Verdict.DISABLED:
                pytest.skip(f"disabled: {outcome.reason}")
            case Verdict.XFAIL:
                pytest.xfail(outcome.reason)
            case Verdict.ADVISORY:
                pytest.xfail(f"advisory, newer than the pinned suite: {outcome.reason}")
            case Verdict.PASS:
                pass


RUNS: pytest.StashKey[list[Run]] = pytest.StashKey()


def settings_of(config: pytest.Config) -> Settings:
    """Read the suite's options."""
    return Settings(
        budget=config.getoption("kessel_budget", "quick"),
        suite=config.getoption("kessel_suite", None),
        seed=config.getoption("kessel_seed", 0),
        shrink=not config.getoption("kessel_no_shrink", False),
        shrink_real=config.getoption("kessel_shrink", False),
    )

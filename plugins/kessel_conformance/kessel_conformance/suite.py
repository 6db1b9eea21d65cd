"""The class that an adapter's author derives from, and what that for stores shares: a catalogue in one test.

One parametrized test, so that no case can be overridden, and a check that the test itself
is still there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import getattr_static
from typing import Any, ClassVar, NoReturn

import pytest

from kessel_conformance.beside import in_turn
from kessel_conformance.catalogue import catalogue_of
from kessel_conformance.harness import Harness
from kessel_conformance.harness_base import AnyHarness, ServerMissing
from kessel_conformance.outcome import Verdict
from kessel_conformance.report import part
from kessel_conformance.runner import Run, check_listed, under_ci
from kessel_conformance.settings import Settings
from kessel_core import KesselError

__all__ = ["AdapterConformance", "CatalogueSuite", "SealedSuite"]


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


class CatalogueSuite(SealedSuite):
    """Runs the catalogue of a harness."""

    #: How to open what is checked.
    harness: ClassVar[Any]
    #: The class that it must have.
    _harness_class: ClassVar[type[AnyHarness]]
    _sealed = ("test_conformance", "pytest_generate_tests", "run_")

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__.startswith("_") or cls.__module__.startswith("kessel_conformance."):
            return
        if not isinstance(getattr(cls, "harness", None), cls._harness_class):
            raise TypeError(f"{cls.__name__} needs `harness = {cls._harness_class.__name__}(...)`")
        check_listed(cls.harness)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Make one test of every case."""
        if metafunc.function.__name__ == "test_conformance":
            cases = catalogue_of(self.harness.kind).cases().values()
            metafunc.parametrize("case_id", [case.id for case in in_turn(self.harness, cases)])

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
        capture = request.config.pluginmanager.getplugin("capturemanager")
        aloud = None if capture is None else capture.global_and_fixture_disabled
        run = Run(cls.harness, settings, wanted, aloud)
        try:
            run.up()
        except Exception as exc:
            wants_report = request.config.getoption("kessel_report", None) is not None
            if isinstance(exc, ServerMissing) and not under_ci() and not wants_report:
                pytest.skip(f"the server is missing: {exc}")
            yield _NotUp(exc)
            return
        try:
            yield run
        finally:
            run.down()
            request.config.stash.setdefault(RUNS, []).append((_key(cls), run))

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
            case Verdict.NOT_SHOWN:
                pytest.skip(f"not shown, though declared: {outcome.reason}")
            case Verdict.DISABLED:
                pytest.skip(f"disabled: {outcome.reason}")
            case Verdict.XFAIL:
                pytest.xfail(outcome.reason)
            case Verdict.ADVISORY:
                pytest.xfail(f"advisory, newer than the pinned suite: {outcome.reason}")
            case Verdict.PASS:
                pass


class AdapterConformance(CatalogueSuite):
    """Derive a class named `Test...` and give it a `harness`."""

    #: How the adapter is opened.
    harness: ClassVar[Harness]
    _harness_class = Harness


#: What ran in this process, by what tells suite classes apart.
RUNS: pytest.StashKey[list[tuple[str, Run]]] = pytest.StashKey()


def _key(suite: type) -> str:
    """Tell a suite class from others, in every process of a session."""
    return f"{suite.__module__}.{suite.__qualname__}"


def classes_beside(items: Iterable[pytest.Item]) -> list[str]:
    """Return the suite classes of every module that has a collected one, as they are told apart.

    Also those of which nothing was collected, because they are marked or left out by their name: a report
    that is silent about one of an adapter's suite classes says too much about the adapter.
    """
    suites = [item for item in items if issubclass(getattr(item, "cls", None) or object, CatalogueSuite)]
    modules = {id(module): module for item in suites if (module := getattr(item, "module", None)) is not None}
    found = {value for module in modules.values() for value in vars(module).values() if _is_suite(value)}
    return sorted({_key(suite) for suite in found})


def _is_suite(value: object) -> bool:
    if not isinstance(value, type) or not issubclass(value, CatalogueSuite):
        return False
    return hasattr(value, "harness") and not value.__name__.startswith("_")


def parts_of(config: pytest.Config) -> list[dict[str, Any]]:
    """Return what this process ran, as parts of the report."""
    return [part(run, key.rpartition(".")[2], key) for key, run in config.stash.get(RUNS, [])]


def settings_of(config: pytest.Config) -> Settings:
    """Read the suite's options."""
    return Settings(
        budget=config.getoption("kessel_budget", "quick"),
        suite=config.getoption("kessel_suite", None),
        seed=config.getoption("kessel_seed", 0),
        shrink=not config.getoption("kessel_no_shrink", False),
        shrink_real=config.getoption("kessel_shrink", False),
    )

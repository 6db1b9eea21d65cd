"""The other process: what it believes about the time, how it dies, and what is said if it cannot be had."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import kessel_sqlite.plugin
import pytest
from kessel_conformance import Harness
from kessel_conformance.belief import Belief
from kessel_conformance.bench import Bench
from kessel_conformance.catalogue import Case, Level
from kessel_conformance.deeds import Deed
from kessel_conformance.dying import Death, Extent
from kessel_conformance.elsewhere import Elsewhere
from kessel_conformance.history import Violation
from kessel_conformance.kills import let_die
from kessel_conformance.outcome import Verdict
from kessel_conformance.runner import run_case
from kessel_conformance.settings import Settings

from kessel_core.contract import COMMIT, AdapterSpec

SPEC = kessel_sqlite.plugin.SPEC
URL = "sqlite:///{tmp}/{namespace}.db?durability=process-crash"


def harness_of(spec: AdapterSpec) -> Harness:
    return Harness(spec, url=URL, real_clock=True)


def outcome_of(harness: Harness) -> tuple[Verdict, str]:
    def looks(bench: Bench) -> None:
        with Elsewhere(bench):
            pass

    case = Case(id="x.y", clauses=("S9",), level=Level.CORE, why="a test", run=looks)
    harness.up()
    try:
        found = run_case(harness, case, Settings())
    finally:
        harness.down()
    return found.verdict, found.reason


def test_harness_that_cannot_be_handed_over_is_not_shown_and_never_green() -> None:
    def local(options: Any, context: Any) -> Any:
        return SPEC.open(options, context)

    verdict, reason = outcome_of(harness_of(attrs.evolve(SPEC, open=local)))
    assert verdict is Verdict.NOT_SHOWN
    assert "cannot be handed to another process" in reason
    assert "local" in reason


class Elsewhen(Harness):
    """Opens in the process that made it, and in no other."""

    def portable(self) -> Elsewhen:
        twin = super().portable()
        twin.url = "sqlite:///{tmp}/{no_such_brace}.db"
        return twin


def test_adapter_that_does_not_open_in_another_process_is_not_shown() -> None:
    verdict, reason = outcome_of(Elsewhen(SPEC, url=URL, real_clock=True))
    assert verdict is Verdict.NOT_SHOWN
    assert "another process cannot open the adapter" in reason
    assert "no_such_brace" in reason
    assert outcome_of(harness_of(SPEC)) == (Verdict.PASS, "")


def test_wrong_clocks_are_ahead_behind_or_stand_where_they_stood() -> None:
    hour = 3600.0
    try:
        Belief.change(hour, stands=False)
        assert Belief.wall() - time.time() == pytest.approx(hour, abs=5)
        Belief.change(-hour, stands=False)
        assert Belief.wall() - time.time() == pytest.approx(-hour, abs=5)
        Belief.change(0.0, stands=True)
        stood = Belief.wall(), Belief.monotonic()
        time.sleep(0.01)
        assert (Belief.wall(), Belief.monotonic()) == stood
        Belief.change(hour, stands=False)
        assert Belief.monotonic() > stood[1]
        Belief.change(0.0, stands=True)
        assert (Belief.wall(), Belief.monotonic()) == stood
    finally:
        Belief.change(0.0, stands=False)


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    harness = harness_of(SPEC)
    harness.up()
    with Bench(harness) as one:
        yield one
    harness.down()


def test_process_dies_where_it_is_told_to_and_tells_what_it_has_done(bench: Bench) -> None:
    def deeds() -> list[Deed]:
        message = bench.message()
        return [Deed(enqueues=(message,)), Deed(reserves=message.queue), Deed(settles=COMMIT)]

    with Elsewhere(bench) as elsewhere:
        done, all_of_it = elsewhere.ask("die", deeds(), Death())
        assert done == 3
        assert all_of_it.lines > 20
        assert len(all_of_it.steps) == 3
        assert min(all_of_it.steps) >= 3
        assert [elsewhere.ask("die", deeds(), Death(after=number))[0] for number in (1, 2, 3)] == [1, 2, 3]
        assert elsewhere.ask("die", deeds(), Death(deed=2, step=1)) == (1, Extent())
        assert elsewhere.ask("die", deeds(), Death(line=1)) == (0, Extent())
        last = Death(deed=3, step=all_of_it.steps[2])
        assert elsewhere.ask("die", deeds(), last) == (2, Extent())
        again = deeds()
        elsewhere.ask("die", again, Death(after=1))
        with pytest.raises(RuntimeError, match="IdHeld"):
            elsewhere.ask("die", again, Death())
        with pytest.raises(Violation, match=r"after other processes were killed, .* IdHeld"):
            let_die(bench, elsewhere, again, Death())


@pytest.mark.parametrize(
    ("body", "why"), [(None, "they reserved nothing, expected "), (b"another", "what they reserved")]
)
def test_what_another_process_reserved_is_compared_with_the_job_that_it_was_to_get(
    bench: Bench, body: bytes | None, why: str
) -> None:
    elsewhere, message = Elsewhere(bench), bench.message()
    assert elsewhere.taken((7, message.body), message, "they") == 7
    with pytest.raises(Violation, match=why):
        elsewhere.taken(None if body is None else (7, body), message, "they")


def test_an_answer_that_cannot_be_sent_is_told_and_the_next_one_comes(bench: Bench) -> None:
    with Elsewhere(bench) as elsewhere:
        with pytest.raises(RuntimeError, match="SqliteAdapter"):
            elsewhere.ask("_adapter")
        assert elsewhere.ask("reserve", bench.queue) is None


def test_process_dies_in_the_middle_of_a_write_of_a_folder_of_its_own(bench: Bench, tmp_path: Path) -> None:
    there = (str(tmp_path), bench.namespace)
    small, large = bench.message(), bench.message(b"x" * 300_000)
    with Elsewhere(bench) as elsewhere:
        assert elsewhere.ask("die", [Deed(enqueues=(small,))], Death(after=1), there) == (1, Extent())
        death = Death(beyond=7)
        assert elsewhere.ask("die", [Deed(enqueues=(large,))], death, there) == (0, Extent())
    assert str(death) == "at byte 7 of what it wrote at the end of its longest file"
    assert len(list(tmp_path.glob("*.db"))) == 1
    bench.nothing(bench.consumer(), "the jobs were enqueued in another folder")


def test_other_process_shares_the_jobs_and_raises_what_the_adapter_raises(bench: Bench) -> None:
    message = bench.message()
    with Elsewhere(bench) as elsewhere:
        with elsewhere.clock(timedelta(hours=1)):
            elsewhere.ask("enqueue", message, None)
        bench.gets(bench.consumer(), message, "the other's job")
        assert elsewhere.ask("reserve", message.queue) is None
        with pytest.raises(KeyError):
            elsewhere.ask("settle", 99, COMMIT)

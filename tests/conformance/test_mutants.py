"""The suite bites: every mutant is killed in the quick budget, and every case kills a mutant.

`python tests/conformance/test_mutants.py`, which is `make strength`, prints how many are killed, and writes the
page that shows which case kills what, and the numbers that every report of this version of the suite holds. It
runs all cases on each mutant, which takes minutes; the tests run those that the page names.
"""

from __future__ import annotations

# ruff: noqa: E501  # whole sentences, as they stand on the page
import logging
import re
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the tests are no package
import networked_mutants
from kessel_conformance import strength, woken
from kessel_conformance.cases import bringing, drowsing, waking
from kessel_conformance.catalogue import SUITE_VERSION, Level, cases
from kessel_conformance.outcome import Verdict
from kessel_conformance.settings import Settings
from mutants import MUTANTS, Reference, ReferenceHarness
from running import ended

from kessel_core.contract import VirtualTime

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "conformance-matrix.md"
NUMBERS: Final = Path(strength.__file__)
#: Cases that need real time, let threads meet, or are generated, each with mutants that it has to kill. They
#: run on no other: what else they find depends on luck, or takes long.
ALONE: Final[dict[str, tuple[str, ...]]] = {
    "adapter.close_ends_files": (),  # see test_left_behind.py
    "adapter.close_ends_threads": (),  # as before
    "buried.race_to_kick": ("races_kick",),
    "calls.meet_at_each_step": (
        "takes_in_two_steps",
        "counts_in_two_steps",
        "locks_by_adapter",
        "stores_in_two_steps",
        "deletes_in_two_steps",
        "kicks_in_two_steps",
        "renews_in_two_steps",
    ),
    "consumer.cancel_wakes": ("cancel_ignored",),
    "consumer.killed_returns_job": (),  # see test_left_behind.py
    "consumer.race_to_cancel": ("races_cancel",),
    "delete.race_with_reserve": ("races_delete",),
    "delivery.threads_share": ("races", "races_enqueue"),
    "durable.killed_process": (),  # see networked_mutants.py
    "enqueue.large_body_whole": ("races_body",),
    "files.torn": (),  # see test_files.py
    "following.killed_process": (),  # see test_left_behind.py
    "following.entries_wake": (
        "asleep_after_entry",
        "asleep_after_second_entry",
        "asleep_after_entry_of_burial",
    ),
    "following.wakes": ("asleep_after_follow", "asleep_after_several_follows"),
    "following.wakes_with_next_reserve": ("asleep_after_both",),
    "ids.race_for_one": ("races_ids",),
    "lease.extended_while_settled": ("extend_disturbs",),
    "manager.any_payload": ("body_ascii",),
    "model.any_plan": ("lifo",),
    "operations.while_others_work": ("stats_unlocked", "queues_unlocked", "peek_unlocked"),
    "purge.race_with_others": ("races_purge",),
    "reach.race_for_jobs": ("races_adapters", "races_after_a_close"),
    "reach.works_after_a_fork": (),  # see test_forked.py
    "reserve.does_not_poll": ("polls_often",),
    "reserve.loses_no_wake_up": ("sleeps_after_a_look", "sleeps_after_a_cancel"),
    "reserve.waits_for_job": ("never_waits",),
    "reserve.wakes_across_a_fork": (),  # see test_forked.py
    "reserve.wakes_beside_the_dead": (),  # see test_left_behind.py
    "reserve.wakes_each_for_its_own": ("wakes_one",),
    "reserve.wakes_each_in_time": ("one_timer",),
    "reserve.wakes_for_batch": ("asleep_after_batch",),
    "reserve.wakes_for_close": ("asleep_after_close",),
    "reserve.wakes_for_give_back": ("asleep_after_give_back",),
    "reserve.wakes_for_job": ("asleep_after_enqueue", "polls_slowly"),
    "reserve.wakes_for_kick": ("asleep_after_kick", "asleep_after_kick_shown"),
    "reserve.wakes_for_resume": ("asleep_after_pause",),
    "reserve.wakes_for_retry": ("asleep_after_retry",),
    "reserve.wakes_for_return_and_reserve": ("asleep_after_both",),
    "reserve.wakes_for_rollback": ("asleep_after_rollback",),
    "reserve.wakes_for_second_queue": ("hears_first_queue",),
    "reserve.wakes_for_snooze": ("asleep_after_snooze",),
    "reserve.wakes_for_sooner_delay": ("asleep_after_delay", "asleep_after_delayed_batch"),
    "reserve.wakes_from_afar": ("hears_itself", "deaf_after_a_close"),
    "reserve.wakes_from_afar_each_way": tuple(
        f"tells_no_other_of_{way}"
        for way in (
            "rollback",
            "snooze",
            "give_back",
            "close",
            "kick",
            "kick_shown",
            "pause",
            "batch",
            "follow",
        )
    ),
    "reserve.wakes_from_another_process": (),  # see test_left_behind.py
    "reserve.wakes_from_afar_for_each_queue": ("hears_one_at_a_time",),
    "reserve.wakes_from_afar_later": tuple(
        f"tells_no_other_of_{way}"
        for way in (
            "delays",
            "delayed_enqueue",
            "rollback_pause",
            "snooze_pause",
            "shorter_pause",
            "delayed_follow",
        )
    ),
    "reserve.wakes_past_another_queue": ("passes_on_to_next",),
}
#: Cases of files and of other processes, whose faults are planted in adapters that have those: see their tests,
#: test_files.py, test_forked.py and test_left_behind.py.
ELSEWHERE: Final = frozenset(
    {
        "files.gone",
        "files.gone_extend",
        "files.full",
        "files.torn",
        "files.refused_midway",
        "files.of_another_kind",
        "adapter.absent_only_looks",
        "following.killed_process",
    }
)
PLANTED: Final = len(MUTANTS) + len(networked_mutants.MUTANTS)
PAIRS: Final = [(case_id, name) for case_id, names in ALONE.items() for name in names]
#: Those whose case tells that nobody was woken.
ASLEEP: Final = [pair for pair in PAIRS if "wake" in pair[0]]


def killers(kind: type[Reference]) -> list[str]:
    """The ids of the cases that fail on a mutant, without those that run alone."""
    # A mutant without a virtual clock would spend real seconds on cases that others cover.
    real = kind.facet(kind.__new__(kind), VirtualTime) is None
    wanted = [c.id for c in cases().values() if c.id not in ALONE and (not real or c.level is Level.NEGATIVE)]
    return failing(kind, wanted)


def failing(kind: type[Reference], wanted: list[str]) -> list[str]:
    return list(failures(kind, wanted))


def failures(kind: type[Reference], wanted: list[str]) -> dict[str, str]:
    """The cases that fail, and why."""
    found = ended(ReferenceHarness(kind), Settings(shrink=False), wanted)
    return {name: outcome.text for name, outcome in found.items() if outcome.verdict is Verdict.FAIL}


def line(name: str) -> str:
    what, kind = MUTANTS[name]
    kills = killers(kind) or [case_id for case_id, other in PAIRS if other == name]
    return f"| `{name}` | {what} | {', '.join(f'`{kill}`' for kill in kills)} |"


def page(lines: list[str]) -> str:
    head = [
        "# Which case catches what",
        "",
        "Every line is an adapter with one fault, made from a correct one by changing a single rule.",
        "The suite runs on each in the quick budget; the cases named are those that fail.",
        "Cases that need real time, let threads meet, or are generated are named only where no other case catches the fault.",
        "",
        "This page is written by `python tests/conformance/test_mutants.py`, and a test compares it.",
        "",
        counted(lines),
        "",
        "| fault | what it does | caught by |",
        "|---|---|---|",
    ]
    networked = [
        "",
        "## Lost connections, restarts, clocks",
        "",
        f"{len(networked_mutants.MUTANTS)} faults of an adapter that asks a server, and of that server.",
        "",
        "| fault | what it does | caught by |",
        "|---|---|---|",
    ]
    networked += [f"| `{one.name}` | {one.what} | `{one.case}` |" for one in networked_mutants.MUTANTS]
    return "\n".join([*head, *lines, *networked]) + "\n"


def counted(lines: list[str]) -> str:
    return (
        f"{PLANTED} faults, {len(cases())} cases: suite {SUITE_VERSION} catches {caught(lines)} of {PLANTED}."
    )


def caught(lines: list[str]) -> int:
    # test_networked.py shows that each of the networked ones is.
    return sum(not is_survivor(text) for text in lines) + len(networked_mutants.MUTANTS)


def is_survivor(text: str) -> bool:
    return text.endswith("|  |")


def numbers(lines: list[str]) -> str:
    """The source of `kessel_conformance.strength` with what was counted."""
    text = NUMBERS.read_text(encoding="utf-8")
    for name, value in (("SUITE", f'"{SUITE_VERSION}"'), ("PLANTED", PLANTED), ("CAUGHT", caught(lines))):
        text = re.sub(rf"^{name}: Final = .*$", f"{name}: Final = {value}", text, flags=re.M)
    return text


def published() -> list[str]:
    return PAGE.read_text(encoding="utf-8").splitlines()


def killing(text: str) -> list[str]:
    """The cases that a line of the page names."""
    return re.findall(r"`([^`]*)`", text.split("|")[3])


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_killed_by_every_case_that_its_line_names(name: str) -> None:
    text = next(text for text in published() if text.startswith(f"| `{name}` |"))
    named = killing(text)
    assert named, "it survives the quick budget"
    fixed = [case_id for case_id in named if case_id not in ALONE]  # the others have tests of their own
    assert failing(MUTANTS[name][1], fixed) == fixed, "make strength"


@pytest.fixture(scope="module")
def asleep() -> Iterator[dict[tuple[str, str], Future[list[str]]]]:
    """What the cases fail that sleep as long as they may, by case and mutant: all at once, because they only sleep."""
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(ASLEEP)) as pool:
        for module in (waking, woken):
            patch.setattr(module, "LONG", timedelta(seconds=1))
        patch.setattr(woken, "_LATE", 1)
        patch.setattr(woken, "_TRIES", 1)
        patch.setattr(drowsing, "_LONG", timedelta(seconds=1))
        patch.setattr(woken, "_ASLEEP", 0.5)
        patch.setattr(bringing, "_LONG", timedelta(seconds=1))
        patch.setattr(bringing, "_WOKEN", timedelta(seconds=0.5))
        yield {pair: pool.submit(failing, MUTANTS[pair[1]][1], [pair[0]]) for pair in ASLEEP}


@pytest.mark.parametrize(("case_id", "name"), ASLEEP)
def test_case_that_waits_to_be_woken_kills_its_mutant(
    case_id: str, name: str, asleep: dict[tuple[str, str], Future[list[str]]]
) -> None:
    # Beside all the others one that is woken for nothing may not wait again in time; alone it does.
    assert (asleep[case_id, name].result() or failing(MUTANTS[name][1], [case_id])) == [case_id]


@pytest.mark.parametrize(("case_id", "name"), [pair for pair in PAIRS if pair not in ASLEEP])
def test_case_that_runs_alone_kills_its_mutant(case_id: str, name: str) -> None:
    assert failing(MUTANTS[name][1], [case_id]) == [case_id]


def test_page_and_numbers_are_of_these_mutants_and_every_case_kills() -> None:
    lines = [text for text in published() if text.startswith("| `")][: len(MUTANTS)]
    assert [text.split("`")[1] for text in lines] == list(MUTANTS), "make strength"
    assert PAGE.read_text(encoding="utf-8") == page(lines), "make strength"
    assert NUMBERS.read_text(encoding="utf-8") == numbers(lines), "make strength"
    needed = {kill for text in lines for kill in killing(text)}
    elsewhere = {one.case for one in networked_mutants.MUTANTS} | ELSEWHERE
    assert [name for name in cases() if name not in needed | elsewhere | set(ALONE)] == [], (
        "cases that kill no mutant"
    )


def test_what_runs_alone_is_what_needs_real_time_or_luck() -> None:
    assert set(ALONE) >= {case.id for case in cases().values() if case.real_time}
    assert {name for _, name in PAIRS} <= set(MUTANTS)


def main() -> int:
    logging.disable()  # what a broken adapter makes the core say
    lines = [line(name) for name in MUTANTS]
    PAGE.write_text(page(lines), encoding="utf-8")
    NUMBERS.write_text(numbers(lines), encoding="utf-8")
    print(f"suite {SUITE_VERSION} catches {caught(lines)} of {PLANTED} planted faults")
    missed = [text.split("`")[1] for text in lines if is_survivor(text)]
    if missed:
        print(f"not caught: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())


def test_a_deadline_of_another_clock_is_told_at_once_and_not_waited_for() -> None:
    """S7: one by the wall clock is decades away, which no case may wait for in real time."""
    kind = type("ByTheWallClock", (Reference,), {"local_deadline": lambda s: s.clock.now().timestamp()})
    (text,) = failures(kind, ["lease.deadline_from_before_both"]).values()
    assert "a lease of 10 s ends" in text

"""The doctor of a PostgreSQL: what is wrong with the server, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import attrs
import pytest
from kessel_postgres import doctor
from kessel_postgres.adapter import PostgresAdapter

from kessel_core.contract import AdapterUnavailable, DoctorContext, Level

CONTEXT = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(seconds=30))
#: The columns of what is asked once, and what a sound server answers; the first is its clock.
_SOUND = {
    "notifications": "0", "autovacuum": "on", "most": "100", "present": "5", "invalid": "0",
    "may_write": "true", "standbys": "",
}  # fmt: skip
_DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}

Told = Callable[..., PostgresAdapter]


@pytest.fixture
def told(opened: Callable[..., PostgresAdapter], monkeypatch: pytest.MonkeyPatch) -> Told:
    """Let the server say something else of itself than it does."""

    def tell(
        facts: dict[str, str] | None = None,
        holders: Sequence[list[str]] = (),
        dead: Sequence[list[str]] = (),
        **misc: str,
    ) -> PostgresAdapter:
        adapter = opened()
        adapter.database.facts = attrs.evolve(adapter.database.facts, **(_DURABLE | (facts or {})))
        ask = doctor._rows

        def rows(operations: Any, name: str, query: str) -> list[list[str]]:
            match name:
                case "misc":
                    ((epoch, *_),) = ask(operations, name, query)
                    return [[misc.get("epoch", epoch), *(_SOUND | misc).values()][: len(_SOUND) + 1]]
                case "holders":
                    return [*holders]
                case _:
                    return [*dead]

        monkeypatch.setattr(doctor, "_rows", rows)
        return adapter

    return tell


def found(adapter: PostgresAdapter, subject: str) -> list[tuple[Level, str, str]]:
    return [(one.level, one.detail, one.advice) for one in adapter.doctor(CONTEXT) if one.subject == subject]


def test_sound_server_has_nothing_to_do(told: Told) -> None:
    findings = told().doctor(CONTEXT)
    assert {one.level for one in findings} == {Level.OK}
    assert {one.subject for one in findings} == {"server", "durability", "vacuum", "jobs"}
    assert all(one.advice == "" for one in findings)


def test_server_that_is_gone_is_one_finding_with_its_advice(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = told()
    gone = AdapterUnavailable("the server is gone")
    gone.add_note("start it")

    def fail(*_: object) -> list[list[str]]:
        raise gone

    monkeypatch.setattr(doctor, "_rows", fail)
    findings = [one for one in adapter.doctor(CONTEXT) if one.level is not Level.OK]
    assert [(one.level, one.subject, one.detail, one.advice) for one in findings] == [
        (Level.ERROR, "server", "the server is gone", "start it")
    ]


@pytest.mark.parametrize(
    ("said", "subject", "level", "text"),
    [
        ({"epoch": "86400"}, "clock", Level.WARNING, "NTP"),
        ({"notifications": "0.11"}, "notifications", Level.ERROR, "pg_stat_activity"),
        ({"autovacuum": "off"}, "autovacuum", Level.ERROR, "autovacuum = on"),
        ({"invalid": "2"}, "indexes", Level.ERROR, "REINDEX"),
        ({"may_write": "false"}, "rights", Level.ERROR, "--grant"),
        ({"most": "20", "present": "10"}, "connections", Level.WARNING, "pooler=true"),
        ({"facts": {"isolation": "serializable"}}, "isolation", Level.ERROR, "read committed"),
        ({"facts": {"synchronous_commit": "off"}}, "durability", Level.WARNING, "set it to on"),
        ({"facts": {"fsync": "off"}}, "durability", Level.WARNING, "set fsync=on"),
        ({"facts": {"full_page_writes": "off"}}, "durability", Level.WARNING, "loss of power"),
        ({"standbys": "*", "facts": {"synchronous_commit": "local"}}, "replication", Level.WARNING, "on"),
        ({"standbys": "*", "facts": {"synchronous_commit": "off"}}, "replication", Level.WARNING, "on"),
        ({"holders": [["transaction", "pid 7, night", "301"]]}, "vacuum", Level.WARNING, "end it"),
        ({"dead": [["ready", "50001", "3", "never"]]}, "dead rows", Level.WARNING, "VACUUM"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told_with_what_to_do(
    told: Told, said: dict[str, Any], subject: str, level: Level, text: str
) -> None:
    [(told_level, _, advice)] = found(told(**said), subject)
    assert told_level is level
    assert text in advice


@pytest.mark.parametrize(
    ("said", "subjects"),
    [
        ({"notifications": "0.1"}, ["notifications"]),
        ({"most": "21", "present": "10"}, ["connections"]),  # ten of this process, and the one that hears
        ({"standbys": "*"}, ["replication"]),
        ({"facts": {"synchronous_commit": "local"}}, ["replication", "durability"]),
        ({"holders": [["transaction", "pid 7, night", "300"]]}, ["vacuum", "dead rows"]),
        ({"dead": [["ready", "50000", "3", "never"]]}, ["vacuum", "dead rows"]),
    ],
    ids=str,
)
def test_what_is_not_wrong_yet_alarms_nobody(told: Told, said: dict[str, Any], subjects: list[str]) -> None:
    bad = [one for one in told(**said).doctor(CONTEXT) if one.level is not Level.OK]
    assert not {one.subject for one in bad}.intersection(subjects), bad


def test_numbers_are_told_for_people(told: Told) -> None:
    adapter = told(
        holders=[["replication slot", "old, not in use", "86400"]],
        dead=[["held", "60000", "12", "never"]],
        notifications="0.5",
        invalid="1",
    )
    details = {one.subject: one.detail for one in adapter.doctor(CONTEXT)}
    assert details["vacuum"] == "a replication slot (old, not in use) keeps dead rows since 1 day, 0:00:00"
    assert details["dead rows"] == "held: 60000 beside 12 live ones, last vacuum never"
    assert details["notifications"].startswith("their queue is 50% full")
    assert details["indexes"] == "1 of the schema are not valid"

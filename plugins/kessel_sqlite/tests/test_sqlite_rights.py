"""Who may read the jobs: the rights of the file and of what SQLite keeps beside it (finding D11)."""

from __future__ import annotations

import os
import shlex
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kessel_sqlite.adapter import SqliteAdapter

from kessel_core.contract import DoctorContext, Finding, Level, Message

Opener = Callable[..., SqliteAdapter]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="rights of this kind")

CONTEXT = DoctorContext(queues=("q",), types=frozenset(), grace=timedelta(seconds=1))


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(path: Path) -> dict[str, int]:
    return {
        file.name.removeprefix(path.name): stat.S_IMODE(file.stat().st_mode)
        for file in path.parent.glob(f"{path.name}*")
    }


def wide(adapter: SqliteAdapter) -> list[Finding]:
    return [found for found in adapter.doctor(CONTEXT) if found.subject == "rights"]


def test_finding_d11_a_new_file_is_its_owners_only(umask: int, path: Path, opened: Opener) -> None:
    adapter = opened()
    adapter.enqueue(Message("a", "q", b"x", 5))
    assert rights(path) == {"": 0o600, "-wal": 0o600, "-shm": 0o600}
    assert wide(adapter) == []


@pytest.mark.parametrize("access", ["owner", "group"])
def test_finding_d11_a_new_file_is_its_owners_only_from_the_first_moment(
    umask: int, path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, access: str
) -> None:
    """Whoever could open it before its rights are set would keep it open, and read all jobs."""
    at_first, mknod = [], os.mknod

    def made(*arguments: Any) -> None:
        mknod(*arguments)
        at_first.append(rights(path))

    monkeypatch.setattr(os, "mknod", made)
    opened(access=access)
    assert at_first == [{"": 0o600}]


def test_finding_d11_a_file_for_a_group_is_so_whatever_the_umask_is(
    umask: int, path: Path, opened: Opener
) -> None:
    adapter = opened(access="group")
    adapter.enqueue(Message("a", "q", b"x", 5))
    assert rights(path) == {"": 0o660, "-wal": 0o660, "-shm": 0o660}
    assert wide(adapter) == []


@pytest.mark.parametrize("missing", ["mknod", "rights of mknod"])
def test_finding_d11_where_the_system_cannot_make_it_so_sqlite_makes_the_file(
    path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "mknod":
        monkeypatch.delattr(os, "mknod")
    else:

        def refused(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "mknod", refused)
    opened().enqueue(Message("a", "q", b"x", 5))
    assert rights(path) == {"": 0o600, "-wal": 0o600, "-shm": 0o600}


def test_finding_d11_a_file_that_was_there_keeps_its_rights_and_doctor_says_so(
    path: Path, opened: Opener
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (a)")
        connection.commit()
    path.chmod(0o644)
    adapter = opened()
    assert rights(path)[""] == 0o644
    (found,) = wide(adapter)
    assert found.level is Level.WARNING
    assert str(path) in found.detail
    assert found.advice.startswith("chmod 600 ")


def test_finding_d11_a_link_leads_to_a_new_file_of_the_owner_only(tmp_path: Path, opened: Opener) -> None:
    target = tmp_path / "elsewhere.db"
    (tmp_path / "link.db").symlink_to(target)
    opened(path=tmp_path / "link.db").enqueue(Message("a", "q", b"x", 5))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["jobs.db", "a link", "with spaces.db"])
@pytest.mark.parametrize("tail", ["-wal", "-shm"])
def test_finding_d11_doctor_names_a_file_beside_it_that_others_may_read(
    path: Path, opened: Opener, tail: str, name: str
) -> None:
    """The latest jobs are in the log, and not in the file itself; SQLite keeps it where a link leads."""
    target = path.parent / name
    if name == "a link":
        target = path.parent / "elsewhere" / "jobs.db"
        target.parent.mkdir()
        (path.parent / name).symlink_to(target)
    adapter = opened(path=path.parent / name)
    adapter.enqueue(Message("a", "q", b"x", 5))
    assert wide(adapter) == []
    beside = Path(f"{target}{tail}")
    beside.chmod(0o644)
    (found,) = wide(adapter)
    assert str(beside) in found.detail
    assert shlex.split(found.advice) == ["chmod", "600", str(beside)]

"""The first handler of one's own: one module, one command (finding C10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kessel_core import InvalidConfig, JobManager

MODULE = """
from pathlib import Path
from kessel_core import handler

@handler("greet")
def greet(payload):
    Path("greeted").write_text(payload)

def helper(payload):
    raise AssertionError
"""


@pytest.fixture
def jobs(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module in the directory of the command, new for each test."""
    name = f"own_jobs_{abs(hash(str(kessel.directory)))}"
    kessel.write(f"{name}.py", MODULE)
    return name


def test_finding_c10_a_module_is_enough_for_drain_and_request(kessel: Any, jobs: str) -> None:
    kessel.ok("request", "--handlers", jobs, "greet", '"you"')
    assert "1 success" in kessel.ok("drain", "--handlers", jobs).out
    assert (kessel.directory / "greeted").read_text() == "you"


def test_finding_c10_several_modules_may_be_named(kessel: Any, jobs: str) -> None:
    kessel.write(f"{jobs}_too.py", MODULE.replace("greet", "part"))
    named = ("--handlers", jobs, "--handlers", f"{jobs}_too")
    for job_type in ("greet", "part"):
        kessel.ok("request", *named, job_type, '"you"')
    assert "2 success" in kessel.ok("drain", *named).out
    assert [(kessel.directory / name).read_text() for name in ("greeted", "parted")] == ["you", "you"]


def test_finding_c10_request_refuses_a_type_that_the_module_has_no_handler_for(
    kessel: Any, jobs: str
) -> None:
    done = kessel("request", "--handlers", jobs, "gret", '"you"')
    assert done.code == 2
    assert f"TYPE: {jobs} has no handler for 'gret'; did you mean 'greet'?" in done.err
    kessel.write("jobs.jsonl", '{"type": "greet"}\n{"type": "other"}\n')
    done = kessel("request", "--handlers", jobs, "--from", "jobs.jsonl")
    assert done.code == 2
    assert "jobs.jsonl:2" in done.err
    assert "nothing was stored" in done.err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("no_such_module", None, "cannot be imported: ModuleNotFoundError"),
        ("empty_module", "x = 1\n", "declares no handler"),
        ("broken_module", "1 / 0\n", "ZeroDivisionError"),
        ("raising_module", "x = int('ten')\n", "'raising_module' cannot be imported: ValueError: invalid"),
        ("exiting_module", "raise SystemExit(3)\n", "cannot be imported"),
        (
            "many_parameters",
            "from kessel_core import handler\n@handler('greet')\ndef greet(a, b, c): ...\n",
            "--handlers: handlers.greet: many_parameters.greet(a, b, c) must take (payload)",
        ),
        ("jobs.py", None, "is not the name of a module, as 'jobs'"),
        ("./shop/jobs.py", None, "is not the name of a module, as 'shop.jobs'"),
        ("jobs:greet", None, "is not the name of a module, as 'jobs'"),
        ("", None, "is not the name of a module"),
    ],
)
def test_finding_c10_a_wrong_module_is_one_error(kessel: Any, name: str, text: str | None, said: str) -> None:
    if text is not None:
        kessel.write(f"{name}.py", text)
    for command in (("drain",), ("request", "greet")):
        done = kessel(*command, "--handlers", name)
        assert done.code == 2
        assert said in done.err
        assert "--handlers" in done.err


def test_what_raises_when_it_is_looked_at_is_no_handler(kessel: Any, jobs: str) -> None:
    """A module that imports a proxy, such as `flask.current_app`, has its handlers all the same (C10)."""
    proxy = "class Proxy:\n    def __getattr__(self, name):\n        raise RuntimeError('no application')\n"
    kessel.write(f"{jobs}.py", f"{proxy}\ncurrent_app = Proxy()\n{MODULE}")
    kessel.ok("request", "greet", "--handlers", jobs)


def test_finding_c10_a_manager_is_made_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "kessel.toml").write_text('[kessel]\nadapter = "memory://"\n[kessel.worker]\nslots = 3\n')
    environ = {"KESSEL_WORKER_GRACE": "5s"}
    manager = JobManager.from_config(str(tmp_path / "kessel.toml"), environ=environ, handlers={"a": len})
    assert (manager.config.worker.slots, manager.config.worker.grace.seconds) == (3, 5)
    with manager:
        manager.request("a", [1])
        assert manager.worker(slots=1).drain() == {"success": 1}


def test_finding_c10_what_is_wrong_names_its_place_as_the_command_does(tmp_path: Path) -> None:
    file = tmp_path / "kessel.toml"
    file.write_text('[kessel]\nadapter = "memory://?leese=5s"\n[kessel.handlers]\na = "no_such_module:f"\n')
    with pytest.raises(InvalidConfig) as caught:
        JobManager.from_config(str(file), environ={}).connect()
    assert [str(file) in str(problem) for problem in caught.value.problems] == [True, True]
    with pytest.raises(InvalidConfig, match="KESSEL_WORKER_SLOTS"):
        JobManager.from_config(str(file), environ={"KESSEL_WORKER_SLOTS": "x"})

"""What jobs and plugins carry reaches no terminal as it is, in any command: findings D8 and D10."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from kessel_core import Config, JobManager, ResultsConfig, handler

HOSTILE = "\x1b[2J\x1b]0;owned\x07\n12:30:01 ERROR kessel: forged\r\u202e\x9b" + "x" * 50_000

HOOK = "from kessel_core import hookimpl\nfrom kessel_core.contract import Finding, Level\n@hookimpl\n"


@handler("echo")
def echo(payload: str) -> str:
    return payload


@handler("fail")
def fail(payload: str) -> None:
    raise ValueError(payload)


@pytest.fixture
def ids(kessel: Any) -> dict[str, str]:
    """Ids of a finished job, a buried one, one whose type has no handler, and one that waits."""
    kessel.write("kessel.toml", '[kessel]\nadapter = "sqlite:///jobs.db"\n')
    url = f"sqlite:///{kessel.directory}/jobs.db"
    config = Config(results=ResultsConfig(keep=timedelta(days=1)))
    with JobManager(url, handlers=[echo, fail], config=config) as manager:
        ids = {kind: manager.request(kind, HOSTILE).id for kind in ("echo", "fail")}
        ids["odd"] = manager.request(f"odd{HOSTILE[:200]}", HOSTILE, ref=HOSTILE[:200]).id
        manager.worker().drain()
        ids["ready"] = manager.request(f"odd{HOSTILE[:200]}", HOSTILE, ref=HOSTILE[:200]).id
    return ids


def plain(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text) and "\n12:30:01 ERROR" not in text


def test_finding_d8_no_command_prints_what_a_job_carries_as_it_is(kessel: Any, ids: dict[str, str]) -> None:
    for words in (
        ("result", ids["echo"]),
        ("result", ids["fail"]),
        ("peek",),
        ("buried",),
        ("buried", "list"),
        ("buried", "show", ids["fail"]),
        ("show", ids["ready"]),
        ("find", "--type", f"odd{HOSTILE[:200]}"),
        ("buried", "show", HOSTILE[:200]),
        ("result", HOSTILE[:200]),
        (HOSTILE[:200],),
        ("stats", "--queue", HOSTILE[:200]),
        ("stats", "--config", HOSTILE[:200]),
    ):
        done = kessel(*words)
        assert plain(done.out), words
        assert plain(done.err), words
        assert len(done.out) + len(done.err) < 250_000, words


def test_finding_d8_metadata_of_plugins_reaches_no_terminal_and_no_requirements(
    kessel: Any, site: Any
) -> None:
    site.install("trap", "raise ValueError('\\x1b[2J' + 'x' * 10_000_000)", version="1\x1b[2J --index-url x")
    site.install("sound", "")
    done = kessel.ok("plugins", "--requirements")
    assert plain(done.err)
    assert all(line.count("==") == 1 and " " not in line for line in done.out.splitlines())
    assert "--index-url" not in done.out
    for words in (("plugins",), ("doctor",), ("adapters",), ("hooks",), ("no-such-command",)):
        done = kessel(*words)
        assert plain(done.out), words
        assert plain(done.err), words
        assert len(done.out) + len(done.err) < 100_000, words


@pytest.mark.parametrize(
    "words",
    [
        ("stats", "--queue", "x://me:hunter2@h"),
        ("stats", "--config", "x://me:hunter2@h"),
        ("stats", "--adapter", "'x://me:hunter2@h'"),
        ("stats", "--adapter", "beanstalk://me:hunt/er2@h"),
        ("stats", "--adapter", "sqlite://me:hunter2@h/jobs.db"),
        ("move", "x://me:hunter2@h", "sqlite:///b.db"),
        ("move", "sqlite://me:hunter2@h/a.db", "y://me:hunter2@h"),
        ("drain", "--slots", "x://me:hunter2@h"),
        ("drain", "--grace", "x://me:hunter2@h"),
        ("drain", "--log-level", "x://me:hunter2@h"),
        ("drain", "--handlers", "x://me:hunter2@h"),
        ("request", "a", "x://me:hunter2@h"),
        ("request", "a", "--delay", "x://me:hunter2@h"),
        ("request", "a", "--header", "x://me:hunter2@h"),
        ("request", "--from", "x://me:hunter2@h"),
        ("peek", "x://me:hunter2@h"),
        ("x://me:hunter2@h",),
        ("stats", "x://me:hunter2@h"),
        ("doctor", "--adapter", "beanstalk://me:hunter2@127.0.0.1:1/"),
    ],
)
def test_finding_d10_no_command_repeats_the_secret_of_an_address(kessel: Any, words: tuple[str, ...]) -> None:
    done = kessel(*words)
    assert done.code != 0
    said = done.out + done.err
    assert "hunter2" not in said
    assert "er2@" not in said


def test_finding_d10_configured_secrets_are_in_no_output(kessel: Any) -> None:
    kessel.write(
        "kessel.toml",
        """[kessel]
adapter = "'beanstalk://tok/hunter2@127.0.0.1:1/?auth=hunter2&ttr=5m'"
[kessel.adapter_options]
pwd = "hunter2"
nested = { private_key = "hunter2" }
[kessel.middleware_options.trace]
sig = "hunter2"
""",
    )
    for words in (
        ("config",),
        ("config", "--json"),
        ("doctor",),
        ("doctor", "--json"),
        ("stats",),
        ("drain",),
    ):
        done = kessel(*words)
        assert "hunter2" not in done.out + done.err, words
    assert json.loads(kessel("config", "--json").out)["options"]["adapter_options"]["value"]["pwd"] == "***"


@pytest.mark.parametrize(
    "source",
    [
        "raise ValueError('cannot reach x://me:hunter2@h/')",
        HOOK + "def kessel_handlers(): raise ValueError('cannot reach x://me:hunter2@h/')",
        HOOK + "def kessel_doctor(context): raise ValueError('cannot reach x://me:hunter2@h/')",
        HOOK
        + "def kessel_doctor(context): return [Finding(Level.ERROR, 'x', 'no x://me:hunter2@h/', 'wait')]",
    ],
)
def test_finding_d10_what_a_plugin_says_of_its_failure_has_no_secret_of_an_address(
    kessel: Any, site: Any, source: str
) -> None:
    """Such as one that connects at its import, with the address of its environment."""
    site.install("leaky", source)
    for words in (("plugins",), ("plugins", "--json"), ("doctor",), ("doctor", "--json"), ("hooks",)):
        done = kessel(*words, "--adapter", "memory://")
        assert "hunter2" not in done.out + done.err, words
    assert "x://***@h/" in kessel("doctor", "--adapter", "memory://").out


def test_finding_d8_an_error_that_nobody_foresaw_is_shown_by_the_same_rules(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"{HOSTILE} at beanstalk://me:hunter2@host")

    monkeypatch.setattr("kessel_core.cli.app.App.adapter", broken)
    done = kessel("stats")
    assert done.code == 1
    assert "RuntimeError" in done.err
    assert "in broken" in done.err
    assert all(char.isprintable() or char == "\n" for char in done.err)
    assert "hunter2" not in done.err
    assert len(done.err) < 50_000

"""`kessel plugins`, `hooks`, `middleware`, `doctor`, with plugins whole and broken."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from typing import Any

import pytest

from kessel_core.plugins import known

BROKEN = {
    "import": "import no_such_library\n",
    "exit": "raise SystemExit(5)\n",
    "syntax": "def (\n",
    "async": (
        "from kessel_core.hooks import hookimpl\n@hookimpl\nasync def kessel_job_finished(result): pass\n"
    ),
    "misspelt": "from kessel_core.hooks import hookimpl\n@hookimpl\ndef kessel_adaptors(): return []\n",
}

COMMAND = """
import click
from kessel_core import hookimpl

@hookimpl
def kessel_cli(group):
    @group.command("greet")
    def greet():
        "Say hello."
        click.echo("hello")
"""


@pytest.mark.parametrize("command", ["--help", "plugins"])
def test_any_number_of_broken_plugins_leaves_help_and_plugins_working(
    kessel: Any, site: Any, command: str
) -> None:
    """D4: and the guilty distribution is named."""
    for name, source in BROKEN.items():
        site.install(name, source)
    done = kessel.ok(command)
    said = done.out + done.err
    for name in ("import", "exit", "syntax", "async"):
        assert f"{name}-dist" in said, name


def test_plugins_says_what_is_wrong_in_json(kessel: Any, site: Any) -> None:
    site.install("import", BROKEN["import"])
    report = {status["name"]: status for status in kessel.ok("plugins", "--json").json}
    assert report["import"]["status"] == "failed"
    assert "no_such_library" in report["import"]["why"]
    assert report["import"]["distribution"] == "import-dist"
    assert report["sqlite"]["status"] == "active"


def test_disabled_plugin_is_not_imported(kessel: Any, site: Any) -> None:
    site.install("exit", BROKEN["exit"])
    kessel.write("kessel.toml", '[kessel.plugins]\ndisabled = ["exit"]\n')
    report = {status["name"]: status for status in kessel.ok("plugins", "--json").json}
    assert report["exit"]["status"] == "disabled"
    assert "plugin_exit" not in sys.modules


def test_check_passes_when_everything_that_is_named_is_usable(kessel: Any, site: Any) -> None:
    site.install("import", BROKEN["import"])
    kessel.ok("plugins", "--check")
    kessel.ok("plugins", "--check", "sqlite")


@pytest.mark.parametrize("name", ["import", "no-such-plugin"])
def test_check_exits_with_3_when_a_named_plugin_is_not_usable(kessel: Any, site: Any, name: str) -> None:
    """D12."""
    site.install("import", BROKEN["import"])
    done = kessel("plugins", "--check", name)
    assert done.code == 3
    assert name in done.err


def test_check_exits_with_3_when_the_configuration_names_what_is_not_usable(kessel: Any, site: Any) -> None:
    site.install("import", BROKEN["import"])
    kessel.write("kessel.toml", '[kessel.plugins]\nrequired = ["import"]\n')
    assert kessel("plugins", "--check").code == 3
    kessel.write("kessel.toml", '[kessel]\nadapter = "carrier-pigeon://loft"\n')
    assert kessel("plugins", "--check").code == 3
    kessel.write("kessel.toml", '[kessel]\nmiddleware = ["no-such-middleware"]\n')
    assert kessel("plugins", "--check").code == 3


def test_required_plugin_that_is_broken_stops_other_commands_with_3(kessel: Any, site: Any) -> None:
    site.install("import", BROKEN["import"])
    kessel.write("kessel.toml", '[kessel.plugins]\nrequired = ["import"]\n')
    done = kessel("stats")
    assert done.code == 3
    assert "import-dist" in done.err
    kessel.ok("plugins")


def test_requirements_are_lines_for_pip(kessel: Any, site: Any) -> None:
    site.install("extra", "")
    lines = kessel.ok("plugins", "--requirements").out.splitlines()
    assert "extra-dist==1.0" in lines
    assert f"kessel-core=={version('kessel-core')}" in lines


def test_adapter_whose_plugin_is_not_usable_is_exit_code_3(kessel: Any) -> None:
    """D4: what the configuration names must be active."""
    kessel.write("kessel.toml", '[kessel.plugins]\ndisabled = ["sqlite"]\n')
    done = kessel("stats")
    assert done.code == 3
    assert "kessel-sqlite" in done.err
    assert "disabled" in done.err


def test_adapter_that_is_not_installed_says_what_to_install(
    kessel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kessel.write("kessel.toml", '[kessel]\nadapter = "cellar://x"\n[kessel.plugins]\ndisabled = ["sqlite"]\n')
    monkeypatch.setitem(known.BACKENDS["adapter"], "cellar", "kessel-cellar")
    done = kessel("stats")
    assert done.code == 3
    assert "kessel.toml: adapter: no plugin opens 'cellar://'; run: pip install kessel-cellar" in done.err


def test_misspelt_adapter_gets_the_nearest_name_and_the_broken_plugins(kessel: Any, site: Any) -> None:
    site.install("import", BROKEN["import"])
    done = kessel("stats", "--adapter", "sqlit:///x.db")
    assert done.code == 3
    assert "--adapter: no plugin opens 'sqlit://'; did you mean 'sqlite'?" in done.err
    assert re.search(r"not usable now: .*\bimport\b", done.err)
    assert "did you mean 'sqlite'?" in kessel("stats", "--adapter", "sqlit").err


def test_command_of_a_plugin_is_listed_and_runs(kessel: Any, site: Any) -> None:
    site.install("greeter", COMMAND)
    assert "Say hello." in kessel.ok("--help").out
    assert kessel.ok("greet").out == "hello\n"


def test_plugin_that_fails_to_add_its_commands_is_warned_of(
    kessel: Any, site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site.install(
        "bad",
        "from kessel_core.hooks import hookimpl\n@hookimpl\ndef kessel_cli(group): raise SystemExit(9)\n",
    )
    site.install("greeter", COMMAND)
    done = kessel.ok("--help")
    assert "plugin bad (bad-dist 1.0): kessel_cli failed: SystemExit: 9" in caplog.text
    assert "Say hello." in done.out


def test_plugin_cannot_take_the_name_of_a_command(kessel: Any, site: Any) -> None:
    site.install("thief", COMMAND.replace('"greet"', '"worker"'))
    site.install("copy", COMMAND)
    site.install("greeter", COMMAND)
    done = kessel.ok("--help")
    assert "'worker' that kessel itself has" in done.err
    assert "'greet' that plugin 'copy' has" in done.err
    assert "Work on jobs" in kessel.ok("worker", "--help").out


def test_hooks_are_listed_with_who_implements_them(kessel: Any, site: Any) -> None:
    site.install("greeter", COMMAND)
    hooks = {hook["hook"]: hook for hook in kessel.ok("hooks", "--json").json}
    assert "greeter" in hooks["kessel_cli"]["plugins"]
    assert "sqlite" in hooks["kessel_adapters"]["plugins"]
    assert hooks["kessel_job_settled"]["arguments"] == ["result", "settlement"]
    assert all(hook["summary"] for hook in hooks.values())
    assert "kessel_execute_job(job)" in kessel.ok("hooks").out


def test_middleware_shows_the_chain_and_where_it_comes_from(kessel: Any) -> None:
    """D2: outermost first."""
    shown = kessel.ok("middleware", "--json").json
    assert shown["origin"] == "default"
    assert [link["name"] for link in shown["middleware"]] == ["logging"]
    kessel.write("kessel.toml", '[kessel]\nmiddleware = ["logging"]\n')
    assert "order from: kessel.toml" in kessel.ok("middleware").out


def test_doctor_finds_nothing_wrong_with_a_fresh_start(kessel: Any) -> None:
    findings = kessel.ok("doctor", "--json").json
    assert {finding["level"] for finding in findings} <= {"ok", "warning"}
    assert findings
    shown = kessel.ok("doctor").out
    assert [one["subject"] for one in findings if one["subject"] not in shown] == []


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("[kessel.worker]\nslot = 1\n", "configuration"),
        ('[kessel]\nadapter = "moon://base"\n', "nobody answers"),
        ('[kessel]\nadapter = "carrier-pigeon://loft"\n', "carrier-pigeon"),
        ('[kessel.plugins]\nrequired = ["no-such-plugin"]\n', "no-such-plugin"),
        ('[kessel.handlers]\nx = "no_such_module:f"\n', "no_such_module"),
        ('[kessel]\nadapter = "sqlite:///text.txt"\n', "not a SQLite database"),
        ('[kessel]\nadapter = "sqlite:///none/x.db"\n', "no directory"),
        ('[kessel]\nadapter = "crash://"\n', "cannot be opened: RuntimeError"),
    ],
)
def test_doctor_reports_what_is_wrong_with_exit_code_1(
    kessel: Any, failing: Any, unreachable: None, text: str, subject: str
) -> None:
    kessel.write("kessel.toml", text)
    kessel.write("text.txt", "no database at all, but long enough for its header " * 40)
    failing("crash", "RuntimeError")
    done = kessel("doctor", "--json")
    assert done.code == 1
    wrong = [finding for finding in done.json if finding["level"] == "error"]
    assert any(subject in f"{finding['subject']} {finding['detail']}" for finding in wrong)
    assert all(finding["advice"] for finding in wrong)


def test_what_a_disabled_plugin_offers_is_not_to_be_installed(kessel: Any) -> None:
    kessel.write(
        "kessel.toml",
        """[kessel]
middleware = ["otel"]
[kessel.plugins]
disabled = ["otel", "prometheus"]
[kessel.prometheus]
""",
    )
    for words in (("plugins", "--check"), ("exporter",)):
        done = kessel(*words)
        assert done.code in (2, 3)
        assert "pip install" not in done.err
        assert "is not usable: disabled: disabled by the configuration" in done.err


@pytest.mark.parametrize("hook", ["kessel_handlers", "kessel_middleware", "kessel_payload_types"])
def test_d3_doctor_and_plugins_find_a_plugin_that_fails_when_it_is_asked(
    kessel: Any, site: Any, hook: str
) -> None:
    """Its jobs would be buried; a doctor that finds nothing lets a deployment with `--strict` go on."""
    hooked = (
        f"from kessel_core.hooks import hookimpl\n@hookimpl\ndef {hook}(): raise OSError('no settings')\n"
    )
    site.install("broken", hooked)
    done = kessel("doctor", "--strict", "--adapter", "memory://")
    assert done.code == 1
    for out in (done.out, kessel.ok("plugins").out):
        assert f"{hook} failed: OSError: no settings" in out


@pytest.mark.parametrize(
    ("raised", "advice"),
    [
        ('AdapterUnavailable("away")', "check the address, and that the backend runs"),
        ('ProtocolError("odd")', "something else, or another version"),
        ("noted()", "turn it on"),
    ],
)
def test_doctor_gives_advice_that_fits_the_error(kessel: Any, failing: Any, raised: str, advice: str) -> None:
    """An adapter that knows what to do says so in a note of its error."""
    noted = """
from kessel_core import ProtocolError
def noted():
    error = AdapterUnavailable("away")
    error.add_note("turn it on")
    return error
"""
    failing("moon", raised, noted)
    done = kessel("doctor", "--adapter", "moon://", "--json")
    assert done.code == 1
    assert advice in done.json[-1]["advice"]


# --- what two teams offer --------------------------------------------------------------------

TEAM = """
from kessel_core import hookimpl
from kessel_core.hooks import Middleware

def charge(payload):
    return __name__

class Audit:
    @hookimpl
    def kessel_execute_job(self, job):
        return None

@hookimpl
def kessel_handlers():
    return {"charge": charge}

@hookimpl
def kessel_middleware():
    return [Middleware(name="audit", factory=Audit)]
"""

CLASH = (
    "handler 'charge' is offered by acme (acme-dist 1.0) and by zeta (zeta-dist 1.0); "
    'write in [kessel.handlers] charge = "acme/charge" or charge = "zeta/charge"'
)


SETTLED = '[kessel.handlers]\ncharge = "acme/charge"\n'


@pytest.fixture
def teams(site: Any) -> None:
    site.install("acme", TEAM)
    site.install("zeta", TEAM)


def test_plugins_shows_a_clash_as_a_conflict_with_both_owners_and_how_to_settle_it(
    kessel: Any, teams: None
) -> None:
    report = {status["name"]: status for status in kessel.ok("plugins", "--json").json}
    assert report["acme"]["conflicts"] == report["zeta"]["conflicts"]
    assert report["acme"]["conflicts"][0] == CLASH
    assert "audit" in report["acme"]["conflicts"][1]
    assert report["sqlite"]["conflicts"] == []
    assert "conflict: handler 'charge'" in " ".join(kessel.ok("plugins").out.split())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 3),
        ('[kessel.handlers]\ncharge = "acme/charge"\n', 0),
        ('[kessel.handlers]\ncharge = "zeta-dist/charge"\n', 0),
        ('[kessel.handlers]\ncharge = "plugin_acme:charge"\n', 0),
        ('[kessel.handlers]\ncharge = "plugin_acme:chrage"\n', 2),
        ('[kessel]\nmiddleware = ["audit"]\n[kessel.handlers]\ncharge = "acme/charge"\n', 3),
        ('[kessel]\nmiddleware = ["zeta/audit"]\n[kessel.handlers]\ncharge = "acme/charge"\n', 0),
        ('[kessel.plugins]\ndisabled = ["zeta"]\n', 0),
        (f'{SETTLED}[kessel.http.endpoints.bill]\nurl = "ftp://x"\n', 2),
        (f"{SETTLED}[kessel.prometheus]\nport = 1\n", 2),
        (f"{SETTLED}[kessel.nobody]\nport = 1\n", 3),
        (f'[kessel]\nstore = "nobody://x"\n{SETTLED}', 3),
        (f'[kessel]\nstore = "sqlite:///store.db"\n{SETTLED}', 0),
    ],
)
def test_check_exits_as_the_worker_would_with_the_same_configuration(
    kessel: Any, teams: None, text: str, code: int
) -> None:
    kessel.write("kessel.toml", text)
    checked, worked = kessel("plugins", "--check"), kessel("drain")
    assert (checked.code, worked.code) == (code, code), (checked.err, worked.err)
    if code:
        assert checked.err.startswith("error: ")


def test_settled_clash_is_not_shown_any_more(kessel: Any, teams: None) -> None:
    kessel.write("kessel.toml", '[kessel.handlers]\ncharge = "acme/charge"\n')
    report = {status["name"]: status for status in kessel.ok("plugins", "--json").json}
    assert not any("charge" in text for text in report["acme"]["conflicts"])


def test_doctor_says_what_to_write_to_settle_a_clash(kessel: Any, teams: None) -> None:
    done = kessel("doctor", "--json")
    assert done.code == 1
    findings = [finding for finding in done.json if "charge" in finding["detail"]]
    assert [(finding["level"], finding["advice"]) for finding in findings] == [
        ("error", 'write in [kessel.handlers] charge = "acme/charge" or charge = "zeta/charge"')
    ]
    (unused,) = [finding for finding in done.json if "audit" in finding["detail"]]
    assert (unused["level"], unused["advice"]) == (
        "warning",
        'write in `middleware` "acme/audit" or "zeta/audit"',
    )


def test_unknown_name_of_a_disabled_plugin_is_warned_about_with_the_nearest(
    kessel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    kessel.write("kessel.toml", '[kessel.plugins]\ndisabled = ["sqlit"]\n')
    kessel.ok("plugins")
    assert "plugins.disabled: no plugin is called 'sqlit'; did you mean 'sqlite'?" in caplog.text
    (finding,) = [finding for finding in kessel.ok("doctor", "--json").json if "sqlit'" in finding["detail"]]
    assert (finding["level"], finding["advice"]) == ("warning", "correct it there")
    assert finding["detail"].startswith("kessel.toml: plugins.disabled: ")


def test_request_needs_no_middleware_of_the_workers(kessel: Any) -> None:
    """It is checked where jobs are run."""
    kessel.write("kessel.toml", '[kessel]\nmiddleware = ["of-the-workers"]\n')
    kessel.ok("request", "charge")
    assert kessel("drain").code == 3

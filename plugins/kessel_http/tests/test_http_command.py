"""`kessel endpoints`, and deliveries by processes of the command, over SQLite, http and https."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from standardwebhooks.webhooks import Webhook

from kessel_core.cli.root import run

from .conftest import NEW, OLD, TLS, Receiver, payload


@attrs.frozen
class Done:
    code: int
    out: str
    err: str


class Site:
    """A folder with a configuration, in which the command runs, in this process or in one of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def configure(self, text: str) -> None:
        (self.folder / "kessel.toml").write_text(f'[kessel]\nadapter = "sqlite:///jobs.db"\n{text}')

    def endpoint(self, url: str) -> None:
        self.configure(
            f'[kessel.http.endpoints.billing]\nurl = "{url}"\n'
            f'secrets = ["env:BILLING", "{OLD}"]\ninternal = true\n'
        )

    def kessel(self, *arguments: str) -> Done:
        self._capsys.readouterr()
        code = run(arguments)
        captured = self._capsys.readouterr()
        return _hushed(Done(code, captured.out, captured.err))

    def process(self, *arguments: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "kessel_core.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return _hushed(Done(done.returncode, done.stdout, done.stderr))

    def ok(self, *arguments: str) -> str:
        done = self.kessel(*arguments)
        assert done.code == 0, done
        return done.out

    def endpoints(self) -> dict[str, Any]:
        return {row["name"]: row for row in json.loads(self.ok("endpoints", "list", "--json"))}


def _hushed(done: Done) -> Done:
    assert NEW[6:20] not in done.out + done.err
    assert OLD[6:20] not in done.out + done.err
    assert "Traceback" not in done.err
    return done


@pytest.fixture
def site(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in os.environ:
        if name.startswith("KESSEL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    monkeypatch.setenv("BILLING", NEW)
    return Site(tmp_path, capsys)


def test_s23_an_outcome_is_delivered_by_a_worker_process_over_https(
    site: Site, secure_receiver: Receiver
) -> None:
    site.endpoint(f"https://localhost:{secure_receiver.port}/hooks")
    site.ok("request", "kessel.http", json.dumps(payload()))
    done = site.process("drain", "--json")
    assert json.loads(done.out)["success"] == 1
    (got,) = secure_receiver.received
    for secret in (NEW, OLD):
        assert Webhook(secret).verify(got.body, dict(got.headers))["data"]["id"] == "0198-job"


def test_s23_410_disables_an_endpoint_for_all_processes_until_it_is_enabled(
    site: Site, receiver: Receiver
) -> None:
    site.endpoint(f"http://127.0.0.1:{receiver.port}/hush")
    receiver.answer(410, 204)
    place = f"http://127.0.0.1:{receiver.port}"
    assert site.endpoints()["billing"] == {
        "name": "billing",
        "place": place,
        "state": "ok",
        "failures": 0,
        "disabled_at": None,
        "rests_until": None,
        "secrets": 2,
    }
    for _ in range(2):
        site.ok("request", "kessel.http", json.dumps(payload()))
        site.process("drain")
    assert len(receiver.received) == 1
    assert "is disabled since" in site.ok("buried", "list", "--json")
    state = site.endpoints()["billing"]["state"]
    assert state.startswith("disabled since 20")
    assert state.endswith(": answered 410")
    shown = site.ok("endpoints", "list")
    assert shown == f"billing  {place}  {state}\n"
    assert site.ok("endpoints", "enable", "billing").startswith("billing is enabled; it was: disabled since")
    assert site.endpoints()["billing"]["state"] == "ok"
    site.ok("buried", "kick", "--type", "kessel.http")
    assert json.loads(site.ok("drain", "--json"))["success"] == 2
    assert len(receiver.received) == 3
    again = site.kessel("endpoints", "enable", "billing")
    assert (again.code, again.out) == (0, "")
    assert "billing: it was not disabled; nothing changed" in again.err


def test_s23_failures_are_counted_over_processes(site: Site, receiver: Receiver) -> None:
    site.endpoint(f"http://127.0.0.1:{receiver.port}/")
    receiver.answer(500)
    assert site.endpoints()["billing"]["state"] == "ok"
    for number in range(1, 6):
        site.ok("request", "kessel.http", json.dumps(payload()))
        site.kessel("drain")
        if number == 1:
            assert site.endpoints()["billing"]["state"] == "failed once: answered 500"
    row = site.endpoints()["billing"]
    assert row["failures"] == 5
    assert row["state"] == f"failed 5 times in a row, rests until {row['rests_until']}: answered 500"
    site.ok("request", "kessel.http", json.dumps(payload()))
    site.kessel("drain")
    assert len(receiver.received) == 5


def test_a_url_that_failed_is_listed_without_its_path_and_enabled_by_itself_or_its_key(
    site: Site, receiver: Receiver
) -> None:
    site.configure('[kessel.http]\nallow = ["hooks.invalid"]\nsecrets = ["env:BILLING"]\n')
    site.ok("request", "kessel.http", json.dumps(payload("https://hooks.invalid/hush")))
    site.ok("request", "kessel.http", json.dumps(payload("https://hooks.invalid/other")))
    site.kessel("drain")
    rows = site.endpoints()
    assert [row["place"] for row in rows.values()] == ["https://hooks.invalid"] * 2
    assert "hush" not in json.dumps(rows)
    site.ok("endpoints", "enable", "https://hooks.invalid/hush")
    (key,) = site.endpoints()
    site.ok("endpoints", "enable", key)
    assert site.endpoints() == {}


def test_test_sends_a_signed_event_whatever_is_known_of_the_endpoint(site: Site, receiver: Receiver) -> None:
    site.endpoint(f"http://127.0.0.1:{receiver.port}/")
    receiver.answer(410, 204)
    site.ok("request", "kessel.http", json.dumps(payload()))
    site.kessel("drain")
    place = f"endpoint 'billing' at http://127.0.0.1:{receiver.port}"
    assert site.ok("endpoints", "test", "billing") == f"{place} answered 204\n"
    got = receiver.received[-1]
    event = Webhook(NEW).verify(got.body, dict(got.headers))
    assert (event["type"], event["data"]) == ("kessel.test", {})
    assert site.endpoints()["billing"]["state"].startswith("disabled")


@pytest.mark.parametrize(
    ("answer", "says"), [(302, "answered 302"), (500, "answered 500"), (None, "Connection refused")]
)
def test_test_says_why_it_failed(site: Site, receiver: Receiver, answer: int | None, says: str) -> None:
    site.endpoint(f"http://127.0.0.1:{receiver.port}/hush")
    if answer is None:
        receiver.close_listener()
    else:
        receiver.answer(answer)
    done = site.kessel("endpoints", "test", "billing")
    assert done.code == 1
    assert done.err.startswith(f"error: endpoint 'billing' at http://127.0.0.1:{receiver.port}")
    assert says in done.err
    assert "hush" not in done.err
    assert site.endpoints()["billing"]["state"] == "ok"
    assert not (site.folder / "jobs.db").exists(), "what only looks makes no queue"


def test_the_list_needs_no_secrets_of_the_environment_and_test_names_those_that_are_missing(
    site: Site, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.endpoint(f"http://127.0.0.1:{receiver.port}/")
    monkeypatch.delenv("BILLING")
    assert site.endpoints()["billing"]["secrets"] == 2
    done = site.kessel("endpoints", "enable", "billing")
    assert (done.code, done.out) == (0, "")
    assert "billing: nothing is kept of endpoints, because there is no store yet" in done.err
    done = site.kessel("endpoints", "test", "billing")
    assert done.code == 2
    assert "kessel.toml: http.endpoints.billing.secrets[0]: the variable BILLING is not set" in done.err
    assert site.kessel("drain").code == 2


@pytest.mark.parametrize("command", ["test", "enable"])
def test_an_unknown_endpoint_is_named_with_those_that_there_are(
    site: Site, receiver: Receiver, command: str
) -> None:
    site.endpoint(f"http://127.0.0.1:{receiver.port}/")
    done = site.kessel("endpoints", command, "biling")
    assert done.code == 1
    assert "no endpoint 'biling' in [kessel.http.endpoints]; known: billing" in done.err


def test_mistakes_are_listed_with_file_and_key_and_without_secrets(site: Site) -> None:
    site.configure(
        '[kessel.http.endpoints.billing]\nurl = "http://a.example/"\n'
        f'secrets = ["{NEW[:24]}"]\nintrenal = true\n'
    )
    for command in (("endpoints", "list"), ("endpoints", "test", "billing"), ("drain",)):
        done = site.kessel(*command)
        assert done.code == 2
        assert (
            "kessel.toml: http.endpoints.billing.intrenal: unknown option; did you mean 'internal'?"
            in done.err
        )
        assert "kessel.toml: http.endpoints.billing.secrets[0]: must have 24 to 64 bytes" in done.err


def test_without_endpoints_the_list_says_where_to_add_them(site: Site) -> None:
    site.configure("")
    done = site.kessel("endpoints", "list")
    assert (done.code, done.out) == (0, "")
    assert "add them in [kessel.http.endpoints]" in done.err

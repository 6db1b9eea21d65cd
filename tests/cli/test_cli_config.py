"""`kessel config`: every value with its origin, and never a secret."""

from __future__ import annotations

from typing import Any

import pytest


def test_every_value_is_shown_with_its_origin(kessel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kessel.write("kessel.toml", "[kessel.worker]\nslots = 2\n")
    monkeypatch.setenv("KESSEL_WORKER_GRACE", "2m")
    shown = kessel.ok("config", "--json", "--log-level", "debug").json
    assert shown["file"] == "kessel.toml"
    options = shown["options"]
    assert options["worker.slots"] == {"value": 2, "origin": "kessel.toml"}
    assert options["worker.grace"] == {"value": "2m", "origin": "KESSEL_WORKER_GRACE"}
    assert options["logging.level"] == {"value": "debug", "origin": "--log-level"}
    assert options["jobs.max_attempts"] == {"value": 10, "origin": "default"}


def test_people_see_the_same(kessel: Any) -> None:
    kessel.write("kessel.toml", '[kessel.handlers]\n"a.b" = "m:f"\n')
    out = kessel.ok("config").out
    assert "file: kessel.toml" in out
    assert '{"a.b": "m:f"}' in out
    assert "(unset)" in out


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_date_or_time_of_the_file_is_shown(kessel: Any, flags: tuple[str, ...]) -> None:
    """A plugin may have an option for one: TOML has them, and JSON has not."""
    kessel.write("kessel.toml", "[kessel.tide]\nsince = 2026-01-31\nat = 07:32:00\n")
    out = kessel.ok("config", *flags).out
    assert '"since": "2026-01-31"' in out
    assert '"at": "07:32:00"' in out


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_secrets_are_never_printed(kessel: Any, flags: tuple[str, ...]) -> None:
    kessel.write(
        "kessel.toml",
        '[kessel]\nadapter = "beanstalk://me:hunter2@h:1"\n'
        '[kessel.adapter_options]\npassword = "hunter3"\nurl = "x://u:hunter4@h"\n'
        '[kessel.middleware_options.trace]\napi_token = "hunter5"\n',
    )
    out = kessel.ok("config", *flags).out
    assert "hunter" not in out
    assert "beanstalk://***@h:1" in out


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_key_that_signs_webhooks_is_hidden_under_any_name(kessel: Any, flags: tuple[str, ...]) -> None:
    kessel.write(
        "kessel.toml",
        '[kessel.http.endpoints]\nb = "whsec_hunter2"\nc = ["env:A", "whsec_hunter3"]\n'
        'd = " whsec_hunter4"\ne = "env:B,whsec_hunter5"\n',
    )
    out = kessel.ok("config", *flags).out
    assert "hunter" not in out
    assert "env:A" in out


def test_secret_in_a_url_is_not_repeated_in_an_error(kessel: Any, unreachable: None) -> None:
    done = kessel("stats", "--adapter", "moon://me:hunter2@h:99999")
    assert done.code == 2
    assert "hunter2" not in done.err

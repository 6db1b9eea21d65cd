"""One rule for what is secret, and one for what is printed: findings D8 and D10."""

from __future__ import annotations

import json
import time
from typing import Any

import attrs
import pytest

from kessel_core.cli.logs import HumanFormatter, JsonFormatter
from kessel_core.config.layers import load_config
from kessel_core.config.showing import shown
from kessel_core.errors import InvalidConfig
from kessel_core.plugins.loading import build_plugins
from kessel_core.values.options import structure_options
from kessel_core.values.printing import printable, printable_lines, traceback_text
from kessel_core.values.secrets import is_secret, quoted, redacted, without_secrets

#: The secret in all shapes of the table; also where it is cut in two by what stands in it.
SECRET = "hunter2"

SHAPES = {
    "beanstalk://me:hunter2@host:11300": "beanstalk://***@host:11300",
    "'beanstalk://me:hunter2@host:11300'": "'beanstalk://***@host:11300'",
    '"beanstalk://me:hunter2@host:11300"': '"beanstalk://***@host:11300"',
    "beanstalk://me:a/hunter2@host": "beanstalk://***@host",
    "beanstalk://me:a?hunter2@host": "beanstalk://***@host",
    "beanstalk://me:a#hunter2@host": "beanstalk://***@host",
    "beanstalk://me:a@hunter2@host": "beanstalk://***@host",
    "beanstalk://me:hunter2 hunter2@host": "beanstalk://***@host",
    "beanstalk://me:hunter2": "beanstalk://me:***",
    "beanstalk://me:hunter2%40host": "beanstalk://me:***",
    "beanstalk://me:hunter2%40host:11300": "beanstalk://me:***",
    "beanstalk://hunter2@host": "beanstalk://***@host",
    "beanstalk://hunter2/hunter2@host": "beanstalk://***@host",
    "beanstalk://hunter2:x-oauth-basic@host": "beanstalk://***@host",
    "beanstalk://:hunter2@[::1]:11300/": "beanstalk://***@[::1]:11300/",
    "beanstalk://[u:hunter2@host": "beanstalk://***@host",
    "x://h?passwd=hunter2&n=1": "x://h?passwd=***&n=1",
    "x://h?pwd=hunter2": "x://h?pwd=***",
    "x://h?auth=hunter2": "x://h?auth=***",
    "x://h?sig=hunter2": "x://h?sig=***",
    "x://h?credential=hunter2": "x://h?credential=***",
    "x://h?access_key=hunter2": "x://h?access_key=***",
    "x://h?private_key=hunter2;n=1": "x://h?private_key=***;n=1",
    "x://h?a=1&AccessKeyId=hunter2": "x://h?a=1&AccessKeyId=***",
    "x://h?Password=hunter2&SECRET=hunter2": "x://h?Password=***&SECRET=***",
    "x://h?%74oken=hunter2": "x://h?%74oken=***",
    "x://h/path?session_token=hunter2#hunter2": "x://h/path?session_token=***#***",
    "sqlite:///jobs.db?key=hunter2": "sqlite:///jobs.db?key=***",
    "me:hunter2@host": "***@host",
}

#: What no rule for secrets may change.
HARMLESS = (
    "sqlite:///kessel.db",
    "sqlite:////home/me@work/jobs.db?lease=60s",
    "beanstalk://localhost:11300?ttr=5m",
    "beanstalk://[::1]:11300/",
    "beanstalk://localhost",
    "memory://",
    "sqlite",
)


@pytest.mark.parametrize(("url", "expected"), SHAPES.items())
def test_finding_d10_secrets_of_an_address_are_hidden_in_every_shape(url: str, expected: str) -> None:
    assert redacted(url) == expected
    assert SECRET not in str(shown("adapter", url))
    assert SECRET not in quoted(url)
    assert SECRET not in quoted({"urls": [url]})


@pytest.mark.parametrize("url", HARMLESS)
def test_finding_d10_addresses_without_secrets_stay_as_they_are(url: str) -> None:
    assert redacted(url) == url
    assert without_secrets(f"at {url}, again") == f"at {url}, again"


@pytest.mark.parametrize("url", [url for url in SHAPES if "://" in url and " " not in url])
def test_finding_d10_addresses_inside_of_texts_are_hidden(url: str) -> None:
    assert SECRET not in without_secrets(f"cannot connect to {url}: refused")


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "passwd",
        "pwd",
        "db_pwd",
        "PGPASSWORD",
        "auth",
        "basic_auth",
        "Authorization",
        "sig",
        "signature",
        "credential",
        "credentials",
        "access_key",
        "accessKey",
        "private_key",
        "privateKeyPem",
        "api_key",
        "apikey",
        "key2",
        "token",
        "client_secret",
        "passphrase",
        "jwt",
        "cookie",
    ],
)
def test_finding_d10_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["author", "path", "lease", "keep", "compass", "design", "host", "user"])
def test_finding_d10_names_of_nothing_secret(name: str) -> None:
    assert not is_secret(name)


URL = "beanstalk://me:hunter2@host"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("KESSEL_WORKER_SLOTS", URL),
        ("KESSEL_WORKER_GRACE", URL),
        ("KESSEL_LOGGING_LEVEL", URL),
        ("KESSEL_LOGGING_JSON", URL),
        ("KESSEL_QUEUES", URL),
        ("KESSEL_QUEUES", f"{URL},{URL}"),
        ("KESSEL_HANDLERS", URL),
        ("KESSEL_CONFIG", URL),
        ("KESSEL_JOBS_DEFAULT_ERROR", URL),
    ],
)
def test_finding_d10_a_url_in_the_wrong_option_is_not_repeated(variable: str, value: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load_config(environ={variable: value})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", SHAPES)
def test_finding_d10_no_adapter_url_is_repeated_in_an_error(url: str) -> None:
    from kessel_core.errors import ConfigError

    try:
        build_plugins().chosen_adapter(url, {"no_such_option": 1})
    except ConfigError as exc:
        chain: BaseException | None = exc
        while chain is not None and not chain.__suppress_context__:
            assert SECRET not in str(chain)
            chain = chain.__cause__ or chain.__context__


@attrs.frozen
class Options:
    password: str = ""
    pin_key: int = attrs.field(default=1, validator=attrs.validators.lt(5))


def test_finding_d10_the_value_of_a_secret_option_is_not_repeated() -> None:
    with pytest.raises(InvalidConfig) as caught:
        structure_options(Options, {"password": 7654321, "pin_key": 7654321})
    assert "7654321" not in str(caught.value)
    assert "expected text" in str(caught.value)


@pytest.mark.parametrize("text", [f"{URL} {'x' * 100_000}", f"{'x' * 100_000} {URL}"], ids=["start", "end"])
def test_finding_d10_neither_end_of_a_long_traceback_shows_a_secret(text: str) -> None:
    shown = traceback_text((ValueError, ValueError(text), None))
    assert "beanstalk://***@host" in shown
    assert SECRET not in shown


# --- what is printed -------------------------------------------------------------------------------

TEXTS = {
    "\x1b[2J\x1b]0;owned\x07": r"\x1b[2J\x1b]0;owned\x07",
    "a\n12:30:01 ERROR forged": r"a\n12:30:01 ERROR forged",
    "a\rb": r"a\rb",
    "a\u2028b\u2029c\x85d": r"a\u2028b\u2029c\x85d",
    "user\u202eetxt.exe\u2066": r"user\u202eetxt.exe\u2066",
    "\udcff": r"\udcff",
    "\x9b2J": r"\x9b2J",
    "grün, 日本": "grün, 日本",
}


@pytest.mark.parametrize(("text", "expected"), TEXTS.items())
def test_finding_d8_what_is_printed_is_one_line_of_plain_characters(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_finding_d8_ten_megabytes_are_cut_before_they_cost_anything() -> None:
    start = time.perf_counter()
    for text in ("x" * 10_000_000, "\x1b" * 10_000_000, "://" * 3_000_000, "\n" * 10_000_000):
        assert len(printable(text)) <= 2000
        assert len(printable_lines(without_secrets(text))) < 250_000
        assert len(quoted(text)) <= 60
    assert time.perf_counter() - start < 5


class Teller(Exception):
    """Tells what it was given."""


def _record(error: BaseException) -> Any:
    import logging

    try:
        raise error
    except BaseException as exc:
        return logging.makeLogRecord(
            {"msg": "job failed", "levelname": "ERROR", "exc_info": (type(exc), exc, exc.__traceback__)}
        )


def test_finding_d8_a_traceback_forges_no_record_and_moves_no_cursor() -> None:
    forged = "12:30:01.000 INFO    kessel.jobs: job 1 success"
    text = HumanFormatter().format(_record(Teller(f"no\n{forged}\n\x1b[2J{URL}")))
    first, *rest = text.split("\n")
    assert "job failed" in first
    assert all(line.startswith("  | ") for line in rest)
    assert "\x1b" not in text
    assert SECRET not in text


def test_finding_d8_ten_megabytes_of_traceback_are_cut_in_text_and_in_json() -> None:
    record = _record(Teller("x" * 10_000_000))
    assert len(HumanFormatter().format(record)) < 50_000
    line = JsonFormatter().format(record)
    assert len(line) < 50_000
    assert "Teller" in json.loads(line)["exception"]


def test_finding_d8_an_error_that_cannot_be_written_is_named() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "Mute" in traceback_text((Mute, Mute(), None))

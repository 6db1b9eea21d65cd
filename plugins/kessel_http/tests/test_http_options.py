"""The section `[kessel.http]`: every mistake at start and at once, and no secret anywhere."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import attrs
import pytest
from kessel_http.delivery import TYPE
from kessel_http.options import EndpointOptions, HttpOptions

from kessel_core import Config, InvalidConfig, JobManager
from kessel_core.contract import Buried, need
from kessel_core.testing import run_until_idle

from .conftest import NEW, OLD, Application, Receiver, endpoint, payload

Connect = Callable[..., Application]
URL = "https://hooks.example.org/kessel"


def mistakes(connect: Connect, section: Any, **more: Any) -> dict[str, str]:
    with pytest.raises(InvalidConfig) as error:
        connect(section, **more)
    return {problem.path.removeprefix("sections.http."): problem.message for problem in error.value.problems}


def test_every_mistake_is_listed_at_once(application: Connect) -> None:
    found = mistakes(
        application,
        {
            "allow": ["hooks.example.org", "https://x.example/", "*.org"],
            "secrets": ["env:A-B"],
            "ports": [443, 0, 70_000],
            "plain_http": "perhaps",
            "timeout": "10m",
            "timeuot": "10s",
            "endpoints": {
                "billing": {"url": "https://user:hush@hooks.example.org/", "secrets": ["hush", NEW]},
                "empty": {},
                "plain": {"url": "http://hooks.example.org/", "secrets": [NEW]},
                "inside": {"url": "https://10.0.0.7/kessel", "secrets": [NEW]},
                "none": {"url": URL, "secrets": []},
                "odd": {"url": URL, "secret": [NEW], "internal": "perhaps"},
                "flat": URL,
            },
        },
    )
    assert found == {
        "allow[1]": "must be a host such as hooks.example.org, or *.example.org, without scheme and path",
        "allow[2]": "what follows *. must be a domain such as example.org",
        "secrets[0]": "what follows env: must be the name of a variable, in capitals",
        "ports[1]": "expected 1 to 65535, got 0",
        "ports[2]": "expected 1 to 65535, got 70000",
        "plain_http": "expected true or false, got 'perhaps'",
        "timeout": "expected 1s to 5m, got 600s",
        "timeuot": "unknown option; did you mean 'timeout'?",
        "endpoints.billing.url": "must not hold a user or a password",
        "endpoints.billing.secrets[0]": "must begin with whsec_, or with env: and the name of a variable",
        "endpoints.empty.url": "is required",
        "endpoints.empty.secrets": "is required",
        "endpoints.plain.url": "must be https, or internal = true",
        "endpoints.inside.url": "must not lead to 10.0.0.7 (private), or internal = true",
        "endpoints.none.secrets": "needs at least one",
        "endpoints.odd.secret": "unknown option; did you mean 'secrets'?",
        "endpoints.odd.secrets": "is required",
        "endpoints.odd.internal": "expected true or false, got 'perhaps'",
        "endpoints.flat": "expected a table, got str",
    }


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "a/b", "a:b", "//x", "a" * 65, "\u00fc"])
def test_the_name_of_an_endpoint_can_stand_in_a_callback(application: Connect, name: str) -> None:
    (why,) = mistakes(application, {"endpoints": {name: {"url": URL, "secrets": [NEW]}}}).values()
    assert why.startswith("the name of an endpoint is 1 to 64 letters")


def test_names_of_endpoints_of_every_allowed_kind_are_taken(application: Connect) -> None:
    names = ["a", "Billing-2", "a.b_c", "0", "a" * 64]
    application({"endpoints": {name: {"url": URL, "secrets": [NEW]} for name in names}})


def test_allowed_hosts_need_a_secret(application: Connect) -> None:
    found = mistakes(application, {"allow": ["hooks.example.org"]})
    assert found == {"secrets": "needs at least one, because allow is not empty"}


def test_every_missing_variable_is_named_at_start_where_jobs_run(application: Connect) -> None:
    section = {
        "allow": ["hooks.example.org"],
        "secrets": ["env:COMMON"],
        "endpoints": {
            "billing": {"url": URL, "secrets": ["env:BILLING_NEW", NEW, "env:BILLING_OLD"]},
            "stock": {"url": URL, "secrets": ["env:STOCK"]},
        },
    }
    found = mistakes(application, section, environ={"STOCK": "whsec_aHVzaA==", "BILLING_OLD": OLD})
    assert found == {
        "secrets[0]": "the variable COMMON is not set",
        "endpoints.billing.secrets[0]": "the variable BILLING_NEW is not set",
        "endpoints.stock.secrets[0]": "the variable STOCK: must have 24 to 64 bytes behind whsec_, has 4",
    }
    assert application(section, only_requests=True).http.options.secrets == ("env:COMMON",)


def test_the_defaults_allow_nothing(application: Connect) -> None:
    options = application({}).http.options
    assert options == HttpOptions()
    assert (options.allow, options.endpoints, options.plain_http) == ((), {}, False)
    assert (options.ports, options.timeout) == ((443,), timedelta(seconds=20))


@pytest.mark.parametrize(
    ("option", "given", "read"),
    [
        ("timeout", "1s", timedelta(seconds=1)),
        ("timeout", "5m", timedelta(minutes=5)),
        ("timeout", 30, timedelta(seconds=30)),
        ("ports", [443, 8443], (443, 8443)),
        ("plain_http", True, True),
    ],
)
def test_each_option_is_read(application: Connect, option: str, given: Any, read: Any) -> None:
    assert getattr(application({option: given}).http.options, option) == read


def test_the_timeout_is_that_of_a_call(application: Connect, raw: Any) -> None:
    def silent(made: Any) -> None:
        made.recv(1)
        made.settimeout(10)
        while made.recv(65_536):
            pass

    app = application(endpoint(raw(silent)) | {"timeout": "1s"})
    result = app.manager.process_single_job(TYPE, payload())
    assert result.message == "endpoint 'billing': no answer within 1 s"


# --- secrets ------------------------------------------------------------------------------------------------

#: What must be nowhere: parts of secrets in each of the forms that they have.
HUSHED = (NEW[6:20], OLD[6:20], "new-new-new", "old-old-old")
#: What stands for a secret in configurations that are wrong in some way.
WRONG: list[Any] = [
    NEW,
    {NEW: 1},
    {"a": NEW},
    [[NEW]],
    [{"a": NEW}],
    [NEW + "!"],
    [NEW[:20]],
    [NEW.removeprefix("whsec_")],
    [NEW.replace("whsec_", "whsk_")],
    [NEW * 3],
    ["env:" + NEW],
    ["env:" + NEW.removeprefix("whsec_")],
    [NEW, 7],
]


@pytest.mark.parametrize("wrong", WRONG, ids=[str(number) for number in range(len(WRONG))])
@pytest.mark.parametrize("place", ["section", "endpoint"])
def test_s23_no_part_of_a_wrong_secret_is_in_an_error(application: Connect, wrong: Any, place: str) -> None:
    section: dict[str, Any] = {"allow": ["a.example"], "secrets": [NEW], "endpoints": {}}
    if place == "section":
        section["secrets"] = wrong
    else:
        section["endpoints"] = {"billing": {"url": URL, "secrets": wrong}}
    try:
        shown = repr(application(section).http.options)
    except InvalidConfig as exc:
        shown = "".join(traceback.format_exception(exc)) + repr(exc.problems)
    assert not [part for part in HUSHED if part in shown]


def test_s23_secrets_are_in_no_repr_log_result_body_or_entry(
    application: Connect, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    app = application(endpoint(receiver, secrets=[NEW, "env:OLD"]), environ={"OLD": OLD})
    receiver.answer(500, 302, 410)
    app.manager.request(TYPE, payload())
    results = run_until_idle(app.manager)
    found = app.http.endpoints.named("billing")
    shown = [
        repr(app.http.options),
        repr(app.http),
        repr(found),
        repr(results),
        caplog.text,
        repr([vars(record) for record in caplog.records]),
        repr(need(app.manager.adapter, Buried).buried("default")),
        repr(app.manager.store.scan("http.endpoints")),
        repr(receiver.received),
    ]
    assert len(results) == 3
    for text in shown:
        assert not [part for part in HUSHED if part in text], text[:200]


def test_s23_a_url_with_a_secret_in_its_path_is_in_no_repr_log_or_result(
    application: Connect, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"http://127.0.0.1:{receiver.port}/hush-hush?key=hush-hush"
    app = application(endpoint(receiver, url=url))
    receiver.answer(500, 410)
    app.manager.request(TYPE, payload())
    results = run_until_idle(app.manager)
    for text in (
        repr(app.http.options),
        repr(app.http.endpoints.named("billing")),
        repr(results),
        caplog.text,
    ):
        assert "hush" not in text
    assert "hush" in receiver.received[0].path


@pytest.mark.parametrize("wrong", [["https://a.example/hush"], {"a": "https://a.example/hush"}, b"hush"])
def test_s23_a_url_of_another_type_is_named_without_what_it_holds(application: Connect, wrong: Any) -> None:
    section = {"endpoints": {"billing": {"url": wrong, "secrets": [NEW]}}}
    found = mistakes(application, section)
    assert found == {"endpoints.billing.url": f"expected text, got {type(wrong).__name__}"}


def test_s23_the_options_show_no_secret_and_compare_by_them() -> None:
    one = EndpointOptions(url=URL, secrets=(NEW,))
    assert "whsec" not in repr(one)
    assert one != attrs.evolve(one, secrets=(OLD,))


def test_a_configuration_in_code_is_checked_as_one_in_a_file() -> None:
    with pytest.raises(InvalidConfig, match=r"sections\.http\.endpoints\.billing\.url"):
        JobManager(
            "memory://", config=Config(sections={"http": {"endpoints": {"billing": {"url": 3}}}})
        ).connect()

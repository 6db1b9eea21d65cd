"""S23: signatures by Standard Webhooks 1.0.0, verified by its own library; secrets stay secret."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kessel_http.signing import header_id, read_secret, secret_problem, signed_headers
from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def whsec(length: int) -> str:
    return "whsec_" + base64.b64encode(b"\xfb\xff" * length)[: (length * 4 + 2) // 3].decode()


@given(
    st.binary(min_size=24, max_size=64),
    st.binary(min_size=24, max_size=64),
    st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3),
)
def test_s23_every_current_secret_verifies_the_exact_bytes(new: bytes, old: bytes, value: object) -> None:
    texts = ["whsec_" + base64.b64encode(key).decode() for key in (new, old)]
    body = json.dumps(value, ensure_ascii=False).encode()
    now = int(datetime.now(UTC).timestamp())
    headers = signed_headers(str(uuid4()), now, body, [read_secret(text, {}) for text in texts])
    for text in texts:
        assert Webhook(text).verify(body, headers) == value
    with pytest.raises(WebhookVerificationError):
        Webhook(texts[0]).verify(body + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(texts[0]).verify(body, headers | {"webhook-id": "other"})
    with pytest.raises(WebhookVerificationError):
        Webhook(texts[0]).verify(body, headers | {"webhook-timestamp": str(now + 1)})
    with pytest.raises(WebhookVerificationError):
        Webhook(whsec(32)).verify(body, headers)


def test_s23_the_signature_is_that_of_the_example_of_the_standard() -> None:
    """https://www.standardwebhooks.com, as its libraries test it."""
    secret = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", {})
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', [secret])
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


@pytest.mark.parametrize("length", [24, 25, 26, 32, 63, 64])
def test_s23_a_secret_of_24_to_64_bytes_is_taken_with_and_without_padding(length: int) -> None:
    bare = whsec(length)
    padded = bare + "=" * (-(len(bare) - 6) % 4)
    assert secret_problem(bare) is None
    assert secret_problem(padded) is None
    assert read_secret(bare, {}).signature(b"x") == read_secret(padded, {}).signature(b"x")


WRONG = {
    "": "must begin with whsec_",
    "hush-hush-hush": "must begin with whsec_",
    "WHSEC_aHVzaC1odXNoLWh1c2gtaHVzaC1odXNo": "must begin with whsec_",
    "whsk_aHVzaC1odXNoLWh1c2gtaHVzaC1odXNo": "asymmetric",
    "whsec_": "24 to 64 bytes behind whsec_, has 0",
    "whsec_aHVzaC1odXNo": "24 to 64 bytes behind whsec_, has 9",
    whsec(23): "has 23",
    whsec(65): "has 65",
    "whsec_hush-hush-hush-hush-hush-hush-hush": "must be base64",
    "whsec_hush hush hush hush hush hush hush": "must be base64",
    "whsec_aHVzaC1odXNoLWh1c2gtaHVzaC1odXNoh": "must be base64",
    "whsec_\u00fc" + "a" * 40: "must be base64",
}


@pytest.mark.parametrize(("text", "why"), WRONG.items())
@pytest.mark.parametrize("variable", [False, True])
def test_s23_what_is_wrong_with_a_secret_is_said_without_it(text: str, why: str, variable: bool) -> None:
    if variable and not text:
        why = "is not set"
    if not variable:
        assert why in str(secret_problem(text))
    with pytest.raises(ValueError, match=why) as error:
        read_secret("env:HOOK" if variable else text, {"HOOK": text})
    assert str(error.value).startswith("the variable HOOK") == variable
    behind = text.removeprefix("whsec_").removeprefix("whsk_")
    assert not behind or behind[:8] not in str(error.value)


@pytest.mark.parametrize("text", ["env:", "env:A-B", "env:1A", "env: A", "env:a", "env:whsec_x="])
def test_s23_a_secret_of_the_environment_names_a_variable(text: str) -> None:
    assert secret_problem(text) == "what follows env: must be the name of a variable, in capitals"


def test_s23_a_missing_variable_is_named() -> None:
    assert secret_problem("env:HOOK_1") is None
    with pytest.raises(ValueError, match="the variable HOOK_1 is not set"):
        read_secret("env:HOOK_1", {})


def test_s23_the_repr_of_a_secret_shows_nothing_of_it() -> None:
    assert repr(read_secret(whsec(32), {})) == "Secret()"


@given(st.text(min_size=1, max_size=30))
def test_s23_an_id_that_cannot_stand_in_a_header_is_replaced_by_one_made_of_it(text: str) -> None:
    made = header_id(text)
    assert made == header_id(text)
    assert made.isascii()
    assert "." not in made
    assert made == text or UUID(made)


def test_s23_an_id_of_a_callback_job_is_sent_unchanged() -> None:
    for text in (str(uuid4()), "0198c0de", "a_b-C" * 40):
        assert header_id(text) == text
    assert header_id("a.b") != header_id("a.c")

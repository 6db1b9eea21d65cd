"""What adapters may read of a body (X5): it means what the whole body means, whatever its form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kessel_core.contract import Head, head_of
from kessel_core.errors import DecodeError
from kessel_core.wire.requests import decode

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DEFAULTS: dict[str, Any] = {"id": "", "priority": 65536, "queue": "default"}
#: Keys of the head, words that look like them within a payload, and others.
WORDS = ["id", "type", "priority", "queue", '"id":"x"', '{"v":1,"id":"', "payload", "v", "headers", "x"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**33) | st.sampled_from(WORDS) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4),
    max_leaves=12,
)


def by_full_parse(text: str) -> Head | None:
    """Return the head as the standard library's own reader would have it."""
    try:
        fields = json.loads(
            text
        )  # which, unlike a body's reader, would take a byte order mark away from bytes
    except ValueError:
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str) or not fields["type"].strip():
        return None
    found = {key: fields[key] if fields.get(key) is not None else value for key, value in DEFAULTS.items()}
    if not isinstance(found["id"], str) or not isinstance(found["queue"], str):
        return None
    if type(found["priority"]) is not int:
        return None
    priority = min(max(found["priority"], 0), 4294967295)
    return Head(found["id"], fields["type"].strip(), priority, found["queue"] or "default")


@given(
    st.dictionaries(st.sampled_from(WORDS), VALUES),
    st.sampled_from(["t", " mail.send ", "ü", "\\u0069d", None, 5]),
    st.randoms(use_true_random=False),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
    st.sampled_from(["", " ", "\r\n\t", ",", "}", "{}", "\ufeff"]),
)
def test_x5_the_head_is_what_a_full_parse_says_for_any_order_blanks_and_look_alikes(
    fields: dict[str, Any], kind: object, dice: Any, indent: Any, ascii_only: bool, edge: str
) -> None:
    pairs = [*fields.items(), ("type", kind)]
    dice.shuffle(pairs)
    written = json.dumps(dict(pairs), indent=indent, ensure_ascii=ascii_only)
    for text in (written, edge + written, written + edge, written[: len(written) // 2]):
        assert head_of(text.encode()) == by_full_parse(text)


@given(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["t", " mail.send ", "ü"])},
        optional={
            "v": st.just(1),
            "id": st.none() | st.text("ab-\u00fc", max_size=5),
            "priority": st.none() | st.integers(-5, 2**33),
            "queue": st.none() | st.sampled_from(["", "default", "mails"]),
            "payload": VALUES,
            "x": VALUES,
        },
    ),
    st.randoms(use_true_random=False),
)
def test_x5_the_head_of_every_body_that_decode_takes_is_what_decode_says(
    fields: dict[str, Any], dice: Any
) -> None:
    pairs = list(fields.items())
    dice.shuffle(pairs)
    body = json.dumps(dict(pairs)).encode()
    try:
        job = decode(body)
    except DecodeError:  # two look-alike keys of a payload may be the same
        return
    assert head_of(body) == (job.id, job.type, job.priority, job.queue)


@given(st.binary())
def test_any_bytes_have_a_head_or_none(body: bytes) -> None:
    head_of(body)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[1]", b"5", b"\xff", b"{", b'{"type": 1}', b'{"type": " "}', b'{"id": "a"}',
        b'{"type": "t", "id": 5}', b'{"type": "t", "priority": true}', b'{"type": "t", "priority": 1.0}',
        b'{"type": "t", "queue": []}', b'{"type": "t"} x', b'\xef\xbb\xbf{"type": "t"}', b"[" * 100_000,
        b'{"type": "t", "payload": ' + b"9" * 10_000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_request_has_no_head(body: bytes) -> None:
    assert head_of(body) is None


def test_a_key_that_comes_again_behind_the_payload_counts_as_it_does_for_a_full_parse() -> None:
    body = b'{"v":1,"id":"a","type":"t","priority":5,"payload":null,"\\u0069d":"b"}'
    assert head_of(body) == Head("b", "t", 5, "default")

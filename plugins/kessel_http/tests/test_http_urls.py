"""S24: URLs are read strictly, and only hosts on the list are admitted."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kessel_http.urls import LONGEST, admits, pattern_problem, read_url

MAPPED = IPv6Address("::ffff:1.2.3.4")
READ = {
    "https://hooks.example.org": ("https", "hooks.example.org", 443, "/", "hooks.example.org"),
    "HTTPS://Hooks.Example.ORG/A?b=C": ("https", "hooks.example.org", 443, "/A?b=C", "hooks.example.org"),
    "https://hooks.example.org:8443/a": ("https", "hooks.example.org", 8443, "/a", "hooks.example.org:8443"),
    "https://hooks.example.org:443/": ("https", "hooks.example.org", 443, "/", "hooks.example.org"),
    "http://hooks.example.org?x=1": ("http", "hooks.example.org", 80, "/?x=1", "hooks.example.org"),
    "http://hooks.example.org:443/": ("http", "hooks.example.org", 443, "/", "hooks.example.org:443"),
    "https://203.0.113.7/": ("https", "203.0.113.7", 443, "/", "203.0.113.7"),
    "https://[2001:DB8::1]:8443/x": ("https", "2001:db8::1", 8443, "/x", "[2001:db8::1]:8443"),
    # Written in one way or the other, by the version of Python.
    "https://[::ffff:1.2.3.4]/": ("https", f"{MAPPED}", 443, "/", f"[{MAPPED}]"),
    "https://my_service/x": ("https", "my_service", 443, "/x", "my_service"),
    "https://xn--bcher-kva.example/": ("https", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example"),
    "https://1e100.example/": ("https", "1e100.example", 443, "/", "1e100.example"),
}
REFUSED = {
    "hooks.example.org": "absolute URL",
    "//hooks.example.org/": "absolute URL",
    "https:/hooks.example.org/": "absolute URL",
    "": "absolute URL",
    "ftp://hooks.example.org/": "scheme",
    "file:///etc/passwd": "scheme",
    "gopher://127.0.0.1:70/": "scheme",
    "https://": "must name a host",
    "https:///x": "must name a host",
    "https://user@hooks.example.org/": "user or a password",
    "https://user:hush@hooks.example.org/": "user or a password",
    "https://hooks.example.org@127.0.0.1/": "user or a password",
    "https://hooks.example.org\\@127.0.0.1/": "user or a password",
    "https://hooks.example.org\\.evil.example/": "backslash",
    "https://hooks.example.org/a\\b": "backslash",
    "https://hooks.example.org/#a": "fragment",
    "https://hooks.example.org#@127.0.0.1/": "user or a password",
    "https://hooks.example.org/a b": "ASCII",
    "https://hooks.example.org/a\r\nX-Evil: 1": "ASCII",
    "https://hooks.example.org\t/": "ASCII",
    "https://hooks.example.org\x00/": "ASCII",
    "https://b\u00fccher.example/": "ASCII",
    "https://\u2460\u2461\u2466.0.0.1/": "ASCII",
    "https://127.1/": "four decimal numbers",
    "https://0/": "four decimal numbers",
    "https://2130706433/": "four decimal numbers",
    "https://0x7f000001/": "four decimal numbers",
    "https://0x7F.1/": "four decimal numbers",
    "https://0177.0.0.1/": "four decimal numbers",
    "https://127.0.0.01/": "four decimal numbers",
    "https://1.2.3.4.5/": "four decimal numbers",
    "https://256.1.1.1/": "four decimal numbers",
    "https://example.0x1/": "four decimal numbers",
    "https://[::1/": "brackets",
    "https://[::1]x/": "brackets",
    "https://[nonsense]/": "brackets",
    "https://[1.2.3.4]/": "brackets",
    "https://[fe80::1%25eth0]/": "zone",
    "https://[fe80::1%3]/": "zone",
    "https://::1/": "port",
    "https://hooks.example.org:/": "port",
    "https://hooks.example.org:0/": "port",
    "https://hooks.example.org:65536/": "port",
    "https://hooks.example.org:080/": "port",
    "https://hooks.example.org:443x/": "port",
    "https://hooks.example.org:+443/": "port",
    "https://hooks.example.org./": "letters, digits",
    "https://hooks..example.org/": "letters, digits",
    "https://-hooks.example.org/": "letters, digits",
    "https://hooks-.example.org/": "letters, digits",
    "https://hooks.example.org%2e/": "letters, digits",
    f"https://{'a' * 64}.example/": "letters, digits",
    f"https://{'a.' * 127}example/": "letters, digits",
    f"https://hooks.example.org/{'a' * LONGEST}": "characters",
}


@pytest.mark.parametrize(("text", "parts"), READ.items())
def test_s24_url_is_read_in_its_parts(text: str, parts: tuple[object, ...]) -> None:
    url = read_url(text)
    assert (url.scheme, url.host, url.port, url.target, url.authority) == parts
    assert url.place == f"{url.scheme}://{url.authority}"


@pytest.mark.parametrize(("text", "why"), REFUSED.items(), ids=[repr(text)[:40] for text in REFUSED])
def test_s24_url_that_can_be_read_in_two_ways_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_url(text)


@pytest.mark.parametrize("text", [*READ, *REFUSED])
def test_s23_what_is_wrong_with_a_url_and_how_it_is_shown_has_no_path_user_or_password(text: str) -> None:
    secret = text.replace("org/", "org/hush").replace("x=1", "x=hush").replace("user", "hush")
    try:
        shown = repr(read_url(secret))
    except ValueError as exc:
        shown = str(exc)
    assert "hush" not in shown


@given(st.text(max_size=60).map(lambda text: f"https://{text}"))
def test_s24_any_text_is_read_or_refused_with_a_value_error(text: str) -> None:
    try:
        url = read_url(text)
    except ValueError:
        return
    assert read_url(f"{url.place}{url.target}") == url


@pytest.mark.parametrize(
    ("pattern", "url", "expected"),
    [
        ("hooks.example.org", "https://hooks.example.org/", True),
        ("Hooks.Example.org", "https://hooks.EXAMPLE.org/", True),
        ("hooks.example.org", "https://hooks.example.org.evil.example/", False),
        ("hooks.example.org", "https://a.hooks.example.org/", False),
        ("hooks.example.org", "https://xhooks.example.org/", False),
        ("*.partner.example", "https://a.partner.example/", True),
        ("*.partner.example", "https://a.b.partner.example/", True),
        ("*.partner.example", "https://partner.example/", False),
        ("*.partner.example", "https://xpartner.example/", False),
        ("*.partner.example", "https://partner.example.evil.example/", False),
        ("203.0.113.7", "https://203.0.113.7/", True),
        ("[2001:db8::1]", "https://[2001:0db8::0001]/", True),
        ("[2001:db8::1]", "https://[2001:db8::2]/", False),
        ("*.0.113.7.example", "https://203.0.113.7/", False),
    ],
)
def test_s24_only_hosts_on_the_list_are_admitted(pattern: str, url: str, expected: bool) -> None:
    assert pattern_problem(pattern) is None
    assert admits([pattern], read_url(url)) is expected
    assert admits(["other.example", pattern], read_url(url)) is expected
    assert not admits([], read_url(url))


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "*", "*.", "*.org", "a.*.example", "*.1.2.3.4", "127.1", "a b", "b\u00fccher.example"),
        *("https://hooks.example.org", "hooks.example.org/x", "hooks.example.org:443"),
    ],
)
def test_s24_an_entry_of_the_list_that_is_no_host_is_refused(pattern: str) -> None:
    assert pattern_problem(pattern)

"""The URL of an adapter is split in one way, whatever its hosts."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kessel_core.contract import split_url


@pytest.mark.parametrize(
    "hosts", ["s1,[::1]:7", "[::1]:7,s1", "s1,s2:5,[::1]:7", "u:p%40@[::1],[::2]:8", "u:p,[@h"]
)
def test_several_hosts_may_have_addresses_in_brackets_on_every_python(hosts: str) -> None:
    found = split_url(f"redis+sentinel://{hosts}/shop/2?lease=5s#x")
    assert found == SplitResult("redis+sentinel", hosts, "/shop/2", "lease=5s", "x")
    assert split_url(f"redis://{hosts}?lease=5s") == SplitResult("redis", hosts, "", "lease=5s", "")
    assert split_url(f"REDIS://{hosts}") == SplitResult("redis", hosts, "", "", "")


@given(st.text("ab:/?#@,%[] .1", max_size=20))
def test_any_other_text_is_split_as_python_does(rest: str) -> None:
    for text in (f"sqlite://{rest}", rest):
        netloc = rest.partition("://")[2] if text is rest else rest
        if {",", "["} <= set(netloc):
            continue
        try:
            expected = urlsplit(text)
        except ValueError:
            with pytest.raises(ValueError, match=r"."):
                split_url(text)
        else:
            assert split_url(text) == expected

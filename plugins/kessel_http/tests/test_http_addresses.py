"""S24: which addresses a URL that came with a request may lead to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kessel_http.addresses import refusal

REFUSED = {
    "0.0.0.0": "this host",
    "10.1.2.3": "private",
    "100.64.0.1": "shared by a provider",
    "100.100.100.200": "shared by a provider",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "the host service of a cloud",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.8": "reserved for protocols",
    "192.0.2.1": "reserved for documentation",
    "192.88.99.1": "a relay of 6to4",
    "192.168.1.1": "private",
    "198.18.0.1": "reserved for benchmarks",
    "198.19.255.255": "reserved for benchmarks",
    "198.51.100.7": "reserved for documentation",
    "203.0.113.7": "reserved for documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "this host",
    "::1": "loopback",
    "::127.0.0.1": "v4-compatible",
    "::8.8.8.8": "v4-compatible",
    "::ffff:127.0.0.1": "mapped of 127.0.0.1, loopback",
    "::ffff:169.254.169.254": "mapped of 169.254.169.254, link-local",
    "::ffff:0:127.0.0.1": "not given out to be reached",
    "64:ff9b::7f00:1": "NAT64 of 127.0.0.1, loopback",
    "64:ff9b::a00:1": "NAT64 of 10.0.0.1, private",
    "64:ff9b:1::808:808": "translated for a private network",
    "100::1": "discarded",
    "2001::1": "Teredo",
    "2001:0:808:808::f7f7:f7f7": "Teredo",
    "2001:2::1": "reserved for protocols",
    "2001:20::1": "reserved for protocols",
    "2001:db8::1": "reserved for documentation",
    "2002:7f00:1::": "6to4",
    "2002:808:808::1": "6to4",
    "3fff::1": "reserved for documentation",
    "4000::1": "not given out to be reached",
    "5f00::1": "not given out to be reached",
    "fc00::1": "private",
    "fd00:ec2::254": "private",
    "fe80::1": "link-local",
    "fe80::1%3": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
}
ALLOWED = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2000::",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700:4700::1111",
    "3ffe::1",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
)


@pytest.mark.parametrize(("address", "why"), REFUSED.items())
def test_s24_address_is_refused_by_name(address: str, why: str) -> None:
    assert refusal(ip_address(address)) == why


@pytest.mark.parametrize("address", ALLOWED)
def test_s24_public_address_is_allowed_up_to_the_edges_of_what_is_not(address: str) -> None:
    assert refusal(ip_address(address)) is None


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_s24_what_python_does_not_call_global_is_refused(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        assert refusal(address) is not None


@given(st.one_of(st.integers(0, 2**128 - 1), st.integers(0x2000 << 112, 0x4000 << 112)).map(IPv6Address))
def test_s24_what_python_does_not_call_global_is_refused_of_ipv6_as_well(address: IPv6Address) -> None:
    if not address.is_global or address.is_multicast or address.is_site_local:
        assert refusal(address) is not None


@given(st.integers(0, 2**32 - 1).map(IPv4Address), st.sampled_from(["::ffff:0:0", "64:ff9b::"]))
def test_s24_a_translated_address_is_judged_by_what_it_leads_to(inside: IPv4Address, prefix: str) -> None:
    address = IPv6Address(int(IPv6Address(prefix)) | int(inside))
    assert (refusal(address) is None) == (refusal(inside) is None)

"""Which addresses a URL that came with a request may lead to (S24). A table and two functions, pure.

The networks are those of the IANA registries of special-purpose addresses (RFC 6890 and its updates), and
what clouds answer metadata on. `ipaddress.is_global` is not asked: it differs between versions of Python,
and calls some translated addresses global.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

__all__ = ["refusal"]

#: Network -> what it is, for messages.
_REFUSED_V4: Final = {
    IPv4Network(network): what
    for network, what in {
        "0.0.0.0/8": "this host",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by a provider",
        "127.0.0.0/8": "loopback",
        "168.63.129.16/32": "the host service of a cloud",
        "169.254.0.0/16": "link-local",
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "reserved for protocols",
        "192.0.2.0/24": "reserved for documentation",
        "192.88.99.0/24": "a relay of 6to4",
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "reserved for benchmarks",
        "198.51.100.0/24": "reserved for documentation",
        "203.0.113.0/24": "reserved for documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",
    }.items()
}

#: Of IPv6 only what is given out to be reached is allowed ...
_GIVEN_OUT: Final = IPv6Network("2000::/3")
#: ... without these parts of it. 6to4 and Teredo lead through relays that nobody answers for.
_REFUSED_V6: Final = {
    IPv6Network(network): what
    for network, what in {
        "2001::/32": "Teredo",
        "2001::/23": "reserved for protocols",
        "2001:db8::/32": "reserved for documentation",
        "2002::/16": "6to4",
        "3fff::/20": "reserved for documentation",
    }.items()
}
#: For messages: what is not given out.
_NAMED_V6: Final = {
    IPv6Network(network): what
    for network, what in {
        "::1/128": "loopback",
        "::/128": "this host",
        "::/96": "v4-compatible",
        "fc00::/7": "private",
        "fe80::/10": "link-local",
        "fec0::/10": "site-local",
        "ff00::/8": "multicast",
        "100::/64": "discarded",
        "64:ff9b:1::/48": "translated for a private network",
    }.items()
}
#: Prefixes whose last 32 bits are the IPv4 address that packets end at, and what they are called.
_TRANSLATED: Final = {
    IPv6Network("::ffff:0:0/96"): "mapped",
    IPv6Network("64:ff9b::/96"): "NAT64",
}


def refusal(address: IPv4Address | IPv6Address) -> str | None:
    """Return why a URL that came with a request must not lead to an address, or None if it may.

    An address that stands for an IPv4 address (mapped, or translated by NAT64, as name servers of networks
    without IPv4 answer) is judged by that one. The other forms of translation, 6to4, Teredo and v4-compatible
    addresses, are refused whatever they stand for.

    Args:
        address: Of a name, or written in the URL; a zone of IPv6 does not matter.

    Returns:
        What the address is, in a few words, such as `loopback` or `NAT64 of 10.0.0.1, private`.
    """
    if isinstance(address, IPv4Address):
        return _what(address, _REFUSED_V4)
    inside = IPv4Address(int(address) & 0xFFFF_FFFF)
    for network, form in _TRANSLATED.items():
        if address in network:
            what = _what(inside, _REFUSED_V4)
            return what and f"{form} of {inside}, {what}"
    if address in _GIVEN_OUT:
        return _what(address, _REFUSED_V6)
    return _what(address, _NAMED_V6) or "not given out to be reached"


def _what(address: object, networks: dict[IPv4Network, str] | dict[IPv6Network, str]) -> str | None:
    return next((what for network, what in networks.items() if address in network), None)

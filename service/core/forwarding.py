"""Who is behind a reverse proxy: whose word counts for that, and how far."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Ip = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_MOST_HOPS = 50
_LONGEST_HOP = 64
_HIGHEST_PORT = 65_535
_MAPPED_BITS = 96
_HOP = re.compile(
    r"(?:(?P<v4>[0-9.]+)|\[(?P<boxed>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<bare>[0-9A-Fa-f:.]+)"
)


def network(text: str) -> Network:
    """The network, or the one address, that stands there. Raises ValueError.

    One that holds every address is refused: whoever connects could be whoever they say.
    """
    found = ip_network(text)
    start = found.network_address
    if isinstance(start, IPv6Address) and start.scope_id is not None:
        raise ValueError("a zone is known to one machine only")
    if isinstance(start, IPv6Address) and start.ipv4_mapped and found.prefixlen >= _MAPPED_BITS:
        found = IPv4Network((start.ipv4_mapped, found.prefixlen - _MAPPED_BITS))
    if found.prefixlen == 0:
        raise ValueError("this is everybody")
    return found


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]
) -> Ip | None:
    """The address on whose behalf a peer asks; None when the peer has no IP address.

    `forwarded_for` are the lines of X-Forwarded-For in their order. Each proxy adds on the right
    whom it was asked by, so they are read from there, as long as it is a trusted one that speaks.
    What cannot be read ends that: the last hop that could be is taken, and nothing is guessed.
    """
    client = address_of(peer)
    if client is None or not is_trusted(client, trusted):
        return client
    hops = ",".join(forwarded_for).rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]
    for hop in reversed(hops):
        before = _address_in(hop)
        if before is None:
            break
        client = before
        if not is_trusted(client, trusted):
            break
    return client


def is_trusted(address: Ip | None, trusted: Sequence[Network]) -> bool:
    """Whether an address is one of the trusted proxies."""
    return any(
        address is not None and address.version == one.version and address in one for one in trusted
    )


def address_of(peer: str | None) -> Ip | None:
    """The address of a connection's other end; None when it has none, as with a Unix socket."""
    try:
        return _unmapped(ip_address((peer or "").partition("%")[0]))
    except ValueError:
        return None


def _address_in(hop: str) -> Ip | None:
    """The address in one element of the header, with a port or without."""
    hop = hop.strip(" \t")
    match = _HOP.fullmatch(hop) if len(hop) <= _LONGEST_HOP else None
    if match is None or int(match["port"] or 0) > _HIGHEST_PORT:
        return None
    try:
        if match["v4"]:
            return IPv4Address(match["v4"])
        return _unmapped(IPv6Address(match["boxed"] or match["bare"]))
    except ValueError:
        return None


def _unmapped(ip: Ip) -> Ip:
    """The same address as IPv4, if it is one in the clothes of IPv6."""
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return ip if mapped is None else mapped

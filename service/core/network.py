"""Which network addresses a request of ours may reach when somebody else chose the URL."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Ip = IPv4Address | IPv6Address

# `is_global` lets several of these through, so the list stands by itself.
_FORBIDDEN: tuple[tuple[IPv4Network | IPv6Network, str], ...] = tuple(
    (ip_network(network), reason)
    for network, reason in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by carriers"),
        ("127.0.0.0/8", "this machine"),
        ("169.254.0.0/16", "link-local, also cloud metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.31.196.0/24", "AS112"),
        ("192.52.193.0/24", "AMT"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "AS112"),
        ("198.18.0.0/15", "benchmarks"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved, also broadcast"),
        ("168.63.129.16/32", "cloud metadata"),
        ("::/128", "unspecified"),
        ("::1/128", "this machine"),
        ("64:ff9b:1::/48", "local translation"),
        ("100::/64", "discard"),
        ("2001::/23", "protocol assignments, also Teredo"),
        ("2001:db8::/32", "documentation"),
        ("2620:4f:8000::/48", "AS112"),
        ("3fff::/20", "documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_COMPATIBLE = IPv6Network("::/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def forbidden(address: str) -> str | None:
    """Why this resolved address must not be reached; None when it may.

    IPv6 forms that carry an IPv4 address are judged by that one too.
    """
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return "no IP address"
    carried = _carried(ip)
    judged: tuple[Ip, ...] = (ip,) if carried is None else (ip, carried)
    for one in judged:
        for network, reason in _FORBIDDEN:
            if one.version == network.version and one in network:
                return reason
    if isinstance(ip, IPv6Address) and not _routed(ip):
        return "not given out for use on the internet"
    return None


def _carried(ip: Ip) -> IPv4Address | None:
    """The IPv4 address that a translator or tunnel would make of it."""
    if isinstance(ip, IPv4Address):
        return None
    low = IPv4Address(int(ip) & 0xFFFF_FFFF)
    if ip in _MAPPED or ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 1):
        return low
    if ip in _6TO4:
        return IPv4Address((int(ip) >> 80) & 0xFFFF_FFFF)
    if (int(ip) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return low
    return None


def _routed(ip: IPv6Address) -> bool:
    return ip in _GLOBAL_UNICAST or ip in _MAPPED or ip in _NAT64

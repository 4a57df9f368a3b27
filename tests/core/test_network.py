"""Which addresses may be reached: a table, one line per trap."""

from __future__ import annotations

import pytest

from service.core.network import forbidden

ALLOWED = (
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "168.63.129.15",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2606:4700::1111",
    "2a00:1450:4001::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2a00:1450::5efe:808:808",
)

FORBIDDEN = (
    ("0.0.0.0", "this network"),
    ("0.255.255.255", "this network"),
    ("10.0.0.0", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.0", "shared by carriers"),
    ("100.100.100.200", "shared by carriers"),  # Alibaba's metadata
    ("100.127.255.255", "shared by carriers"),
    ("127.0.0.1", "this machine"),
    ("127.255.255.254", "this machine"),
    ("168.63.129.16", "cloud metadata"),  # Azure's
    ("169.254.0.1", "link-local"),
    ("169.254.169.254", "link-local"),  # nearly everybody's metadata
    ("169.254.170.2", "link-local"),  # credentials of containers
    ("172.16.0.0", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.1", "protocol assignments"),
    ("192.0.0.9", "protocol assignments"),
    ("192.0.0.192", "protocol assignments"),  # Oracle's metadata
    ("192.0.2.1", "documentation"),
    ("192.31.196.1", "AS112"),
    ("192.52.193.1", "AMT"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.0.1", "private"),
    ("192.168.255.255", "private"),
    ("192.175.48.1", "AS112"),
    ("198.18.0.0", "benchmarks"),
    ("198.19.255.255", "benchmarks"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.7", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "this machine"),
    ("::2", "this network"),
    ("::127.0.0.1", "this machine"),
    ("::8.8.8.8", "not given out"),
    ("::ffff:127.0.0.1", "this machine"),
    ("::ffff:7f00:1", "this machine"),
    ("::ffff:a9fe:a9fe", "link-local"),
    ("::ffff:10.1.2.3", "private"),
    ("::ffff:0:127.0.0.1", "not given out"),
    ("64:ff9b::7f00:1", "this machine"),
    ("64:ff9b::169.254.169.254", "link-local"),
    ("64:ff9b:1::8.8.8.8", "local translation"),
    ("100::1", "discard"),
    ("100:0:0:1::1", "not given out"),
    ("2001::1", "protocol assignments"),  # Teredo
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "protocol assignments"),
    ("2001:20::1", "protocol assignments"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "this machine"),
    ("2002:a9fe:a9fe::1", "link-local"),
    ("2002:c0a8:101::1", "private"),
    ("2620:4f:8000::1", "AS112"),
    ("2a00:1450::5efe:7f00:1", "this machine"),
    ("2a00:1450::200:5efe:a00:1", "private"),
    ("3fff::1", "documentation"),
    ("4000::1", "not given out"),
    ("5f00::1", "segment routing"),
    ("fc00::1", "private"),
    ("fd00:ec2::254", "private"),  # Amazon's metadata
    ("fd20:ce::254", "private"),  # Google's
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("febf::1", "link-local"),
    ("fec0::1", "site-local"),
    ("ff02::1", "multicast"),
    ("ff0e::1", "multicast"),
)

NO_ADDRESSES = (
    "",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "127.0.0.1 ",
    "8.8.8.8/32",
    "[::1]",
    "::1::",
    "1.1.1.256",
)


@pytest.mark.parametrize("address", ALLOWED)
def test_public_addresses_may_be_reached(address: str) -> None:
    """Also those next to a forbidden range, and carriers of a public IPv4 address."""
    reason = forbidden(address)

    assert reason is None


@pytest.mark.parametrize(("address", "expected"), FORBIDDEN)
def test_every_other_address_is_forbidden_with_a_reason(address: str, expected: str) -> None:
    """First and last of each range, metadata services, and every IPv6 form that carries IPv4."""
    reason = forbidden(address)

    assert reason is not None
    assert reason.startswith(expected)


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_plain_address_is_forbidden(text: str) -> None:
    """Resolved addresses have one spelling; another one means that nobody resolved it."""
    reason = forbidden(text)

    assert reason == "no IP address"

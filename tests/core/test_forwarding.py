"""Whom a request is from: a table, one line per shape of X-Forwarded-For."""

from __future__ import annotations

import pytest

from service.core.forwarding import client_address, network

PROXY = "10.0.0.1"
TRUSTED = ("10.0.0.0/8", "127.0.0.1", "fd00::/8", "::ffff:172.16.0.0/108")
LONG_CHAIN = ", ".join(["198.51.100.7", *["10.0.0.9"] * 60])

# The lines of the header, as a trusted proxy sends them; the address they lead to.
BEHIND_A_PROXY: tuple[tuple[tuple[str, ...], str], ...] = (
    # One address, in every way of writing it.
    (("198.51.100.7",), "198.51.100.7"),
    ((" 198.51.100.7 ",), "198.51.100.7"),
    (("\t198.51.100.7\t",), "198.51.100.7"),
    (("198.51.100.7:443",), "198.51.100.7"),
    (("198.51.100.7:0",), "198.51.100.7"),
    (("198.51.100.7:65535",), "198.51.100.7"),
    (("[198.51.100.7]",), PROXY),
    (("2001:db8::7",), "2001:db8::7"),
    (("2001:DB8:0:0:0:0:0:7",), "2001:db8::7"),
    (("[2001:db8::7]",), "2001:db8::7"),
    (("[2001:db8::7]:443",), "2001:db8::7"),
    ((" [2001:db8::7]:443 ",), "2001:db8::7"),
    (("::ffff:198.51.100.7",), "198.51.100.7"),
    (("::ffff:c633:6407",), "198.51.100.7"),
    (("[::ffff:198.51.100.7]:443",), "198.51.100.7"),
    (("192.168.1.5",), "192.168.1.5"),
    (("::1",), "::1"),
    # This machine is an address like any other.
    (("203.0.113.9, 127.0.0.2",), "127.0.0.2"),
    (("127.0.0.1",), "127.0.0.1"),
    (("203.0.113.9, 127.0.0.1",), "203.0.113.9"),
    # What stands on the left was written by the client.
    (("127.0.0.1, 198.51.100.7",), "198.51.100.7"),
    (("203.0.113.9, 198.51.100.7",), "198.51.100.7"),
    (("10.0.0.5, 198.51.100.7",), "198.51.100.7"),
    (("unknown, 198.51.100.7",), "198.51.100.7"),
    (("<script>, 198.51.100.7",), "198.51.100.7"),
    ((",,,198.51.100.7",), "198.51.100.7"),
    (("x" * 5000 + ",198.51.100.7",), "198.51.100.7"),
    ((", ".join(["203.0.113.9"] * 60 + ["198.51.100.7"]),), "198.51.100.7"),
    # Chains of trusted proxies.
    (("198.51.100.7, 10.0.0.2",), "198.51.100.7"),
    (("198.51.100.7,10.0.0.2,10.0.0.3",), "198.51.100.7"),
    (("203.0.113.9, 198.51.100.7, 10.0.0.2, 10.0.0.3",), "198.51.100.7"),
    (("198.51.100.7, fd00::2",), "198.51.100.7"),
    (("198.51.100.7, [fd00::2]:8443, 10.0.0.2:80",), "198.51.100.7"),
    (("198.51.100.7, ::ffff:10.0.0.2",), "198.51.100.7"),
    (("198.51.100.7, 172.16.3.4",), "198.51.100.7"),
    (("198.51.100.7, ::ffff:172.31.255.255",), "198.51.100.7"),
    (("198.51.100.7, 172.32.0.1",), "172.32.0.1"),
    (("10.0.0.2, 10.0.0.3",), "10.0.0.2"),
    (("2001:db8::7, 10.0.0.2",), "2001:db8::7"),
    # Several lines are one list.
    (("198.51.100.7", "10.0.0.2"), "198.51.100.7"),
    (("203.0.113.9", "198.51.100.7"), "198.51.100.7"),
    (("203.0.113.9, 198.51.100.7", "10.0.0.2, 10.0.0.3"), "198.51.100.7"),
    (("198.51.100.7", ""), PROXY),
    (("", "198.51.100.7"), "198.51.100.7"),
    # What cannot be read ends it: the last hop that could be.
    ((), PROXY),
    (("",), PROXY),
    ((" ",), PROXY),
    ((",",), PROXY),
    (("198.51.100.7,",), PROXY),
    (("198.51.100.7, , 10.0.0.2",), "10.0.0.2"),
    (("198.51.100.7, unknown",), PROXY),
    (("198.51.100.7, unknown, 10.0.0.2",), "10.0.0.2"),
    (("198.51.100.7, localhost, 10.0.0.2",), "10.0.0.2"),
    (("localhost",), PROXY),
    (("_hidden",), PROXY),
    (("client.example.org",), PROXY),
    ((":443",), PROXY),
    (("198.51.100.7:",), PROXY),
    (("198.51.100.7:65536",), PROXY),
    (("198.51.100.7:http",), PROXY),
    (("198.51.100.7:-1",), PROXY),
    (("198.51.100.7:80:80",), PROXY),
    (("198.51.100.7/32",), PROXY),
    (("198.51.100.256",), PROXY),
    (("198.51.100",), PROXY),
    (("198.51.100.07",), PROXY),
    (("0xc6.51.100.7",), PROXY),
    (("3325256711",), PROXY),
    (("198.51.100.7.",), PROXY),
    (("198.51. 100.7",), PROXY),
    (("198.51.100.7 10.0.0.2",), PROXY),
    (("198.51.100.7\u00a0",), PROXY),
    (("198.51.100.\u0667",), PROXY),
    (("198.51.100.7\udc80",), PROXY),
    (("198.51.100.7\x00",), PROXY),
    (("198.51.100.7\n",), PROXY),
    (('"198.51.100.7"',), PROXY),
    (('for="[2001:db8::7]:443"',), PROXY),
    (("for=198.51.100.7",), PROXY),
    (("http://198.51.100.7",), PROXY),
    (("[2001:db8::7",), PROXY),
    (("2001:db8::7]",), PROXY),
    (("[]",), PROXY),
    (("[]:443",), PROXY),
    (("[2001:db8::7]443",), PROXY),
    (("[2001:db8::7]:",), PROXY),
    (("2001:db8:::7",), PROXY),
    (("::ffff:198.51.100.7:443",), PROXY),
    (("fe80::7%eth0",), PROXY),
    (("[fe80::7%eth0]:443",), PROXY),
    (("1" * 5000,), PROXY),
    (("198.51.100.7" + " " * 5000,), "198.51.100.7"),
    # No chain is that long.
    ((LONG_CHAIN,), "10.0.0.9"),
    (("198.51.100.7", *["10.0.0.9"] * 49), "198.51.100.7"),
    (("198.51.100.7", *["10.0.0.9"] * 50), "10.0.0.9"),
)

# Whoever connects, and what counts although they say that they ask for 203.0.113.9.
PEERS = (
    ("198.51.100.7", "198.51.100.7"),
    ("2001:db8::7", "2001:db8::7"),
    ("11.0.0.1", "11.0.0.1"),
    ("127.0.0.2", "127.0.0.2"),
    ("::1", "::1"),
    ("::ffff:198.51.100.7", "198.51.100.7"),
    ("fe80::7%eth0", "fe80::7"),
    ("10.0.0.1", "203.0.113.9"),
    ("127.0.0.1", "203.0.113.9"),
    ("::ffff:10.0.0.1", "203.0.113.9"),
    ("fd00::1", "203.0.113.9"),
    ("fd00::1%eth0", "203.0.113.9"),
    ("172.16.0.1", "203.0.113.9"),
    ("/run/ringback.sock", "None"),
    ("", "None"),
    (None, "None"),
)


def _found(peer: str | None, lines: tuple[str, ...], trusted: tuple[str, ...] = TRUSTED) -> str:
    return str(client_address(peer, lines, [network(one) for one in trusted]))


@pytest.mark.parametrize(("lines", "client"), BEHIND_A_PROXY)
def test_whom_a_trusted_proxy_asks_for(lines: tuple[str, ...], client: str) -> None:
    """From the right, past trusted proxies, to the first that is none or cannot be read."""
    assert _found(PROXY, lines) == client


@pytest.mark.parametrize(("lines", "client"), BEHIND_A_PROXY)
def test_nobody_else_is_believed(lines: tuple[str, ...], client: str) -> None:
    """Whatever the header says, it is who connects."""
    assert _found("192.0.2.1", lines) == "192.0.2.1"
    assert _found(PROXY, lines, ()) == PROXY


@pytest.mark.parametrize(("peer", "client"), PEERS)
def test_who_is_a_trusted_proxy(peer: str | None, client: str) -> None:
    """IPv4 in IPv6's clothes is the same address, and a socket without one is nobody's."""
    assert _found(peer, ("203.0.113.9",)) == client


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1", "127.0.0.1/32"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("::1", "::1/128"),
        ("fd00::/8", "fd00::/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
    ],
)
def test_a_network_is_written_in_these_ways(text: str, found: str) -> None:
    """An address alone is the network of itself."""
    assert str(network(text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 127.0.0.1",
        "localhost",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0",
        "*",
        "0.0.0.0/0",
        "::/0",
        "::ffff:0:0/96",
        "fe80::1%eth0",
        "127.0.0.1:8080",
    ],
)
def test_a_network_that_is_none_is_refused(text: str) -> None:
    """Neither is everybody one that could be trusted."""
    with pytest.raises(ValueError, match=r".+"):
        network(text)

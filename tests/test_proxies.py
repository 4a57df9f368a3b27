"""The service behind reverse proxies: who is counted as whom, and what is for this machine only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from structlog.testing import capture_logs

from service.app import open_app
from service.config import DatabaseSettings, Server, Settings
from service.core.forwarding import Network, network


def _trusted(*proxies: str) -> tuple[Network, ...]:
    return tuple(network(one) for one in proxies)


HTTPS = "https://bot.example.org"
OURS = {"Origin": HTTPS}
HERE = Server()
PUBLIC = Server(public_url=HTTPS)
BEHIND_ONE = Server(public_url=HTTPS, trusted_proxies=_trusted("127.0.0.1"))
BEHIND_TWO = Server(public_url=HTTPS, trusted_proxies=_trusted("127.0.0.0/8", "10.0.0.0/8"))
BEHIND_ANOTHER = Server(public_url=HTTPS, trusted_proxies=_trusted("10.0.0.1"))
FORWARDED: tuple[Mapping[str, str], ...] = (
    {"X-Forwarded-For": "198.51.100.7"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Forwarded-For": "localhost"},
    {"X-Forwarded-For": ""},
    {"x-forwarded-proto": "https"},
    {"X-Forwarded-Host": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"Via": "1.1 proxy"},
)


@dataclass(frozen=True, slots=True)
class Line:
    """A service, and what asks it from this machine."""

    client: aiohttp.ClientSession
    url: str
    token: str

    async def guess(self, forwarded_for: str | None = None, **headers: str) -> int:
        """Try to sign in with a wrong token; the status."""
        sent = {**OURS, **headers}
        if forwarded_for is not None:
            sent["X-Forwarded-For"] = forwarded_for
        return await self.sign_in("a guess", sent)

    async def sign_in(self, token: str, headers: Mapping[str, str]) -> int:
        """Try to sign in; the status."""
        async with self.client.post("/signin", json={"token": token}, headers=headers) as answer:
            return answer.status

    async def figures(self, headers: Mapping[str, str], *, token: str | None = None) -> int:
        """Read the metrics; the status."""
        shown = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self.client.get("/metrics", headers={**shown, **headers}) as answer:
            return answer.status


@asynccontextmanager
async def _listening(server: Server, sqlite_url: str) -> AsyncGenerator[Line]:
    settings = Settings(server=server, database=DatabaseSettings(url=sqlite_url))
    async with (
        open_app(settings, port=0, channels=False) as app,
        aiohttp.ClientSession(app.url, cookie_jar=aiohttp.DummyCookieJar()) as client,
    ):
        yield Line(client, app.url, app.token)


# -- failed sign-ins ------------------------------------------------------------------------------


async def test_clients_of_one_proxy_are_counted_each(sqlite_url: str) -> None:
    """Whoever has used up their tries leaves those of others alone."""
    async with _listening(BEHIND_ONE, sqlite_url) as line:
        ann = [await line.guess("198.51.100.7") for _ in range(6)]
        bob = [await line.guess("198.51.100.8") for _ in range(6)]

    assert (ann, bob) == ([401] * 5 + [429], [401] * 5 + [429])


async def test_a_client_of_two_proxies_is_found(sqlite_url: str) -> None:
    """Behind both of them, wherever the ports change."""
    async with _listening(BEHIND_TWO, sqlite_url) as line:
        ann = [await line.guess(f"198.51.100.7:{port}, 10.0.0.1:{port}") for port in range(1, 7)]
        bob = await line.guess("198.51.100.8, 10.0.0.1")

    assert (ann, bob) == ([401] * 5 + [429], 401)


async def test_what_a_client_writes_itself_buys_no_tries(sqlite_url: str) -> None:
    """The proxy adds the truth on the right; the rest is the client's own invention."""
    async with _listening(BEHIND_ONE, sqlite_url) as line:
        statuses = [
            await line.guess(f"203.0.113.{n}, 198.51.100.7", Forwarded=f"for=203.0.113.{n}")
            for n in range(6)
        ]

    assert statuses == [401] * 5 + [429]


async def test_neighbours_in_ipv6_are_one_client(sqlite_url: str) -> None:
    """A customer has a whole /64 to choose from."""
    async with _listening(BEHIND_ONE, sqlite_url) as line:
        ann = [await line.guess(f"[2001:db8::{n}]:443") for n in range(6)]
        bob = await line.guess("2001:db8:0:1::1")

    assert (ann, bob) == ([401] * 5 + [429], 401)


@pytest.mark.parametrize("server", [PUBLIC, BEHIND_ANOTHER])
@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded"])
async def test_an_untrusted_peer_buys_no_tries(
    server: Server, header: str, sqlite_url: str
) -> None:
    """It may say what it likes, it is counted as itself."""
    async with _listening(server, sqlite_url) as line:
        statuses = [await line.guess(None, **{header: f"198.51.100.{n}"}) for n in range(6)]

    assert statuses == [401] * 5 + [429]


async def test_other_headers_than_one_name_nobody(sqlite_url: str) -> None:
    """A trusted proxy passes X-Real-IP and Forwarded on as the client wrote them."""
    async with _listening(BEHIND_ONE, sqlite_url) as line:
        statuses = [
            await line.guess(None, Forwarded=f"for=198.51.100.{n}", **{"X-Real-IP": f"10.0.0.{n}"})
            for n in range(6)
        ]

    assert statuses == [401] * 5 + [429]


# -- the log --------------------------------------------------------------------------------------


async def test_the_log_names_the_client(sqlite_url: str) -> None:
    """Not the proxy, which is the same every time."""
    async with _listening(BEHIND_ONE, sqlite_url) as line:
        with capture_logs() as logs:
            await line.guess("203.0.113.9, ::ffff:198.51.100.7")
            await line.sign_in(line.token, {**OURS, "X-Forwarded-For": "198.51.100.8:443"})

    assert [(one["event"], one["client"]) for one in logs] == [
        ("signin.refused", "198.51.100.7"),
        ("signin.begun", "198.51.100.8"),
    ]


async def test_a_proxy_nobody_has_named_is_logged_once(sqlite_url: str) -> None:
    """With what to do about it; the log cannot be filled that way."""
    async with _listening(PUBLIC, sqlite_url) as line:
        with capture_logs() as logs:
            statuses = [await line.guess("198.51.100.7") for _ in range(3)]
            await line.figures({"Via": "1.1 proxy"})

    [warning] = [one for one in logs if one["event"] == "http.proxy_not_trusted"]
    assert statuses == [401] * 3
    assert (warning["log_level"], warning["peer"]) == ("warning", "127.0.0.1")
    assert "server.trusted_proxies" in warning["hint"]


# -- this very machine ----------------------------------------------------------------------------


@pytest.mark.parametrize("server", [HERE, BEHIND_ANOTHER])
async def test_this_machine_reads_the_metrics(server: Server, sqlite_url: str) -> None:
    """As curl asks, by each of its names, without a token."""
    hosts = ("127.0.0.1", "127.0.0.1:8080", "localhost:8080", "[::1]:8080", "127.0.1.1")
    async with _listening(server, sqlite_url) as line:
        plain = await line.figures({})
        named = [await line.figures({"Host": host}) for host in hosts]

    assert (plain, named) == (200, [200] * len(hosts))


@pytest.mark.parametrize("server", [HERE, BEHIND_ANOTHER, BEHIND_ONE])
async def test_behind_a_proxy_the_metrics_take_a_token(server: Server, sqlite_url: str) -> None:
    """Whatever the proxy says, and whether or not it is trusted."""
    async with _listening(server, sqlite_url) as line:
        without = [await line.figures(headers) for headers in FORWARDED]
        wrong = [await line.figures(headers, token="a guess") for headers in FORWARDED]
        shown = [await line.figures(headers, token=line.token) for headers in FORWARDED]

    assert (set(without), set(wrong), set(shown)) == ({401}, {401}, {200})


async def test_a_trusted_proxy_is_never_this_machine(sqlite_url: str) -> None:
    """Also when it adds no header at all."""
    async with _listening(BEHIND_ONE, sqlite_url) as line:
        without, shown = await line.figures({}), await line.figures({}, token=line.token)

    assert (without, shown) == (401, 200)


@pytest.mark.parametrize("host", ["bot.example.org", "127.0.0.1.evil.example", "evil.example:80"])
async def test_under_another_name_it_is_not_this_machine(host: str, sqlite_url: str) -> None:
    """A proxy that adds nothing passes the name on; so does a browser with a rebound one."""
    async with _listening(HERE, sqlite_url) as line:
        without = await line.figures({"Host": host})
        shown = await line.figures({"Host": host}, token=line.token)

    assert (without, shown) == (401, 200)


async def test_health_is_open_to_all(sqlite_url: str) -> None:
    """Load balancers ask without a token, and with every header there is."""
    async with (
        _listening(BEHIND_ONE, sqlite_url) as line,
        line.client.get("/livez", headers=FORWARDED[0]) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("server", [HERE, Server(public_url="http://localhost:8080")])
async def test_no_sign_in_through_a_proxy_without_https(server: Server, sqlite_url: str) -> None:
    """However local it looks, the line goes on behind the proxy."""
    async with _listening(server, sqlite_url) as line:
        ours = {"Origin": line.url}
        straight = await line.sign_in(line.token, ours)
        through = [await line.sign_in(line.token, {**ours, **headers}) for headers in FORWARDED]

    assert (straight, set(through)) == (200, {403})


async def test_no_plain_sign_in_from_a_trusted_proxy(sqlite_url: str) -> None:
    """Neither without any header."""
    async with _listening(Server(trusted_proxies=_trusted("127.0.0.1")), sqlite_url) as line:
        ours = {"Origin": line.url}

        assert await line.sign_in(line.token, ours) == 403


async def test_with_https_a_sign_in_goes_through_proxies(sqlite_url: str) -> None:
    """Trusted ones and others: who asks is told by the token, not by an address."""
    statuses = []
    for server in (PUBLIC, BEHIND_ONE):
        async with _listening(server, sqlite_url) as line:
            statuses += [await line.sign_in(line.token, {**OURS, **one}) for one in FORWARDED]

    assert set(statuses) == {200}

"""Requests that other pages make in the name of who is signed in, and credentials of others."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from handlers.console.gate import Place
from service.core.access import UserRole
from service.store import tokens, users
from service.store.database import Database
from service.store.users import Holder
from tests.console.people import Browser, cookie_of
from tests.console.site import TOKEN, Site, serving

Headers = Mapping[str, str]
PUBLIC = Place("https://bot.example.org", loopback=True)

# PORT is ours, OTHER is not. What our own page at http://127.0.0.1:PORT never says:
FOREIGN: Mapping[str, Headers] = {
    "another site": {"Origin": "https://evil.example"},
    "another site by http": {"Origin": "http://evil.example"},
    "another site, same port": {"Origin": "http://evil.example:PORT"},
    "a page in a sandbox": {"Origin": "null"},
    "null in capitals": {"Origin": "NULL"},
    "a file": {"Origin": "file://"},
    "an extension": {"Origin": "chrome-extension://abcdefghijklmnop"},
    "a data address": {"Origin": "data:"},
    "an app's own scheme": {"Origin": "app://127.0.0.1:PORT"},
    "empty": {"Origin": ""},
    "no scheme": {"Origin": "127.0.0.1:PORT"},
    "scheme only": {"Origin": "http://"},
    "any": {"Origin": "*"},
    "https for http": {"Origin": "https://127.0.0.1:PORT"},
    "a socket's scheme": {"Origin": "ws://127.0.0.1:PORT"},
    "another port": {"Origin": "http://127.0.0.1:OTHER"},
    "no port": {"Origin": "http://127.0.0.1"},
    "a port that begins like ours": {"Origin": "http://127.0.0.1:PORT0"},
    "a port with a zero before it": {"Origin": "http://127.0.0.1:0PORT"},
    "a port that is none": {"Origin": "http://127.0.0.1:"},
    "another name of this machine": {"Origin": "http://localhost:PORT"},
    "another address of this machine": {"Origin": "http://127.0.0.2:PORT"},
    "this machine in IPv6": {"Origin": "http://[::1]:PORT"},
    "this machine mapped into IPv6": {"Origin": "http://[::ffff:127.0.0.1]:PORT"},
    "a short address": {"Origin": "http://127.1:PORT"},
    "a number as address": {"Origin": "http://2130706433:PORT"},
    "an octal address": {"Origin": "http://0177.0.0.1:PORT"},
    "every address": {"Origin": "http://0.0.0.0:PORT"},
    "a subdomain": {"Origin": "http://a.127.0.0.1:PORT"},
    "our address as a subdomain": {"Origin": "http://127.0.0.1.evil.example:PORT"},
    "our address glued to a name": {"Origin": "http://127.0.0.1evil.example:PORT"},
    "our address behind a user": {"Origin": "http://evil@127.0.0.1:PORT"},
    "our address as the user": {"Origin": "http://127.0.0.1:PORT@evil.example"},
    "our address as the path": {"Origin": "http://evil.example/http://127.0.0.1:PORT"},
    "our address as the fragment": {"Origin": "http://evil.example#http://127.0.0.1:PORT"},
    "our address as the query": {"Origin": "http://evil.example?http://127.0.0.1:PORT"},
    "a back slash": {"Origin": "http://127.0.0.1:PORT\\@evil.example"},
    "a trailing dot": {"Origin": "http://127.0.0.1.:PORT"},
    "a trailing slash": {"Origin": "http://127.0.0.1:PORT/"},
    "a path": {"Origin": "http://127.0.0.1:PORT/api"},
    "capitals": {"Origin": "HTTP://127.0.0.1:PORT"},
    "digits of another script": {"Origin": "http://１２７.0.0.1:PORT"},
    "a dot of another script": {"Origin": "http://127。0.0.1:PORT"},
    "escaped": {"Origin": "http%3A//127.0.0.1%3APORT"},
    "two in one": {"Origin": "http://127.0.0.1:PORT http://evil.example"},
    "two with a comma": {"Origin": "http://127.0.0.1:PORT, http://evil.example"},
    "ours and another site": {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "cross-site"},
    "ours and a subdomain": {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "same-site"},
    "ours and nobody": {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "none"},
    "ours and nonsense": {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "Same-Origin"},
    "ours and an empty word": {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": ""},
    "not ours, it says it is": {
        "Origin": "http://evil.example",
        "Sec-Fetch-Site": "same-origin",
    },
    "no origin, another site": {"Sec-Fetch-Site": "cross-site"},
    "no origin, a subdomain": {"Sec-Fetch-Site": "same-site"},
    "no origin, typed": {"Sec-Fetch-Site": "none"},
    "nothing at all": {},
    "only where it came from": {"Referer": "http://127.0.0.1:PORT/"},
    "a proxy says it is ours": {
        "Origin": "http://evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
    },
    "a proxy says it, by the standard": {
        "Origin": "https://evil.example",
        "Forwarded": "host=evil.example;proto=https",
    },
    "another host": {"Origin": "http://evil.example", "Host": "evil.example"},
    "a name that was rebound": {"Origin": "http://evil.example:PORT", "Host": "evil.example:PORT"},
    "a host that begins like ours": {
        "Origin": "http://127.0.0.1.evil.example:PORT",
        "Host": "127.0.0.1.evil.example:PORT",
    },
    "a host with a user": {"Origin": "http://a@127.0.0.1:PORT", "Host": "a@127.0.0.1:PORT"},
    "a host with a trailing dot": {"Origin": "http://localhost.:PORT", "Host": "localhost.:PORT"},
    "a host below localhost": {"Origin": "http://a.localhost:PORT", "Host": "a.localhost:PORT"},
    "the host's other port": {"Origin": "http://127.0.0.1:PORT", "Host": "127.0.0.1:OTHER"},
    "another method in a header": {
        "Origin": "http://evil.example",
        "X-HTTP-Method-Override": "GET",
    },
}
# What is refused where the console is https://bot.example.org, besides most of the above.
FOREIGN_IN_PUBLIC: Mapping[str, Headers] = {
    "http for https": {"Origin": "http://bot.example.org"},
    "the default port written": {"Origin": "https://bot.example.org:443"},
    "another port": {"Origin": "https://bot.example.org:8443"},
    "a subdomain": {"Origin": "https://www.bot.example.org"},
    "the domain above": {"Origin": "https://example.org"},
    "a neighbour": {"Origin": "https://other.example.org"},
    "a suffix": {"Origin": "https://evilbot.example.org"},
    "a prefix": {"Origin": "https://bot.example.org.evil.example"},
    "a trailing dot": {"Origin": "https://bot.example.org."},
    "capitals": {"Origin": "https://Bot.Example.Org"},
    "a user": {"Origin": "https://bot.example.org@evil.example"},
    "a letter of another script": {"Origin": "https://b\u043et.example.org"},
    "the same in punycode": {"Origin": "https://xn--bt-emc.example.org"},
    "a soft hyphen": {"Origin": "https://bot\u00ad.example.org"},
    "a wide full stop": {"Origin": "https://bot\uff0eexample.org"},
}


def _shaped(headers: Headers, port: int) -> dict[str, str]:
    other = port - 1 if port > 2000 else port + 1
    return {
        name: value.replace("PORT", str(port)).replace("OTHER", str(other))
        for name, value in headers.items()
    }


def test_there_are_enough_shapes() -> None:
    """Each is a way that somebody once got through somewhere."""
    assert len(FOREIGN) >= 60


@pytest.mark.parametrize("shape", FOREIGN)
async def test_another_page_changes_nothing(site: Site, shape: str) -> None:
    """A call with the cookie is refused before anything is done, a sign-in is, and so is a form."""
    session, cookie = await site.session(), await cookie_of(site)
    headers = _shaped(FOREIGN[shape], site.port)
    path = f"/api/sessions/{session}/messages"
    signed_in = {**headers, "Cookie": f"ringback={cookie}"}
    form = {**signed_in, "Content-Type": "application/x-www-form-urlencoded"}

    answers = [
        await site.call("POST", path, {"text": "hi"}, signed_in, token=None),
        await site.call("POST", path, b"text=hi", form, token=None),
        await site.call("POST", "/signin", {"token": TOKEN}, headers, token=None),
        await site.call("POST", "/signin", b"token=x", form, token=None),
        await site.call("POST", "/signout", None, signed_in, token=None),
    ]
    said = await site.get(f"/api/sessions/{session}/messages")
    me = await Browser(site, cookie).call("GET", "/api/me")

    assert [answer.status for answer in answers] == [403] * 5
    assert (said.json["messages"], me.status) == ([], 200)


@pytest.mark.parametrize("shape", FOREIGN)
async def test_another_page_opens_no_socket(site: Site, shape: str) -> None:
    """Browsers ask nobody before they open one, so the handshake itself is refused."""
    cookie = await cookie_of(site)
    headers = {**_shaped(FOREIGN[shape], site.port), "Cookie": f"ringback={cookie}"}

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await site.client.ws_connect("/api/ws", headers=headers)

    assert refused.value.status == 403


@pytest.mark.parametrize("shape", FOREIGN_IN_PUBLIC)
async def test_another_page_changes_nothing_in_public(local_database: Database, shape: str) -> None:
    """With a public address nothing but its very origin counts."""
    async with serving(local_database, place=PUBLIC) as site:
        headers = FOREIGN_IN_PUBLIC[shape]
        cookie = {"Cookie": f"__Host-ringback={await cookie_of(site)}"}
        answers = [
            await site.call(
                "POST", "/api/tasks/morning/disable", {}, {**headers, **cookie}, token=None
            ),
            await site.call("POST", "/signin", {"token": TOKEN}, headers, token=None),
        ]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await site.client.ws_connect("/api/ws", headers={**headers, **cookie})

    assert [answer.status for answer in answers] == [403, 403]
    assert refused.value.status == 403


async def test_an_origin_twice_is_refused(site: Site) -> None:
    """Of two we do not guess which is meant."""
    browser = Browser(site, await cookie_of(site))
    twice = [*browser.headers.items(), ("Origin", browser.origin)]

    async with site.client.post("/api/tasks/morning/disable", headers=twice) as answer:
        assert answer.status == 403


@pytest.mark.parametrize("fetch_site", ["cross-site", "same-site", "x"])
async def test_another_page_reads_nothing(site: Site, fetch_site: str) -> None:
    """A page on another port of this machine gets the cookie sent, but no answer."""
    cookie = {"Cookie": f"ringback={await cookie_of(site)}"}
    site_says = {**cookie, "Sec-Fetch-Site": fetch_site}
    origin_says = {**cookie, "Origin": "http://127.0.0.1:1"}

    answers = [
        await site.call("GET", "/api/sessions", None, headers, token=None)
        for headers in (site_says, origin_says)
    ]

    assert [answer.status for answer in answers] == [403, 403]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:PORT"},
        {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost:PORT", "Host": "localhost:PORT"},
        {"Origin": "http://[::1]:PORT", "Host": "[::1]:PORT"},
        # Through a tunnel the port is another one, for the page and for the host alike.
        {"Origin": "http://localhost:9000", "Host": "localhost:9000"},
        {"Origin": "http://localhost", "Host": "localhost"},
    ],
)
async def test_our_own_page_may(site: Site, headers: Headers) -> None:
    """Whatever this machine is called in the address bar."""
    cookie = {"Cookie": f"ringback={await cookie_of(site)}"}

    answer = await site.call(
        "POST",
        "/api/tasks/morning/disable",
        {},
        {**_shaped(headers, site.port), **cookie},
        token=None,
    )

    assert answer.status == 200


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("https://bot.example.org", "https://bot.example.org"),
        ("https://bot.example.org/", "https://bot.example.org"),
        ("https://bot.example.org:443/ringback", "https://bot.example.org"),
        ("https://bot.example.org:8443", "https://bot.example.org:8443"),
        ("https://BOT.example.org", "https://bot.example.org"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://localhost:8080", "http://localhost:8080"),
    ],
)
def test_the_origin_of_a_public_address(public_url: str, origin: str) -> None:
    """As browsers write it, whatever host a proxy asks us for."""
    place = Place(public_url, loopback=False)

    assert set(place.origins("127.0.0.1:8080")) == {origin}


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
async def test_a_bearer_comes_from_anywhere(site: Site, headers: Headers) -> None:
    """No browser adds a token by itself, so nobody can be made to send one."""
    answer = await site.call("POST", "/api/tasks/morning/disable", {}, headers)
    shown = {"Authorization": f"Bearer {TOKEN}", **headers}
    async with site.client.ws_connect("/api/ws", headers=shown) as socket:
        await socket.send_json({"do": "ping"})
        pong = await socket.receive_json(timeout=60)

    assert (answer.status, pong) == (200, {"pong": True})


# -- credentials that are not one's own -----------------------------------------------------------


async def _expired(site: Site) -> str:
    return await cookie_of(site, lasts=timedelta(seconds=-1))


async def _removed(site: Site) -> str:
    cookie = await cookie_of(site)
    await site.engine.database.write(users.remove, "ann")
    return cookie


async def _ended(site: Site) -> str:
    cookie = await cookie_of(site)
    await site.engine.database.write(users.end, users.digest(cookie))
    return cookie


async def _revoked(site: Site) -> str:
    database, at = site.engine.database, datetime.now(UTC)
    await database.write(tokens.issue, name="ci", at=at)
    holder, lasts = Holder("token", "ci"), timedelta(hours=1)
    cookie = await database.write(users.begin, holder, UserRole.ADMIN, at=at, lasts=lasts)
    await database.write(tokens.revoke, "ci")
    return cookie


async def _of_nobody(site: Site) -> str:
    """As if somebody had gone between signing in and being removed."""
    database, at = site.engine.database, datetime.now(UTC)
    holder, lasts = Holder("user", "ghost"), timedelta(hours=1)
    return await database.write(users.begin, holder, UserRole.ADMIN, at=at, lasts=lasts)


async def _digest(site: Site) -> str:
    return users.digest(await cookie_of(site)).hex()


async def _name(site: Site) -> str:
    await cookie_of(site)
    return "ann"


async def _holder(site: Site) -> str:
    await cookie_of(site)
    return "user:ann"


async def _changed(site: Site) -> str:
    cookie = await cookie_of(site)
    return cookie[:-1] + ("A" if cookie[-1] != "A" else "B")


async def _token(site: Site) -> str:
    return await site.engine.database.write(tokens.issue, name="ci", at=datetime.now(UTC))


async def _garbage(_site: Site) -> str:
    return '"%00\\'


@pytest.mark.parametrize(
    "make",
    [
        _expired,
        _removed,
        _ended,
        _revoked,
        _of_nobody,
        _digest,
        _name,
        _holder,
        _changed,
        _token,
        _garbage,
    ],
)
async def test_a_cookie_that_does_not_hold(site: Site, make: Any) -> None:
    """It reads nothing, changes nothing and opens no socket; the answers do not say why."""
    browser = Browser(site, await make(site))

    answers = [
        await browser.call("GET", "/api/sessions"),
        await browser.call("POST", "/api/tasks/morning/disable", {}),
    ]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await site.client.ws_connect("/api/ws", headers=browser.headers)

    assert [answer.status for answer in answers] == [401, 401]
    assert {answer.json["detail"] for answer in answers} == {"the sign-in is over; sign in again"}
    assert refused.value.status == 401


async def test_a_cookie_is_no_token(site: Site) -> None:
    """The value of a cookie shown as a bearer would get around the check of the page."""
    cookie = await cookie_of(site, role=UserRole.ADMIN)

    answer = await site.call("POST", "/api/tasks/morning/disable", {}, token=cookie)

    assert answer.status == 401


async def test_signing_out_ends_no_other_sign_in(site: Site) -> None:
    """One can end one's own only."""
    ann, bob = await cookie_of(site, "ann"), await cookie_of(site, "bob")

    await Browser(site, ann).call("POST", "/signout")

    assert (await Browser(site, bob).call("GET", "/api/me")).json["name"] == "bob"

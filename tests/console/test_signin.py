"""Signing in and out: with what, for how long, how often, and what ends it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import sqlalchemy as sa

from handlers.console.gate import Place
from handlers.console.signin import Attempts, Passwords
from service.core.access import UserRole
from service.store import tokens, users
from service.store.database import Database
from service.store.tables import sign_ins
from service.store.users import Holder
from tests.console.people import PASSWORD, Browser, add_person, cookie_in, cookie_of, hashed
from tests.console.site import LIMITS, TOKEN, Site, serving

LIMITS_SHOWN = {
    "attachment_bytes": LIMITS.file_bytes,
    "attachments_per_message": LIMITS.files,
}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _expiries(conn: sa.Connection) -> list[datetime]:
    return list(conn.scalars(sa.select(sign_ins.c.expires_at)))


def _expire(conn: sa.Connection, at: datetime) -> None:
    conn.execute(sign_ins.update().values(expires_at=at))


# -- in -------------------------------------------------------------------------------------------


async def test_a_configured_token_signs_in(site: Site) -> None:
    """Whoever has it is the operator, and an admin."""
    browser = Browser(site)

    answer = await browser.sign_in(token=TOKEN)
    me = await Browser(site, cookie_in(answer)).call("GET", "/api/me")

    assert (answer.status, answer.json) == (200, {"name": "operator", "role": "admin"})
    assert (me.status, me.json) == (200, {**answer.json, "limits": LIMITS_SHOWN})


async def test_an_issued_token_signs_in(each_site: Site) -> None:
    """It is called by its name; a bearer is told the same."""
    token = await each_site.engine.database.write(tokens.issue, name="ci", at=datetime.now(UTC))

    answer = await Browser(each_site).sign_in(token=token)
    bearer = await each_site.call("GET", "/api/me", token=token)

    assert (answer.status, answer.json) == (200, {"name": "ci", "role": "admin"})
    assert bearer.json == {**answer.json, "limits": LIMITS_SHOWN}


async def test_a_person_signs_in(each_site: Site) -> None:
    """With name and password, in the role that was given."""
    await add_person(each_site, "ann", UserRole.VIEWER)

    answer = await Browser(each_site).sign_in(name="ann", password=PASSWORD)
    me = await Browser(each_site, cookie_in(answer)).call("GET", "/api/me")

    assert me.json == {"name": "ann", "role": "viewer", "limits": LIMITS_SHOWN}


async def test_a_form_signs_in_and_goes_on(site: Site) -> None:
    """Without a script the page itself posts, and the browser follows to the console."""
    browser = Browser(site)
    body = f"token={TOKEN.replace(' ', '+').replace(chr(39), '%27')}".encode()

    async with site.client.post(
        "/signin", data=body, headers={**browser.headers, **FORM}, allow_redirects=False
    ) as answer:
        location = answer.headers["Location"]

    assert (answer.status, location) == (303, "/")
    assert "ringback=" in answer.headers["Set-Cookie"]


async def test_the_cookie_of_a_loopback_console(site: Site) -> None:
    """No script reads it and no other site sends it; over plain http it cannot be Secure."""
    answer = await Browser(site).sign_in(token=TOKEN)

    given = answer.headers["Set-Cookie"].split("; ")

    assert given[0].startswith("ringback=")
    assert sorted(given[1:]) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    assert answer.headers["Cache-Control"] == "no-store"


async def test_the_cookie_of_a_public_console(local_database: Database) -> None:
    """With https it is bound to this very host."""
    place = Place("https://bot.example.org/", loopback=False)
    async with serving(local_database, place=place) as site:
        headers = {"Origin": "https://bot.example.org"}
        answer = await site.call("POST", "/signin", {"token": TOKEN}, headers, token=None)
        cookie = {"Cookie": f"__Host-ringback={cookie_in(answer)}"}
        plain = {"Cookie": f"ringback={cookie_in(answer)}"}
        me = await site.call("GET", "/api/me", None, cookie, token=None)
        other = await site.call("GET", "/api/me", None, plain, token=None)

    given = answer.headers["Set-Cookie"].split("; ")
    assert given[0].startswith("__Host-ringback=")
    assert sorted(given[1:]) == ["HttpOnly", "Path=/", "SameSite=Strict", "Secure"]
    assert (me.status, other.status) == (200, 401)


@pytest.mark.parametrize("public_url", [None, "http://bot.example.org"])
async def test_no_sign_in_over_an_open_line(
    local_database: Database, public_url: str | None
) -> None:
    """Where others could read the cookie there is none, and the sentence says what to do."""
    async with serving(local_database, place=Place(public_url, loopback=False)) as site:
        answer = await Browser(site).sign_in(token=TOKEN)

    assert answer.status == 403
    assert "a sign-in needs https" in answer.json["detail"]
    assert "Set-Cookie" not in answer.headers


async def test_only_the_digest_is_stored(site: Site) -> None:
    """Who reads the database cannot sign in with it."""
    value = cookie_in(await Browser(site).sign_in(token=TOKEN))

    stored = await site.engine.database.read(lambda conn: conn.execute(sa.select(sign_ins)).one())

    assert stored.digest == users.digest(value)
    assert value not in str(stored)
    assert TOKEN not in str(stored)


async def test_a_new_sign_in_ends_the_one_before(site: Site) -> None:
    """A cookie that somebody else put there is worth nothing afterwards."""
    before = cookie_in(await Browser(site).sign_in(token=TOKEN))

    after = cookie_in(await Browser(site, before).sign_in(token=TOKEN))

    assert (await Browser(site, before).call("GET", "/api/me")).status == 401
    assert (await Browser(site, after).call("GET", "/api/me")).status == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"token": "rba_unknown"}, 401),
        ({"token": "rba_\ud800"}, 401),
        ({"token": "wrong"}, 401),
        ({"name": "ann", "password": "wrong password"}, 401),
        ({"name": "nobody", "password": PASSWORD}, 401),
        ({"name": "ANN", "password": PASSWORD}, 401),
        ({"name": "a\0b", "password": PASSWORD}, 401),
        ({}, 400),
        ({"token": ""}, 400),
        ({"token": 7}, 400),
        ({"token": TOKEN, "name": "ann", "password": PASSWORD}, 400),
        ({"token": TOKEN, "next": "https://evil.example"}, 400),
        ({"name": "ann"}, 400),
        ({"name": "ann", "password": "x" * 1025}, 400),
        ([TOKEN], 400),
    ],
)
async def test_what_does_not_sign_in(site: Site, given: object, status: int) -> None:
    """No cookie is set, and the answer does not tell an unknown name from a wrong password."""
    await add_person(site)

    answer = await Browser(site).call("POST", "/signin", given)

    assert answer.status == status
    assert "Set-Cookie" not in answer.headers
    if status == 401:
        assert answer.json["detail"] == "that is no name and password, or no token, that we know"


@pytest.mark.parametrize("body", [b"token=a&token=b", b"token", b"token=%ff", b"a=1&b=2&c=3&d=4"])
async def test_a_form_is_read_strictly(site: Site, body: bytes) -> None:
    """What could be read in two ways is not read."""
    answer = await Browser(site).call("POST", "/signin", body, FORM)

    assert answer.status == 400


async def test_another_kind_of_body_is_refused(site: Site) -> None:
    """A form of the kind that needs no permission across sites, for one."""
    answer = await Browser(site).call("POST", "/signin", b"{}", {"Content-Type": "text/plain"})

    assert answer.status == 415


# -- how often ------------------------------------------------------------------------------------


async def test_after_five_failures_there_is_a_pause(site: Site) -> None:
    """Even the right password has to wait, and is told for how long."""
    browser = Browser(site)
    await add_person(site)
    for _ in range(5):
        await browser.sign_in(name="ann", password="wrong password")

    answer = await browser.sign_in(name="ann", password=PASSWORD)

    assert answer.status == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60


async def test_a_burst_does_not_slip_through(site: Site) -> None:
    """Guesses that come at once are counted before they are compared."""
    browser = Browser(site)

    answers = await asyncio.gather(*(browser.sign_in(token=f"guess {n}") for n in range(20)))

    assert sorted(answer.status for answer in answers) == [401] * 5 + [429] * 15


def test_failures_are_counted_by_name_and_by_peer() -> None:
    """Neither many names from one peer nor many peers for one name get more tries."""
    now = [100.0]
    attempts = Attempts(clock=lambda: now[0])

    peer = [attempts.begin("peer a", f"name {n}") for n in range(6)]
    name = [attempts.begin(f"peer {n}", "name x") for n in range(6)]
    now[0] += 59.0
    late = attempts.begin("peer a", "name 7")
    now[0] += 1.0
    later = attempts.begin("peer a", "name 7")

    assert (peer, name) == ([None] * 5 + [60.0], [None] * 5 + [60.0])
    assert (late, later) == (1.0, None)


def test_a_success_is_no_failure() -> None:
    """It gives back what was counted ahead, and no more than that."""
    attempts = Attempts(clock=lambda: 0.0)
    for _ in range(4):
        attempts.begin("peer")

    for _ in range(10):
        assert attempts.begin("peer") is None
        attempts.forgive("peer")

    assert [attempts.begin("peer"), attempts.begin("peer")] == [None, 60.0]


def test_the_memory_of_failures_is_bounded() -> None:
    """Whoever makes names up does not fill it."""
    attempts = Attempts(most=1, kept=3, clock=lambda: 0.0)

    waits = [attempts.begin(key) for key in ("a", "b", "c", "d", "d", "a")]

    assert waits == [None, None, None, None, 60.0, None]


async def test_nobody_takes_as_much_work_as_somebody() -> None:
    """The time does not tell which names there are: a hash is compared in any case."""
    passwords = Passwords()
    stored = await asyncio.to_thread(hashed)

    answers = [
        await passwords.right(PASSWORD, stored),
        await passwords.right("wrong password", stored),
        await passwords.right(PASSWORD, None),
    ]

    assert answers == [True, False, False]


# -- how long -------------------------------------------------------------------------------------


async def test_a_sign_in_expires(each_site: Site) -> None:
    """Once its time is over the cookie is worth nothing, and the row goes with the next one."""
    database = each_site.engine.database
    browser = Browser(each_site, await cookie_of(each_site))
    await database.write(_expire, datetime.now(UTC) - timedelta(seconds=1))

    answer = await browser.call("GET", "/api/me")
    await Browser(each_site).sign_in(token=TOKEN)

    assert (answer.status, answer.json["detail"]) == (401, "the sign-in is over; sign in again")
    assert len(await database.read(_expiries)) == 1


async def test_use_keeps_a_sign_in_alive(each_site: Site) -> None:
    """It slides, but is not written with each call."""
    database = each_site.engine.database
    browser = Browser(each_site, await cookie_of(each_site, lasts=timedelta(hours=1)))

    await browser.call("GET", "/api/me")
    first = await database.read(_expiries)
    await browser.call("GET", "/api/me")
    second = await database.read(_expiries)

    assert first[0] > datetime.now(UTC) + timedelta(hours=11)
    assert second == first


# -- out ------------------------------------------------------------------------------------------


async def test_signing_out_ends_the_sign_in(site: Site) -> None:
    """The cookie is taken back, and who kept it is not let in with it."""
    browser = Browser(site, await cookie_of(site))

    answer = await browser.call("POST", "/signout")
    again = await browser.call("POST", "/signout")
    me = await browser.call("GET", "/api/me")

    assert (answer.status, again.status, me.status) == (200, 200, 401)
    assert "Max-Age=0" in answer.headers["Set-Cookie"]


async def test_a_revoked_token_ends_its_sign_ins(each_site: Site) -> None:
    """A cookie is worth no more than what it was given for."""
    database = each_site.engine.database
    token = await database.write(tokens.issue, name="ci", at=datetime.now(UTC))
    browser = Browser(each_site, cookie_in(await Browser(each_site).sign_in(token=token)))

    before = await browser.call("GET", "/api/me")
    await database.write(tokens.revoke, "ci")
    after = await browser.call("GET", "/api/me")

    assert (before.status, after.status) == (200, 401)


async def test_a_configured_token_taken_away_ends_its_sign_ins(local_database: Database) -> None:
    """After a start with another token the old cookies are worth nothing."""
    lasts, at = timedelta(hours=1), datetime.now(UTC)
    holder = Holder("config", "0" * 32)
    value = await local_database.write(users.begin, holder, UserRole.ADMIN, at=at, lasts=lasts)

    async with serving(local_database) as site:
        answer = await Browser(site, value).call("GET", "/api/me")

    assert answer.status == 401


async def test_who_is_removed_is_signed_out(each_site: Site) -> None:
    """Also somebody whose name is given to another person later."""
    database = each_site.engine.database
    browser = Browser(each_site, await cookie_of(each_site))

    await database.write(users.remove, "ann")
    removed = await browser.call("GET", "/api/me")
    await add_person(each_site, "ann", UserRole.ADMIN)
    again = await browser.call("GET", "/api/me")

    assert (removed.status, again.status) == (401, 401)


async def test_another_password_signs_out(each_site: Site) -> None:
    """Whoever knew the old one is out."""
    database = each_site.engine.database
    browser = Browser(each_site, await cookie_of(each_site))

    changed = await database.write(users.change_password, "ann", "another hash")
    answer = await browser.call("GET", "/api/me")

    assert (changed, answer.status) == (True, 401)


async def test_a_password_changed_meanwhile_does_not_sign_in(each_site: Site) -> None:
    """Between comparing and signing in somebody may change it or go."""
    database = each_site.engine.database
    await add_person(each_site)
    lasts, at = timedelta(hours=1), datetime.now(UTC)

    begun = await database.write(users.begin_user, "ann", "the old hash", at=at, lasts=lasts)

    assert begun is None


async def test_a_stream_ends_with_its_sign_in(site: Site) -> None:
    """Whoever was signed out does not read on, however long the stream is open."""
    session = await site.session()
    browser = Browser(site, await cookie_of(site))
    path = f"/api/sessions/{session}/events"

    async with (
        asyncio.timeout(60),
        site.client.get(path, headers=browser.headers) as stream,
    ):
        await stream.content.readline()
        await site.engine.database.write(users.remove, "ann")
        with pytest.raises(aiohttp.ClientPayloadError):
            await stream.read()

    assert stream.status == 200


# -- more than one --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", f"Bearer {TOKEN}"), ("Cookie", "ringback=COOKIE")],
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}")],
        [("Cookie", "ringback=COOKIE; ringback=COOKIE")],
        [("Cookie", "ringback=COOKIE"), ("Cookie", "ringback=other")],
    ],
)
async def test_one_credential_only(site: Site, headers: list[tuple[str, str]]) -> None:
    """Of two we do not guess which is meant."""
    cookie = await cookie_of(site)
    sent = [(name, value.replace("COOKIE", cookie)) for name, value in headers]

    async with site.client.get("/api/me", headers=sent) as answer:
        body = await answer.json(content_type=None)

    assert answer.status == 400
    assert body["detail"].startswith("show one credential only")


async def test_other_cookies_do_not_matter(site: Site) -> None:
    """Neither do those of other services on this machine, nor a proxy's own password."""
    cookie = await cookie_of(site)
    headers = {"Cookie": f"theme=dark; ringback={cookie}; x", "Authorization": "Basic cHJveHk6eA=="}

    answer = await site.call("GET", "/api/me", None, headers, token=None)

    assert (answer.status, answer.json["name"]) == (200, "ann")

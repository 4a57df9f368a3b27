"""The ways in: what is shown of them, who is waiting at the door, and letting them in."""

from __future__ import annotations

import pytest

from service.engine.allowed import Allowed
from service.store import audit
from service.store.database import Database
from tests.console.outside import HOOK_SECRET
from tests.console.site import Site
from tests.telegram.updates import ANN, BOB, BOT, TEAM, USERNAME, group, message, user


class Ticks:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        """How many have passed."""
        return self.at


async def test_webhooks_are_shown_without_their_secrets(each_site: Site) -> None:
    """With their address, how posters prove themselves, and when they last rang."""
    async with each_site.client.post("/hooks/notes", data=b"hello") as posted:
        assert posted.status == 200

    answer = await each_site.get("/api/triggers")

    notes, keyed, _ = answer.json["webhooks"]
    assert HOOK_SECRET not in answer.body.decode()
    assert (notes["url"], notes["auth"], notes["reply"]) == (
        "https://bot.example.org/hooks/notes",
        "none",
        "wait",
    )
    assert (notes["rings"], keyed["rings"], keyed["last_ring_at"]) == (1, 0, None)
    assert notes["last_ring_at"].endswith("Z")
    assert (keyed["auth"], keyed["session"], keyed["permit"]) == (
        "bearer",
        "{{ payload.who }}",
        ["dice"],
    )


async def test_the_bot_is_shown_with_those_at_its_door(each_site: Site) -> None:
    """Each once, the newest first, with a line for the configuration; never the token."""
    ways = each_site.ways
    await ways.update(message("/start", sender=BOB), 1)
    await ways.update(message("let me in", sender=BOB, **{"from": user(BOB, username="bob")}), 2)
    await ways.update(message(f"@{USERNAME} hi", sender=ANN, chat=group()), 3)
    await ways.update(message("hello", sender=ANN), 4)

    answer = await each_site.get("/api/triggers")

    telegram = answer.json["telegram"]
    told = [
        (one["id"], one["kind"], one["name"], one["title"], one["text"], one["line"])
        for one in telegram["pending"]
    ]
    assert "A" * 35 not in answer.body.decode()
    assert (telegram["bot"], telegram["username"], telegram["healthy"]) == (
        str(BOT),
        USERNAME,
        True,
    )
    assert telegram["allow"] == [{"id": ANN, "origin": "config"}]
    assert told == [
        (TEAM, "group", "User 501", "Team", f"@{USERNAME} hi", f"allow = [{TEAM}, {ANN}]"),
        (BOB, "person", "User 502", None, "let me in", f"allow = [{ANN}, {BOB}]"),
    ]
    assert telegram["pending"][1]["username"] == "bob"


async def test_who_only_introduced_themselves_waits_at_the_door(each_site: Site) -> None:
    """The bot tells them their number; the operator sees it, too."""
    await each_site.ways.update(message("/start", sender=BOB), 1)

    pending = (await each_site.get("/api/triggers")).json["telegram"]["pending"]

    assert [(one["id"], one["text"]) for one in pending] == [(BOB, "/start")]


async def test_at_most_twenty_are_shown(site: Site) -> None:
    """The newest, however many knock."""
    for number in range(25):
        await site.ways.update(message("hi", sender=1000 + number), number)

    pending = (await site.get("/api/triggers")).json["telegram"]["pending"]

    assert [one["id"] for one in pending] == [1000 + number for number in range(24, 4, -1)]


async def test_who_is_allowed_may_write_until_they_are_not(each_site: Site) -> None:
    """The next message counts; both are written down."""
    allowed = await each_site.call("POST", "/api/telegram/allow", {"id": BOB})
    again = await each_site.call("POST", "/api/telegram/allow", {"id": BOB})
    await each_site.ways.update(message("hello", sender=BOB), 1)
    shown = (await each_site.get("/api/triggers")).json["telegram"]

    gone = await each_site.call("DELETE", f"/api/telegram/allow/{BOB}")
    missing = await each_site.call("DELETE", f"/api/telegram/allow/{BOB}")
    await each_site.ways.update(message("hello again", sender=BOB), 2)

    inbox = (await each_site.get("/api/inbox")).json["inbox"]
    entries = await each_site.engine.database.read(audit.newest, limit=10)
    assert (allowed.status, again.status) == (201, 200)
    assert shown["allow"] == [{"id": ANN, "origin": "config"}, {"id": BOB, "origin": "made"}]
    assert (gone.status, missing.status) == (204, 404)
    assert [one["state"] for one in inbox] == ["ignored", "accepted"]
    assert [(one.action, one.detail) for one in entries] == [
        ("telegram.disallow", {"id": BOB}),
        ("telegram.allow", {"id": BOB}),
    ]


async def test_other_replicas_know_within_two_seconds(database: Database) -> None:
    """They ask again once what they know is a second old, and not before."""
    ticks = Ticks()
    here, there = Allowed(database), Allowed(database, clock=ticks)
    before = await there.ids()

    await here.add(BOB, by="operator")
    at_once = await there.ids()
    ticks.at = 1.0
    later = await there.ids()

    assert (before, at_once, later) == (frozenset(), frozenset(), frozenset({BOB}))


async def test_the_configuration_keeps_its_own(site: Site) -> None:
    """Who stands there need not be allowed, and cannot be shut out here."""
    allowed = await site.call("POST", "/api/telegram/allow", {"id": ANN})
    gone = await site.call("DELETE", f"/api/telegram/allow/{ANN}")

    assert (allowed.status, allowed.json["origin"]) == (200, "config")
    assert (gone.status, "take it out of telegram.allow" in gone.json["detail"]) == (409, True)


@pytest.mark.parametrize("given", [None, "502", True, 0, 2**60, 1.5, [502]])
async def test_only_a_number_can_be_allowed(site: Site, given: object) -> None:
    """User names change hands."""
    answer = await site.call("POST", "/api/telegram/allow", {"id": given})

    assert (answer.status, answer.json["detail"].partition(":")[0]) == (400, "id")


@pytest.mark.parametrize("given", ["bob", "1e3", "9" * 40, "--5", "%00"])
async def test_what_is_no_number_is_not_allowed_anyway(site: Site, given: str) -> None:
    """A mistake in the address is told as one."""
    answer = await site.call("DELETE", f"/api/telegram/allow/{given}")

    assert answer.status == 400

"""Another try with what went wrong: deliveries that did not arrive, and what nobody understood."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from service.core.model import Channel, DeliveryId
from service.core.states import DeliveryState, InboxState
from service.store import audit, deliveries, tables
from service.store.deliveries import NewDelivery
from tests.console.outside import HOOK_SECRET
from tests.console.site import Site
from tests.engine.engine import CHAT
from tests.telegram.updates import ANN, BOB, BOT, message

CHANCE = timedelta()


async def ended(site: Site, state: DeliveryState, *, opened: int = 0) -> dict[str, Any]:
    """A delivery of a turn that came out like this, with so many parts that were opened."""
    accepted = await site.engine.accept("hi", answer_to=(CHAT,))
    await site.engine.result(accepted.turn)
    async with asyncio.timeout(60):
        found = await newest(site)
        while found["state"] != "sent":
            found = await newest(site)
    await site.engine.database.write(_end, DeliveryId(found["delivery"]), state, opened)
    return await newest(site)


async def newest(site: Site) -> dict[str, Any]:
    """The newest delivery."""
    found: dict[str, Any] = (await site.get("/api/deliveries?limit=1")).json["deliveries"][0]
    return found


async def replay(site: Site, delivery: Mapping[str, Any], body: object = None) -> Any:
    """Ask for a delivery to be sent again."""
    return await site.call("POST", f"/api/deliveries/{delivery['delivery']}/replay", body)


def _end(conn: sa.Connection, id_: DeliveryId, state: DeliveryState, opened: int) -> None:
    table, parts = tables.deliveries, tables.delivery_parts
    conn.execute(parts.delete().where(parts.c.delivery_id == id_))
    for number in range(opened):
        row = {"delivery_id": id_, "number": number, "external_id": str(number)}
        conn.execute(parts.insert().values(row))
    values = {"state": state.value, "error": "gone", "finished_at": datetime.now(UTC)}
    conn.execute(table.update().where(table.c.id == id_).values(values))


async def test_a_failed_delivery_is_sent_again_as_a_new_one(each_site: Site) -> None:
    """The old one stays as it was and tells of the new one, which belongs to the same turn."""
    failed = await ended(each_site, DeliveryState.FAILED)

    answer = await replay(each_site, failed)
    async with asyncio.timeout(60):
        while (await newest(each_site))["state"] != "sent":
            pass

    new, old = (await each_site.get("/api/deliveries")).json["deliveries"]
    assert (answer.status, answer.json) == (
        202,
        {"delivery": new["delivery"], "replaces": failed["delivery"]},
    )
    assert (old["state"], old["error"], old["replayed_as"]) == ("failed", "gone", new["delivery"])
    assert (new["turn"], new["session"], new["address"]) == (
        failed["turn"],
        failed["session"],
        failed["address"],
    )
    assert old["turn"] == failed["turn"]
    assert len(each_site.engine.sender.seen) == 2


async def test_what_may_have_arrived_is_sent_again_only_when_confirmed(each_site: Site) -> None:
    """It may come twice: somebody has to want that. Both attempts are written down."""
    uncertain = await ended(each_site, DeliveryState.UNCERTAIN)

    unconfirmed = await replay(each_site, uncertain)
    confirmed = await replay(each_site, uncertain, {"confirm": True})

    entries = await each_site.engine.database.read(audit.newest, limit=10)
    assert (unconfirmed.status, confirmed.status) == (409, 202)
    assert '"confirm": true' in unconfirmed.json["detail"]
    assert [(one.action, one.allowed) for one in entries] == [
        ("delivery.replay", True),
        ("delivery.replay", False),
    ]


async def test_what_arrived_in_part_needs_to_be_confirmed_too(site: Site) -> None:
    """The parts that arrived would come twice."""
    failed = await ended(site, DeliveryState.FAILED, opened=1)

    unconfirmed = await replay(site, failed)
    confirmed = await replay(site, failed, {"confirm": True})

    assert (unconfirmed.status, confirmed.status) == (409, 202)


async def test_a_delivery_is_replaced_once(each_site: Site) -> None:
    """Two operators who press at the same time send one message."""
    failed = await ended(each_site, DeliveryState.FAILED)

    answers = await asyncio.gather(*(replay(each_site, failed) for _ in range(4)))

    assert sorted(one.status for one in answers) == [202, 409, 409, 409]


@pytest.mark.parametrize("state", [DeliveryState.SENT, DeliveryState.PENDING])
async def test_what_is_well_is_left_alone(site: Site, state: DeliveryState) -> None:
    """What has arrived, or is on its way."""
    if state is DeliveryState.SENT:
        found = await ended(site, state)
    else:
        # Nobody sends to this channel here, so it stays where it is.
        new = NewDelivery(CHAT, text="hi")
        await site.engine.posts.drain(grace=CHANCE)
        await site.engine.database.write(deliveries.insert, [new], at=datetime.now(UTC))
        found = await newest(site)

    answer = await replay(site, found)

    assert answer.status == 409


@pytest.mark.parametrize(
    ("delivery", "body", "status"),
    [
        ("nothing", None, 404),
        ("%00", None, 404),
        ("0" * 36, None, 404),
        ("0" * 36, {"confirm": "yes"}, 400),
        ("0" * 36, [], 400),
    ],
)
async def test_a_mistake_is_told_as_one(
    each_site: Site, delivery: str, body: object, status: int
) -> None:
    """Never a 500."""
    answer = await each_site.call("POST", f"/api/deliveries/{delivery}/replay", body)

    assert answer.status == status


async def test_deliveries_are_read_page_by_page(each_site: Site) -> None:
    """The newest first; the cursor leads to the page after."""
    await each_site.engine.posts.drain(grace=CHANCE)
    new = [NewDelivery(CHAT, text=str(number)) for number in range(5)]
    await each_site.engine.database.write(deliveries.insert, new, at=datetime.now(UTC))

    first = (await each_site.get("/api/deliveries?limit=3")).json
    second = (await each_site.get(f"/api/deliveries?limit=3&cursor={first['next']}")).json
    wrong = await each_site.get("/api/deliveries?cursor=x")

    assert [one["text"] for one in first["deliveries"]] == ["4", "3", "2"]
    assert [one["text"] for one in second["deliveries"]] == ["1", "0"]
    assert (second["next"], wrong.status) == (None, 400)


# -- what nobody understood -----------------------------------------------------------------------


async def quarantine(site: Site, channel: Channel, source: str, key: str, body: bytes) -> None:
    """Keep something as if it had not been understood when it came."""
    state = InboxState.QUARANTINED
    await site.engine.intake.note(channel, source, key, state=state, reason="odd", body=body)


async def again(site: Site, channel: str, source: str, key: str) -> Any:
    """Ask for something to be tried again."""
    body = {"channel": channel, "source": source, "event_key": key}
    return await site.call("POST", "/api/inbox/replay", body)


async def states(site: Site) -> dict[str, str]:
    """What became of everything received, by its key."""
    found = (await site.get("/api/inbox")).json["inbox"]
    return {one["event_key"]: one["state"] for one in found}


def update(text: str, *, sender: int = ANN) -> bytes:
    """An update as it is stored."""
    return json.dumps(message(text, sender=sender)).encode()


async def test_an_update_is_tried_again_once(each_site: Site) -> None:
    """It becomes a turn and leaves quarantine; after that there is nothing to try."""
    await quarantine(each_site, Channel.TELEGRAM, str(BOT), "17", update("hello"))

    first = await again(each_site, "telegram", str(BOT), "17")
    second = await again(each_site, "telegram", str(BOT), "17")

    turn = (await each_site.get(f"/api/turns/{first.json['turn']}?wait=60")).json
    (entry,) = await each_site.engine.database.read(audit.newest, limit=10)
    assert (first.status, first.json["state"], turn["state"]) == (200, "accepted", "succeeded")
    assert (second.status, "quarantine" in second.json["detail"]) == (409, True)
    assert await states(each_site) == {"17": "accepted", "retry:17": "accepted"}
    assert (entry.action, entry.detail["event_key"]) == ("inbox.replay", "17")


async def test_tried_twice_at_once_it_rings_once(each_site: Site) -> None:
    """Whoever comes second finds the ring of the first."""
    await quarantine(each_site, Channel.TELEGRAM, str(BOT), "17", update("hello"))

    answers = await asyncio.gather(
        *(again(each_site, "telegram", str(BOT), "17") for _ in range(4))
    )

    sessions = (await each_site.get("/api/sessions")).json["sessions"]
    told = await each_site.get(f"/api/sessions/{sessions[0]['session']}/messages")
    said = [one for one in told.json["messages"] if one["role"] == "user"]
    assert {one.status for one in answers} <= {200, 409}
    assert [one.status for one in answers].count(200) == 1
    assert (len(sessions), len(said)) == (1, 1)


async def test_who_may_not_write_is_refused_still(site: Site) -> None:
    """Another try changes nothing about who may use the bot."""
    await quarantine(site, Channel.TELEGRAM, str(BOT), "17", update("hello", sender=BOB))

    answer = await again(site, "telegram", str(BOT), "17")

    assert (answer.status, answer.json["state"], answer.json["turn"]) == (200, "ignored", None)


@pytest.mark.parametrize(
    "body", [b"not json", b"[]", b'{"update_id": 1, "message": 5}', b'{"message": {"chat": {}}}']
)
async def test_what_is_still_not_understood_stays(each_site: Site, body: bytes) -> None:
    """With the reason; it can be tried again after the next release."""
    await quarantine(each_site, Channel.TELEGRAM, str(BOT), "17", body)

    answer = await again(each_site, "telegram", str(BOT), "17")

    assert answer.status == 422
    assert answer.json["detail"].startswith("it still cannot be understood: ")
    assert await states(each_site) == {"17": "quarantined"}


async def test_a_post_is_tried_again_under_the_key_of_its_sender(each_site: Site) -> None:
    """Once the template is mended; posted again meanwhile it still rings once."""
    body = b'{"who": "ann", "what": "hi"}'
    await quarantine(each_site, Channel.WEBHOOK, "keyed", "unfit:key:one", body)
    headers = {
        "Authorization": f"Bearer {HOOK_SECRET}",
        "Content-Type": "application/json",
        "Idempotency-Key": "one",
    }
    async with each_site.client.post("/hooks/keyed", data=body, headers=headers) as posted:
        rung = await posted.json()

    answer = await again(each_site, "webhook", "keyed", "unfit:key:one")

    assert (answer.status, answer.json["turn"]) == (200, rung["turn"])
    assert await states(each_site) == {"key:one": "accepted", "unfit:key:one": "accepted"}


@pytest.mark.parametrize(
    ("source", "body", "problem"),
    [
        ("keyed", b'{"who": "ann"}', "the template does not fit this post"),
        ("keyed", b"\xff", "the template does not fit this post"),
        ("headers", b"hi", "the templates look at headers or query, which were not kept"),
        (
            "notes",
            b'{"body": "", "files": [{"name": "a", "media_type": "b", "size": 1, "sha256": ""}]}',
            "the post had files, which were not kept",
        ),
        ("gone", b"hi", "there is no webhook 'gone' any more"),
    ],
)
async def test_a_post_that_cannot_be_tried_says_why(
    site: Site, source: str, body: bytes, problem: str
) -> None:
    """And what its sender can do."""
    await quarantine(site, Channel.WEBHOOK, source, "unfit:one", body)

    answer = await again(site, "webhook", source, "unfit:one")

    told = answer.json["detail"].removeprefix("it still cannot be understood: ")
    assert (answer.status, told.startswith(problem)) == (422, True), answer.json


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"channel": "post", "source": "a", "event_key": "b"}, 400),
        ({"channel": ["telegram"], "source": "a", "event_key": "b"}, 400),
        ({"channel": "telegram", "event_key": "b"}, 400),
        ({"channel": "telegram", "source": "a", "event_key": 5}, 400),
        ({"channel": "telegram", "source": "a\0", "event_key": "\ud800"}, 404),
        ([], 400),
    ],
)
async def test_what_cannot_be_tried_is_told(each_site: Site, body: object, status: int) -> None:
    """Never a 500."""
    answer = await each_site.call("POST", "/api/inbox/replay", body)

    assert answer.status == status

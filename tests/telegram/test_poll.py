"""Polling: stored before it is confirmed, one poller per bot, and no failure ends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from handlers.telegram.channel import TelegramChannel
from service.store import tables
from service.store.database import Database
from tests.telegram.server import Server
from tests.telegram.station import POLL, Station
from tests.telegram.updates import BOT, Raw, message, press


@pytest.fixture
def station(database: Database) -> Station:
    return Station(database)


@asynccontextmanager
async def polling(station: Station, server: Server) -> AsyncGenerator[TelegramChannel]:
    """A channel that polls until the end of the block."""
    channel = station.channel(server.url)
    await channel.start()
    try:
        yield channel
    finally:
        await channel.stop()
        await channel.close()


async def until(claim: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(60):
        while not claim():
            await asyncio.sleep(0.005)


async def test_an_update_is_stored_and_then_confirmed(station: Station, server: Server) -> None:
    """The offset moves by the next fetch, and the turn is there by then."""
    async with polling(station, server):
        await server.push(message("Hello"))
        await server.until_confirmed()

        assert await station.turns() == [("queued", "telegram:501")]


async def test_polling_asks_for_what_we_read_and_drops_nothing(
    station: Station, server: Server
) -> None:
    """A webhook that was set is taken away, pending updates stay."""
    async with polling(station, server):
        await server.until_called("getUpdates")

    assert server.of("deleteWebhook") == [{"drop_pending_updates": False}]
    assert (server.of("getUpdates")[0]["allowed_updates"]) == [
        "message",
        "edited_message",
        "callback_query",
        "my_chat_member",
    ]


async def test_clients_are_offered_our_commands(station: Station, server: Server) -> None:
    """The menu is set when polling begins."""
    async with polling(station, server):
        await server.until_called("getUpdates")

    [menu] = server.of("setMyCommands")
    assert [one["command"] for one in menu["commands"]] == [
        *("new", "stop", "interrupt", "status", "sessions"),
        *("projects", "results", "disposition"),
        *("title", "pin", "unpin", "archive", "restore"),
        *("voices", "mode", "to", "rounds"),
        *("clear", "compact", "rerun", "knobs", "set", "help"),
    ]


async def test_what_is_not_stored_is_not_confirmed(station: Station, server: Server) -> None:
    """While the database is out the update waits at Telegram, and is taken afterwards."""
    async with polling(station, server) as channel:
        await server.until_called("getUpdates")
        await station.database.close()
        await server.push(message("Hello"))
        await until(lambda: not channel.healthy)
        pending = server.unconfirmed
        await station.database.open()
        await server.until_confirmed()

        assert pending == 1
        assert await station.said() == ["Hello"]


async def test_a_malformed_update_does_not_hold_up_the_next(
    station: Station, server: Server
) -> None:
    """It is set aside with its reason; both are confirmed."""
    broken: Raw = {"message": {"chat": {"id": "x"}}}
    async with polling(station, server):
        await server.push(message("One"), broken, message("Two"))
        await server.until_confirmed()

        assert [state for state, _ in await station.inbox()] == [
            "accepted",
            "quarantined",
            "accepted",
        ]


@pytest.mark.parametrize("poison", [b"}", b', "n": ' + b"1" * 5000 + b"}", b"[" * 100_000])
async def test_an_answer_that_is_not_json_is_taken_apart(
    station: Station, server: Server, poison: bytes
) -> None:
    """One unreadable update is fetched alone, set aside, and the next one follows."""
    whole = b'{"ok": true, "result": [{"update_id": 900001, "x": {' + poison + b"]}"
    async with polling(station, server) as channel:
        await server.until_called("getUpdates")
        for _ in range(2):
            await server.inject_answer(whole)
        await server.push(message("skipped in place of the poison"), message("Hello"))
        await server.until_confirmed()
        await until(lambda: channel.healthy)

        assert [state for state, _ in await station.inbox()] == ["quarantined", "accepted"]
        assert await station.said() == ["Hello"]


async def test_an_update_without_a_number_is_not_asked_for_in_a_loop(
    station: Station, server: Server
) -> None:
    """It cannot be confirmed alone; it is kept once, and the loop takes its time."""
    whole = json.dumps({"ok": True, "result": [{"message": {}}]}).encode()
    for _ in range(2):
        await server.inject_answer(whole)
    async with polling(station, server):
        await server.until_called("getUpdates", 4)

        assert await station.inbox() == [("quarantined", "the update has no number")]


async def test_a_repeated_update_makes_no_second_turn(station: Station, server: Server) -> None:
    """After a restart Telegram may send again what was stored but not confirmed."""
    async with polling(station, server):
        await server.push(message("Hello"))
        kept = server.pending()
        await server.until_confirmed()
    await server.push_numbered(*kept)
    async with polling(station, server):
        await server.until_confirmed()

    assert len(await station.turns()) == 1


async def test_numbers_that_begin_anew_are_seen(station: Station, server: Server) -> None:
    """After a silent week update numbers start again anywhere, also lower down."""
    async with polling(station, server):
        await server.push(message("Hello"))
        await server.until_confirmed()
        await until(lambda: "offset" not in server.of("getUpdates")[-1])
        await server.push_numbered(message("Again") | {"update_id": 3})
        await server.until_confirmed()

        assert await station.said() == ["Hello", "Again"]


async def test_one_replica_polls_and_the_other_waits(station: Station, server: Server) -> None:
    """Two pollers would only throw each other out; the second takes over when the first stops."""
    other = Station(station.database, owner="two")
    async with polling(other, server) as waiting:
        await server.until_called("getUpdates")
        second = station.channel(server.url)
        await second.start()
        await asyncio.sleep(POLL.standby.total_seconds() * 3)
        asked, healthy = len(server.of("getMe")), second.healthy
        await waiting.stop()
        await server.until_called("getMe", 2)
        await second.stop()
        await second.close()

    assert (asked, healthy) == (1, True)


async def test_who_lost_the_lease_stops_polling(station: Station, server: Server) -> None:
    """Somebody else polls by then."""
    async with polling(station, server):
        await server.until_called("getUpdates")
        thief = sa.update(tables.leases).values(owner="thief", epoch=99, lease_until=sa.func.now())
        await station.database.write(_execute, thief)
        await until(lambda: len(server.of("getMe")) == 2)

    assert len(server.of("deleteWebhook")) == 2


@pytest.mark.parametrize(
    ("status", "description"),
    [
        (409, "terminated by other getUpdates request"),
        (502, "Bad Gateway"),
        (401, "Unauthorized"),
    ],
)
async def test_polling_survives_every_failure(
    station: Station, server: Server, status: int, description: str
) -> None:
    """It backs off, says that it is not well, and goes on."""
    server.fail("getUpdates", status, description, times=3)
    async with polling(station, server) as channel:
        await until(lambda: not channel.healthy)
        await server.push(message("Hello"))
        await server.until_confirmed()
        await until(lambda: channel.healthy)

        assert await station.said() == ["Hello"]


async def test_the_service_starts_without_telegram(station: Station, server: Server) -> None:
    """Start returns at once; when Telegram is there, updates come in."""
    server.fail("getMe", 502, "Bad Gateway", times=3)
    async with polling(station, server) as channel:
        await until(lambda: not channel.healthy)
        await server.push(message("Hello"))
        await server.until_confirmed()

        assert await station.said() == ["Hello"]


async def test_a_flood_answer_is_obeyed(station: Station, server: Server) -> None:
    """The next fetch comes no earlier than asked for."""
    server.fail("getUpdates", 429, "Too Many Requests: retry after 1", retry_after=1)
    async with polling(station, server):
        await server.until_called("getUpdates", 2)

    first, second = [call.at for call in server.calls if call.method == "getUpdates"][:2]
    assert second - first >= 1


async def test_stopping_confirms_what_is_stored(station: Station, server: Server) -> None:
    """The next process need not fetch it again, and nothing is half done."""
    async with polling(station, server) as channel:
        await server.until_called("getUpdates")
        await server.push(message("Hello"), press("stop:1"))
        await until(lambda: bool(channel.healthy and len(server.of("getUpdates")) > 1))
        await channel.stop()
        asked = len(server.of("getUpdates"))

        assert server.unconfirmed == 0
        assert (server.of("answerCallbackQuery")) == [
            {"callback_query_id": "4382bf", "text": "It is over already."}
        ]
    assert asked == len(server.of("getUpdates"))


async def test_a_poller_that_never_ran_stops(station: Station, server: Server) -> None:
    """Stopping twice, or before the first fetch, does no harm."""
    channel = station.channel(server.url)
    await channel.stop()
    await channel.start()
    await channel.stop()
    await channel.stop()
    await channel.close()

    assert not channel.healthy
    assert str(BOT) == channel.bot


def _execute(conn: sa.Connection, statement: sa.Update) -> None:
    conn.execute(statement)

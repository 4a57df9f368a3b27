"""Webhook mode: only Telegram posts, 200 means stored, and registration survives failures."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from handlers.http import problems_middleware
from handlers.telegram.channel import TelegramChannel
from service.config import Secret
from service.errors import ConfigError
from service.store.database import Database
from tests.telegram.server import Server
from tests.telegram.station import AGENTS, SECRET, Station
from tests.telegram.updates import BOT, message

Poster = TestClient[web.Request, web.Application]

PATH = f"/telegram/{BOT}"
HEADERS = {"X-Telegram-Bot-Api-Secret-Token": SECRET}
UPDATE = message("Hello")


@pytest.fixture
def station(database: Database) -> Station:
    return Station(database)


@pytest.fixture
async def channel(station: Station, server: Server) -> AsyncGenerator[TelegramChannel]:
    """A channel that Telegram posts to."""
    channel = station.channel(server.url, mode="webhook", secret=Secret(SECRET))
    yield channel
    await channel.stop()
    await channel.close()


@pytest.fixture
async def poster(channel: TelegramChannel, server: Server) -> AsyncGenerator[Poster]:
    """Telegram, as our server sees it."""
    app = web.Application(middlewares=[problems_middleware])
    app.add_routes(channel.routes())
    async with TestClient(TestServer(app)) as poster:
        yield poster


@pytest.fixture
async def ready(channel: TelegramChannel, server: Server) -> None:
    """The channel has told Telegram where to post."""
    await channel.start()
    await server.until_called("setWebhook")


async def until_healthy(channel: TelegramChannel) -> None:
    async with asyncio.timeout(60):
        while not channel.healthy:
            await asyncio.sleep(0.005)


async def test_telegram_is_told_where_to_post(ready: None, server: Server) -> None:
    """With the secret, the kinds we read, and without dropping what waits."""
    [hook] = server.of("setWebhook")

    assert {
        "url": f"https://bot.example.org{PATH}",
        "secret_token": SECRET,
        "allowed_updates": ["message", "edited_message", "callback_query", "my_chat_member"],
        "drop_pending_updates": False,
    } == hook


async def test_registration_is_tried_until_it_works(
    channel: TelegramChannel, server: Server
) -> None:
    """Telegram being down at the start is no reason to stay deaf."""
    server.fail("getMe", 502, "Bad Gateway")
    server.fail("setWebhook", 500, "Oops")
    await channel.start()
    before = channel.healthy
    await until_healthy(channel)

    assert not before


@pytest.mark.usefixtures("ready")
async def test_a_post_is_stored_before_its_answer(
    channel: TelegramChannel, station: Station, poster: Poster
) -> None:
    """200 with nothing in it: the turn is there."""
    await until_healthy(channel)
    response = await poster.post(PATH, json=UPDATE, headers=HEADERS)

    assert (response.status, await response.read()) == (200, b"")
    assert await station.turns() == [("queued", "telegram:501")]
    assert [json.dumps(UPDATE).encode()] == await station.bodies()


@pytest.mark.usefixtures("ready")
async def test_a_second_delivery_makes_no_second_turn(
    channel: TelegramChannel, station: Station, poster: Poster
) -> None:
    """Telegram repeats what it got no answer for; it is told that all is well."""
    await until_healthy(channel)
    responses = await asyncio.gather(
        *(poster.post(PATH, json=UPDATE, headers=HEADERS) for _ in range(20))
    )

    assert {200} == {response.status for response in responses}
    assert len(await station.turns()) == 1


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + "x", SECRET[:-1], "\u00fc"])
async def test_only_telegram_may_post(
    channel: TelegramChannel, station: Station, poster: Poster, secret: str | None
) -> None:
    """Without the secret nothing is read, let alone stored."""
    await until_healthy(channel)
    headers = {} if secret is None else {"X-Telegram-Bot-Api-Secret-Token": secret}
    response = await poster.post(PATH, json=UPDATE, headers=headers)

    assert (response.status, await station.inbox()) == (401, [])


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"7" * 5000])
async def test_what_is_not_json_is_set_aside(
    channel: TelegramChannel, station: Station, poster: Poster, body: bytes
) -> None:
    """A refusal would make Telegram repeat it for a day and hold up its chat."""
    await until_healthy(channel)
    response = await poster.post(PATH, data=body, headers=HEADERS)

    assert response.status == 200
    assert [state for state, _ in await station.inbox()] == ["quarantined"]


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("body", [{}, [], 7, {"update_id": 1, "message": {}}])
async def test_what_is_no_update_is_set_aside(
    channel: TelegramChannel, station: Station, poster: Poster, body: object
) -> None:
    """Malformed updates are kept for people and never repeated."""
    await until_healthy(channel)
    response = await poster.post(PATH, json=body, headers=HEADERS)

    assert response.status == 200
    assert [state for state, _ in await station.inbox()] == ["quarantined"]


@pytest.mark.usefixtures("ready")
async def test_more_than_an_update_can_be_is_refused(
    channel: TelegramChannel, poster: Poster
) -> None:
    """Nobody fills our memory, not even with the secret."""
    await until_healthy(channel)
    response = await poster.post(PATH, data=io.BytesIO(b" " * 1_100_000), headers=HEADERS)

    assert response.status == 413


@pytest.mark.usefixtures("ready")
async def test_what_cannot_be_stored_is_to_come_again(
    channel: TelegramChannel, station: Station, poster: Poster
) -> None:
    """503 with a time: Telegram keeps the update."""
    await until_healthy(channel)
    await station.database.close()
    response = await poster.post(PATH, json=UPDATE, headers=HEADERS)
    await station.database.open()
    again = await poster.post(PATH, json=UPDATE, headers=HEADERS)

    assert (response.status, response.headers["Retry-After"], again.status) == (503, "5", 200)
    assert len(await station.turns()) == 1


async def test_a_bot_that_does_not_know_its_name_asks_for_patience(poster: Poster) -> None:
    """It could not tell whether a group speaks to it."""
    response = await poster.post(PATH, json=UPDATE, headers=HEADERS)

    assert response.status == 503


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", PATH, 405), ("POST", "/telegram/7", 404)]
)
async def test_other_requests_are_not_ours(
    poster: Poster, method: str, path: str, status: int
) -> None:
    """One route for one bot."""
    response = await poster.request(method, path, headers=HEADERS)

    assert status == response.status


async def test_polling_has_no_route(station: Station, server: Server) -> None:
    """Nothing listens when we fetch."""
    channel = station.channel(server.url)
    await channel.close()

    assert channel.routes() == []


async def test_a_webhook_without_an_address_is_a_mistake(station: Station, server: Server) -> None:
    """It is told before anything starts, with its path in the file."""
    settings = station.settings(server.url, mode="webhook", secret=Secret(SECRET))

    with pytest.raises(ConfigError) as caught:
        TelegramChannel(
            settings,
            agents=AGENTS,
            intake=station.engine.intake,
            controls=station.engine.controls,
            leases=station.leases,
            public_url=None,
        )

    assert str(caught.value) == 'server.public_url: needed for telegram.mode = "webhook"'


async def test_a_channel_shows_no_secrets(channel: TelegramChannel) -> None:
    """Its name is the bot's number."""
    assert f"TelegramChannel(bot={BOT})" == repr(channel)


@asynccontextmanager
async def registered(station: Station, server: Server) -> AsyncGenerator[TelegramChannel]:
    """A channel that the Bot API server itself reaches over HTTP."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    channel = station.channel(server.url, mode="webhook", secret=Secret(SECRET), public_url=url)
    app = web.Application(middlewares=[problems_middleware])
    app.add_routes(channel.routes())
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    await channel.start()
    try:
        yield channel
    finally:
        await channel.stop()
        await channel.close()
        await runner.cleanup()


async def test_telegram_itself_posts_and_repeats(station: Station, server: Server) -> None:
    """From setWebhook to the stored turn, although the database was out at first."""
    await station.database.close()
    async with registered(station, server) as channel:
        await until_healthy(channel)
        await server.push(UPDATE)
        await asyncio.sleep(0.1)
        waiting = server.unconfirmed
        await station.database.open()
        await server.until_confirmed()

    assert (waiting, await station.said()) == (1, ["Hello"])

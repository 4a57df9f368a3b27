"""Files from chats: fetched when they are needed, never more of them than may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import structlog
from aiohttp import web

from handlers.telegram.client import Client, TokenRefused
from service.errors import ChannelBusy, ChannelDown, ChannelError
from service.ports import Files, Finished, Media, TextDelta
from service.store.database import Database
from tests.fakes import ScriptedAgents
from tests.telegram.conversing import conversing, until_text
from tests.telegram.server import TOKEN, Server
from tests.telegram.station import Station
from tests.telegram.updates import ANN

DATA = b"\x89PNG" + bytes(1000)


async def sent(server: Server, data: bytes = DATA) -> str:
    """A photo somebody sent; what it is fetched by."""
    await server.send_file("photo", data, chat=ANN)
    return str(server.pending()[-1]["message"]["photo"][0]["file_id"])


async def test_a_file_is_fetched_whole(server: Server, client: Client) -> None:
    """By its id, over HTTP, as it was sent."""
    files: Files = client

    assert await files.fetch(await sent(server), limit=len(DATA)) == DATA


@pytest.mark.parametrize(
    ("method", "status", "error"),
    [
        ("getFile", 400, ChannelError),
        ("getFile", 401, TokenRefused),
        ("getFile", 429, ChannelBusy),
        ("getFile", 500, ChannelDown),
        ("download", 400, ChannelError),
        ("download", 401, TokenRefused),
        ("download", 404, ChannelError),
        ("download", 302, ChannelError),
        ("download", 429, ChannelBusy),
        ("download", 502, ChannelDown),
    ],
)
async def test_a_refusal_says_whether_to_try_again(
    server: Server, client: Client, method: str, status: int, error: type[ChannelError]
) -> None:
    """What may pass is not taken for the end of it; no error shows the token."""
    file = await sent(server)
    server.fail(method, status)

    with pytest.raises(ChannelError) as caught:
        await client.fetch(file, limit=10_000)

    assert error is type(caught.value)
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("method", ["getFile", "download"])
async def test_a_cut_connection_may_pass(server: Server, client: Client, method: str) -> None:
    """Fetching changes nothing, so there is no doubt to keep."""
    file = await sent(server)
    server.drop(method, applied=True, times=2)

    with pytest.raises(ChannelDown) as caught:
        await client.fetch(file, limit=10_000)

    assert TOKEN not in str(caught.value)


async def test_an_unknown_file_never_comes(client: Client) -> None:
    """Nobody tries again."""
    with pytest.raises(ChannelError) as caught:
        await client.fetch("nonsense", limit=10)

    assert caught.value.permanent


async def test_a_file_that_is_too_large_is_not_fetched(server: Server, client: Client) -> None:
    """What Telegram says of its size is enough."""
    with pytest.raises(ChannelError, match="more than 999 bytes"):
        await client.fetch(await sent(server), limit=999)

    assert server.called("download") == []


async def test_a_length_that_is_too_large_is_not_read(server: Server, client: Client) -> None:
    """Whatever getFile said before."""
    file = await sent(server, b"small")
    server.answer_with("download", bytes(2000))

    with pytest.raises(ChannelError, match="more than 1000 bytes"):
        await client.fetch(file, limit=1000)


async def tell_place(_: web.Request) -> web.Response:
    """Answer getFile, without a size."""
    told = {"file_id": "f", "file_unique_id": "u", "file_path": "photos/1"}
    return web.json_response({"ok": True, "result": told})


async def never_end(request: web.Request) -> web.StreamResponse:
    """Send bytes until nobody reads them."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(10_000))


@asynccontextmanager
async def endless() -> AsyncGenerator[str]:
    """A Bot API server whose files never end and do not say how long they are."""
    app = web.Application()
    app.router.add_post("/base/bot{token}/getFile", tell_place)
    app.router.add_get("/base/file/bot{token}/photos/1", never_end)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/base/"
    finally:
        await runner.cleanup()


async def test_no_more_is_read_than_may_be() -> None:
    """A stream without an end fills no memory; the address of the server may have a path."""
    async with endless() as url, asyncio.timeout(60):
        client = Client(TOKEN, api_base_url=url)
        with pytest.raises(ChannelError, match="more than 50000 bytes"):
            await client.fetch("f", limit=50_000)
        await client.close()


async def test_a_way_to_a_disk_is_not_followed(server: Server, client: Client) -> None:
    """A Bot API server that runs with --local tells a path of its own machine."""
    body = b'{"ok":true,"result":{"file_id":"f","file_unique_id":"u","file_path":"%s"}}'
    server.answer_with("getFile", body % __file__.encode())

    with pytest.raises(ChannelError, match="does not offer its files"):
        await client.fetch("f", limit=10)


async def test_the_token_is_in_no_log(server: Server, client: Client) -> None:
    """It is in the address of every file."""
    file = await sent(server)
    server.drop("download", applied=False, times=2)

    with structlog.testing.capture_logs() as logs, pytest.raises(ChannelError):
        await client.fetch(file, limit=10_000)

    assert TOKEN not in str(logs)


async def test_a_photo_reaches_the_model(
    database: Database, server: Server, client: Client
) -> None:
    """With its caption, from the update to the prompt; a voice message is only named to it."""
    agents = ScriptedAgents(
        [[TextDelta("A cat."), Finished()], [TextDelta("Hm."), Finished()]],
        media_types=frozenset({"image/jpeg"}),
    )

    async with conversing(database, server, client, agents):
        await server.send_file("photo", DATA, chat=ANN, caption="What is it?")
        await until_text(server, "A cat.")
        await server.send_file("voice", b"OggS", chat=ANN, caption="And this?")
        await until_text(server, "Hm.")

    said = agents.prompts[0].history[-1]
    assert "What is it?" in said.text
    assert said.media == (Media("photo.jpg", "image/jpeg", DATA),)
    assert agents.prompts[1].history[-1].media == ()
    assert len(server.called("download")) == 1


async def test_the_channel_offers_its_files(station: Station, server: Server) -> None:
    """The engine fetches through it."""
    channel = station.channel(server.url)
    data = await channel.files.fetch(await sent(server), limit=10_000)
    await channel.close()

    assert data == DATA


@pytest.fixture
def station(database: Database) -> Station:
    return Station(database)

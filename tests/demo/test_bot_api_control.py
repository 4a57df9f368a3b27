"""Steering the local Bot API server from another process: the same methods do the same."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import aiohttp
import pytest

from service.demo.bot_api.control import BotApiControl, ControlledBotApi, started
from service.demo.bot_api.server import BotApi
from tests.demo.caller import ANN, GROUP, TEAM, Caller, button

# What both have: an action is awaited, whichever it is.
Server = BotApi | BotApiControl


@pytest.fixture(params=["directly", "by HTTP"])
async def server(request: pytest.FixtureRequest) -> AsyncGenerator[Server]:
    """One server, steered in one way and the other, where Ann has pressed Start."""
    async with ControlledBotApi() as api, BotApiControl(api.url) as control:
        server = api if request.param == "directly" else control
        await server.open_chat(ANN)
        yield server


@pytest.fixture
async def speak(server: Server) -> AsyncGenerator[Caller]:
    """The bot at that server."""
    async with aiohttp.ClientSession() as session:
        yield Caller(session, f"{server.url}/bot{server.token}")


async def test_people_and_bot_talk(server: Server, speak: Caller) -> None:
    """What people do reaches the bot; what the bot does is seen and waited for."""
    number = await server.send_text("Hello", chat=ANN)
    await server.edit_text(1, "Hello!", chat=ANN)
    await speak.say("Hi", reply_markup=button("stop"))
    query = await server.press(2, "stop", chat=ANN)
    fetched = (await speak("getUpdates")).result
    await speak.edit(2, "Hi Ann")
    await speak("setMyCommands", commands=[{"command": "new", "description": "New"}])
    await speak("getUpdates", offset=number + 1)
    await server.until(lambda: server.said(ANN) == ["Hi Ann"] and server.unconfirmed == 2)

    [hello, hi] = server.transcript(ANN)
    assert [one["update_id"] for one in fetched] == [number, number + 1, number + 2]
    assert fetched[2]["callback_query"]["id"] == query
    assert (hello.text, hi.history, hi.markups) == ("Hello!", ["Hi", "Hi Ann"], [True, False])
    assert hi.versions[0].at <= hi.versions[1].at
    assert [one["text"] for one in server.called("sendMessage")] == ["Hi"]
    assert {one.status for one in server.calls} == {200}
    assert [one["command"] for one in server.menu] == ["new"]
    assert server.me["username"] == "demo_bot"


async def test_files_are_sent_from_here(server: Server) -> None:
    """Their bytes travel along, and the chat shows what was sent."""
    await server.send_file("document", b"\x00\xff", chat=ANN, name="a.bin", caption="Look")

    [message] = server.transcript(ANN)
    assert (message.text, message.content["document"]["file_name"]) == ("Look", "a.bin")
    assert message.content["document"]["file_size"] == 2


async def test_chats_change(server: Server, speak: Caller) -> None:
    """Blocks, topics, moves and deleted messages work from outside too."""
    topic = await server.open_topic(TEAM, "Builds", user=ANN)
    await speak.say("In time", chat=TEAM, message_thread_id=topic)
    await server.close_topic(TEAM, topic)
    closed = await speak.say("Hi", chat=TEAM, message_thread_id=topic)
    await server.reopen_topic(TEAM, topic)
    await server.delete_topic(TEAM, topic)
    await server.open_chat(GROUP, title="Team")
    await server.migrate(GROUP, -1_009_999_999_999)
    moved = await speak.say("Hi", chat=GROUP)
    await server.block(ANN)
    blocked = await speak.say("Hi")
    await server.unblock(ANN)
    await speak.say("Hi")
    await server.delete(1, chat=ANN)

    assert [one.status for one in (closed, moved, blocked)] == [400, 400, 403]
    assert (server.said(TEAM), server.said(ANN)) == ([], [])


async def test_faults_are_made(server: Server, speak: Caller) -> None:
    """Every fault can be asked for from outside; awaiting does no harm here."""
    await server.fail("sendMessage", 429, retry_after=7, chat=ANN)
    await server.garble("sendMessage", b"{}", status=500)
    await server.drop("sendMessage", applied=True)
    await server.stall("sendMessage", 0.01)
    await server.fail("sendMessage", 500, times=99)
    refused = await speak.say("One")
    async with speak.session.post(f"{speak.base}/sendMessage") as garbled:
        await garbled.read()
    with pytest.raises(aiohttp.ClientError):
        await speak.say("Two")
    await speak.say("Three")
    await server.heal()
    await speak.say("Four")
    await server.until(lambda: len(server.said(ANN)) == 3)

    assert (refused.body["parameters"], garbled.status) == ({"retry_after": 7}, 500)
    assert server.said(ANN) == ["Two", "Three", "Four"]


async def test_limits_are_enforced(server: Server, speak: Caller) -> None:
    """Calls that are too many are refused, and counted."""
    await server.enforce_limits()
    answers = [(await speak.say("Hi")).status for _ in range(6)]
    await server.until(lambda: len(server.calls) == 6)

    strikes = server.flood.strikes if isinstance(server, BotApi) else server.strikes
    assert (answers, strikes) == ([200] * 5 + [429], 1)


async def test_broken_updates_are_injected(server: Server, speak: Caller) -> None:
    """Objects, bytes, whole answers."""
    await server.inject({"update_id": 7, "message": {}})
    await server.inject(b"broken")
    await server.inject_answer(b"nonsense")
    bodies = []
    for _ in range(2):
        async with speak.session.get(f"{speak.base}/getUpdates") as response:
            bodies.append(await response.read())

    assert bodies == [
        b"nonsense",
        b'{"ok":true,"result":[{"update_id": 7, "message": {}},broken]}',
    ]


async def test_mistakes_are_told() -> None:
    """An action that does not exist or cannot be done says so and changes nothing."""
    async with ControlledBotApi() as api, BotApiControl(api.url) as control:
        with pytest.raises(ValueError, match="close_topic: KeyError: 501"):
            await control.close_topic(ANN, 7)
        async with aiohttp.ClientSession(f"{api.url}/control/") as session:
            async with session.post("explode", json={}) as unknown:
                told = await unknown.json()
            async with session.post("block", json={"chap": 1}) as misspelt:
                pass
            async with session.post("block", data=b"{") as broken:
                pass
            async with session.get("state", params={"after": "x"}) as odd:
                pass
        statuses = [one.status for one in (unknown, misspelt, broken, odd)]

    assert statuses == [404, 400, 400, 400]
    assert "send_text" in told["error"]


async def test_a_process_of_its_own_remembers_until_its_end() -> None:
    """It has the token as told; with the block it is over and its port free."""
    async with started(token=f"42:{'Z' * 35}") as control:
        await control.send_text("Hello", chat=ANN)
        async with BotApiControl(control.url) as another:
            seen = [one.text for one in another.transcript(ANN)]
        url, bot = control.url, control.me["id"]

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)
    assert (bot, seen) == (42, ["Hello"])

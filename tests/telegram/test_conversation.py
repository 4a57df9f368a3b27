"""The whole line: a message comes in, a turn is run, and the reply grows in the chat."""

from __future__ import annotations

import asyncio

from handlers.telegram.client import Client
from handlers.telegram.send import TelegramSender
from service.ports import Finished, TextDelta
from service.store.database import Database
from tests.engine.engine import Engine
from tests.fakes import ScriptedAgents
from tests.telegram.conversing import conversing, until_text
from tests.telegram.hurry import EAGER, TIMES
from tests.telegram.server import Server
from tests.telegram.station import ME, Station
from tests.telegram.updates import ANN, BOT, TEAM, group, mention, message, press

STOP = "stop:"


async def test_a_reply_grows_where_the_message_came_from(
    database: Database, server: Server, client: Client
) -> None:
    """It is shown while it is produced and ends in the same message."""
    more = asyncio.Event()
    agents = ScriptedAgents([[TextDelta("Hello "), more, TextDelta("**Ann**"), Finished()]])

    async with conversing(database, server, client, agents):
        await server.push(message("Hi"))
        await until_text(server, "Hello")
        more.set()
        await until_text(server, "Hello Ann")

    assert server.texts(ANN) == ["Hello Ann"]


async def test_the_button_under_a_reply_stops_it(
    database: Database, server: Server, client: Client
) -> None:
    """What was said stays, and the message tells that it was stopped."""
    agents = ScriptedAgents([[TextDelta("Half an answer"), asyncio.Event(), Finished()]])

    async with conversing(database, server, client, agents):
        await server.push(message("Hi"))
        await until_text(server, "Half an answer")
        [shown] = server.shown()
        assert shown.reply_markup is not None
        button = shown.reply_markup["inline_keyboard"][0][0]
        await server.push(press(button["callback_data"]))
        await until_text(server, "Half an answer\n\n(stopped)")

    assert button["callback_data"].startswith(STOP)
    assert server.of("answerCallbackQuery")[0]["text"] == "Stopping."
    assert shown.reply_markup is None


async def test_questions_of_a_chat_are_answered_in_order(
    database: Database, server: Server, client: Client
) -> None:
    """A second message waits for the first one's reply, whatever happens in other chats."""
    slow = asyncio.Event()
    agents = ScriptedAgents(
        [
            [slow, TextDelta("one"), Finished()],
            [TextDelta("two"), Finished()],
            [TextDelta("three"), Finished()],
        ]
    )
    text = "@test_bot hi"

    async with conversing(database, server, client, agents):
        await server.push(message("first"))
        await server.until_called("sendMessage")
        await server.push(message("second"), message(text, chat=group(), entities=[mention(text)]))
        await until_text(server, "two", chat=TEAM)
        slow.set()
        await until_text(server, "three")

    assert (server.texts(ANN), server.texts(TEAM)) == (["one", "three"], ["two"])


async def test_a_drain_leaves_a_reply_to_the_successor(
    database: Database, server: Server, client: Client
) -> None:
    """The next process finishes it in the same message, and nothing is said twice."""
    never = asyncio.Event()
    first = ScriptedAgents([[TextDelta("Half "), never, Finished()]])
    second = ScriptedAgents([[TextDelta("Half and half"), Finished()]])

    station = Station(database)
    sender = TelegramSender(client, bot=str(BOT), private=EAGER, group=EAGER, times=TIMES)
    station.engine = Engine(database, first, sender)  # type: ignore[arg-type]
    station.engine.start()
    await station.receiver().receive(message("Hi"), b"{}", ME)
    await until_text(server, "Half")
    await station.engine.stop()
    async with conversing(database, server, client, second):
        await until_text(server, "Half and half")

    assert server.texts() == ["Half and half"]

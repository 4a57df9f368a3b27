"""The whole line in one process: the Bot API server, the channel, and an engine that runs turns."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from handlers.telegram.client import Client
from handlers.telegram.send import SendTimes, TelegramSender
from service.core.model import Channel
from service.demo.bot_api.chats import Message
from service.store.database import Database
from tests.engine.engine import Engine
from tests.fakes import ScriptedAgents
from tests.telegram.hurry import EAGER, TIMES
from tests.telegram.server import Server
from tests.telegram.station import Station
from tests.telegram.updates import ANN, BOT


@asynccontextmanager
async def conversing(
    database: Database,
    server: Server,
    client: Client,
    agents: ScriptedAgents,
    *,
    times: SendTimes = TIMES,
) -> AsyncGenerator[Station]:
    """A station with a running engine that answers at the server."""
    station = Station(database)
    sender = TelegramSender(client, bot=str(BOT), private=EAGER, group=EAGER, times=times)
    files = {Channel.TELEGRAM: client}
    station.engine = Engine(database, agents, sender, files=files)  # type: ignore[arg-type]
    channel = station.channel(server.url)
    station.engine.start()
    await channel.start()
    try:
        yield station
    finally:
        await channel.stop()
        await station.engine.stop(timedelta(seconds=5))
        await channel.close()


async def until_text(server: Server, text: str, *, chat: int = ANN) -> None:
    """Wait until some message says exactly this."""
    await server.until(lambda: text in server.texts(chat))


async def asked(server: Server, words: str, *, chat: int = ANN) -> Message:
    """The question that says this, once it is there."""
    await server.until(lambda: _saying(server, words, chat))
    return _saying(server, words, chat)[0]


def _saying(server: Server, words: str, chat: int) -> list[Message]:
    return [one for one in server.shown(chat) if one.text.startswith(words)]


def labels(message: Message) -> list[str]:
    """What stands on the buttons under a message."""
    return [text for text, _ in _buttons(message)]


async def press(server: Server, message: Message, label: str, *, user: int | None = None) -> None:
    """Have somebody press the button that says this."""
    [data] = [data for text, data in _buttons(message) if text == label]
    await server.press(message.id, data, chat=message.chat, user=user)


def _buttons(message: Message) -> list[tuple[str, str]]:
    rows = (message.reply_markup or {}).get("inline_keyboard", [])
    return [(one["text"], one["callback_data"]) for row in rows for one in row]

"""The local Bot API server with the chats and short cuts that these tests use."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from service.demo.bot_api.chats import Message
from service.demo.bot_api.server import BotApi, Fault
from tests.telegram.updates import ANN, BOB, BOT, TEAM, USERNAME, Raw

TOKEN = f"{BOT}:{'A' * 35}"
OLD_GROUP = -5
TOPIC = 7


class Server(BotApi):
    """A bot that two people and two groups have written to."""

    def __init__(self) -> None:
        super().__init__(TOKEN, username=USERNAME)
        for chat in (ANN, BOB, TEAM, OLD_GROUP):
            self.chats.open(chat)
        self.chats.open(TEAM).forum = True
        self.chats.open(TEAM).topics.add(TOPIC)

    async def __aexit__(self, *_: object) -> None:
        # Nobody waits for the end of a fetch whose client is gone.
        if self._polling is not None:
            self._polling.cancel()
        await super().__aexit__()

    def of(self, method: str) -> list[Raw]:
        """The parameters of every call of a method so far, as values."""
        return [{key: _value(key, one) for key, one in p.items()} for p in self.called(method)]

    def texts(self, chat: int = ANN) -> list[str]:
        """What the bot says in a chat, from top to bottom."""
        return self.said(chat)

    def shown(self, chat: int = ANN) -> list[Message]:
        """The bot's messages in a chat, from top to bottom."""
        return [one for one in self.transcript(chat) if one.sender["is_bot"]]

    def said_before(self, number: int, text: str, *, chat: int = ANN) -> None:
        """Let the bot have said something under this number."""
        place = self.chats.open(chat)
        place.last_id = number - 1
        self.chats.add(place, self.me, text)

    def clean_up(self, chat: int = ANN) -> None:
        """Have somebody delete every message of a chat."""
        place = self.chats.open(chat)
        place.deleted += list(place.messages)

    def answer_with(self, method: str, body: bytes) -> None:
        """Answer the next call with 200 and these bytes."""
        self._add_fault(method, Fault(status=200, body=body))

    async def push(self, *raws: Raw) -> None:
        """Let updates wait to be fetched; they get new numbers."""
        for raw in raws:
            await self.inject({key: one for key, one in raw.items() if key != "update_id"})

    async def push_numbered(self, *raws: Raw) -> None:
        """Let updates wait that have their numbers already."""
        self._pending += raws
        await self._notify()

    def pending(self) -> list[Raw]:
        """The updates that are not confirmed."""
        return list(self._pending)

    async def until_called(self, method: str, count: int = 1, **params: Any) -> None:
        """Wait until a method was called so often, with these parameters."""
        await self.until(lambda: self._calls_with(method, params) >= count)

    async def until_confirmed(self) -> None:
        """Wait until nothing is pending any more."""
        await self.until(lambda: not self.unconfirmed)

    def _calls_with(self, method: str, params: Raw) -> int:
        return sum(params.items() <= one.items() for one in map(_Comparable, self.of(method)))


class _Comparable(dict[str, Any]):
    """Parameters of which only the plain values are compared."""

    def __init__(self, params: Raw) -> None:
        plain = {key: one for key, one in params.items() if isinstance(one, str | int)}
        super().__init__(plain)


@asynccontextmanager
async def serving() -> AsyncGenerator[Server]:
    """A server on a free port."""
    async with Server() as server:
        yield server


def _value(key: str, value: Any) -> Any:
    # Words stay words, whatever they look like.
    if not isinstance(value, str) or key in ("text", "url", "secret_token", "callback_query_id"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value

"""A Bot API server with two chats, the real client library, and plain HTTP."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

import aiohttp
import pytest
from telegram.ext import ExtBot
from telegram.request import HTTPXRequest

from service.demo.bot_api.server import BotApi
from tests.demo.caller import ANN, TEAM, Caller, Clock

# The library returns durations as timedelta only when it finds this.
os.environ.setdefault("PTB_TIMEDELTA", "1")


@pytest.fixture
def clock() -> Clock:
    """The time of the server, which stands still."""
    return Clock()


@pytest.fixture
async def api(clock: Clock) -> AsyncGenerator[BotApi]:
    """A server where Ann has pressed Start and a forum has taken the bot in."""
    async with BotApi(clock=clock) as api:
        await api.open_chat(ANN)
        await api.open_chat(TEAM, title="Team", forum=True)
        yield api


@pytest.fixture
async def call(api: BotApi) -> AsyncGenerator[Caller]:
    """Plain HTTP to that server."""
    async with aiohttp.ClientSession() as session:
        yield Caller(session, f"{api.url}/bot{api.token}")


@pytest.fixture
async def bot(api: BotApi) -> AsyncGenerator[ExtBot[None]]:
    """The client library at that server."""
    async with bot_at(api.url, api.token) as bot:
        yield bot


def bot_at(url: str, token: str) -> ExtBot[None]:
    """The client library as our service uses it; without TLS, whose set-up takes long."""
    requests = [HTTPXRequest(read_timeout=2, httpx_kwargs={"verify": False}) for _ in range(2)]
    return ExtBot(
        token, base_url=f"{url}/bot", request=requests[0], get_updates_request=requests[1]
    )

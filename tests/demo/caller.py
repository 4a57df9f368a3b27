"""Calls to a Bot API server without a client library, and a time that stands still."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp

ANN = 501
BOB = 502
TEAM = -1_001_234_567_890
GROUP = -5

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    body: Json
    retry_after: str | None = None

    @property
    def result(self) -> Any:
        return self.body["result"]

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and words, which tell the same."""
        assert not self.body["ok"]
        assert self.body["error_code"] == self.status
        return self.status, self.body["description"]


class Caller:
    """One bot that speaks HTTP."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def __call__(self, method: str, **params: Any) -> Answer:
        """Call a method with a JSON body."""
        return await self.post(method, json=params)

    async def post(self, method: str, **how: Any) -> Answer:
        """Call a method with the body as told."""
        async with self.session.post(f"{self.base}/{method}", **how) as response:
            return Answer(
                response.status, await response.json(), response.headers.get("Retry-After")
            )

    async def say(self, text: str, *, chat: int = ANN, **params: Any) -> Answer:
        """Send a message."""
        return await self("sendMessage", chat_id=chat, text=text, **params)

    async def edit(self, message: int, text: str, *, chat: int = ANN, **params: Any) -> Answer:
        """Edit a message."""
        return await self("editMessageText", chat_id=chat, message_id=message, text=text, **params)


class Clock:
    """A time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 9, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **duration: float) -> None:
        """Let time pass."""
        self.now += timedelta(**duration)


def button(data: str, text: str = "Stop") -> Json:
    """A keyboard with one button."""
    return {"inline_keyboard": [[{"text": text, "callback_data": data}]]}

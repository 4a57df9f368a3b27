"""A small service that gets updates posted, and answers as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from service.demo.bot_api.changes import Changes
from service.demo.bot_api.webhook import SECRET_HEADER


class Receiver:
    """Remembers what was posted; `answers` come first, then 200."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: list[web.Response] = []
        self.posted: list[dict[str, Any]] = []
        self.secrets: list[str | None] = []
        self.patience: asyncio.Event | None = None
        self._changes = Changes()

    async def on_post(self, request: web.Request) -> web.Response:
        """Take one update."""
        self.posted.append(await request.json())
        self.secrets.append(request.headers.get(SECRET_HEADER))
        self._changes.note()
        if self.patience is not None:
            await self.patience.wait()
        return self.answers.pop(0) if self.answers else web.Response()

    @property
    def texts(self) -> list[str]:
        """What the posted messages say, or the data of a press."""
        return [
            one["message"]["text"] if "message" in one else one["callback_query"]["data"]
            for one in self.posted
        ]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a condition on what was posted holds."""
        async with asyncio.timeout(60):
            await self._changes.until(condition)


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/telegram", receiver.on_post)
    runner = web.AppRunner(app, shutdown_timeout=0.0, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/telegram"
    try:
        yield receiver
    finally:
        await runner.cleanup()

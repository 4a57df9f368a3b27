"""A real server with the API over a whole engine, and short cuts to call it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from handlers.console.api import Api
from handlers.console.gate import Gate, Place
from handlers.console.rings import abilities_of
from handlers.cron.clock import compile_task
from handlers.http import BodyLimits, problems_middleware
from service import config
from service.core.model import Binding
from service.engine.compositions import Compositions
from service.engine.scheduler import Scheduler
from service.store import feed
from service.store.database import Database
from tests.console.outside import Ways, open_ways
from tests.engine.engine import BINDING, Engine, running
from tests.fakes import ScriptedAgents
from tests.webhook.site import Answer, Frame, frames, listening

TOKEN = "the operator's own token"
LOCAL = Place()
LIMITS = BodyLimits(bytes=4096, depth=16, read=timedelta(seconds=10), file_bytes=8192, files=3)
AGENTS = {"assistant": BINDING, "coder": Binding("coder", "offline", "echo", "Write code.")}
COMPOSITIONS: Mapping[str, config.Composition] = {
    "review": config.Composition.model_validate(
        {
            "voices": [
                {"agent": "assistant", "rounds": 1},
                {"provider": "offline", "model": "echo", "prompt": "Doubt it.", "name": "Doubter"},
            ],
            "continuation": "auto",
        }
    )
}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "morning": {"cron": "0 8 * * *", "timezone": "Europe/Berlin", "prompt": "What is on today?"},
    "off": {"cron": "0 9 * * *", "prompt": "Never.", "enabled": False},
}


@dataclass(frozen=True)
class Site:
    """A server that listens, the engine behind it, and a client of it."""

    engine: Engine
    api: Api
    client: aiohttp.ClientSession
    port: int
    ways: Ways
    """By which others than operators come in."""

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        token: str | None = TOKEN,
    ) -> Answer:
        """Call the API as the operator or as whoever holds `token`; bytes and forms go as is."""
        shown = {"Authorization": f"Bearer {token}"} if token is not None else {}
        raw = isinstance(body, bytes | aiohttp.FormData)
        sent: dict[str, Any] = {"data": body} if raw else {"json": body}
        async with self.client.request(
            method, path, headers={**shown, **(headers or {})}, **sent
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Read an address."""
        return await self.call("GET", path, headers=headers)

    async def session(self, key: str = "ann") -> str:
        """The session with a key."""
        session: str = (await self.call("POST", "/api/sessions", {"key": key})).json["session"]
        return session

    async def send(
        self, session: str, text: str = "hi", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a message."""
        return await self.call("POST", f"/api/sessions/{session}/messages", {"text": text}, headers)

    async def finished(self, session: str, text: str = "hi") -> Mapping[str, Any]:
        """Send a message; its receipt, once the turn is over."""
        receipt: Mapping[str, Any] = (await self.send(session, text)).json
        await self.get(f"/api/turns/{receipt['turn']}?wait=60")
        return receipt

    async def events(self, receipt: Mapping[str, Any], after: int) -> list[Frame]:
        """The events of a turn after a number, until its end."""
        path = f"/api/sessions/{receipt['session']}/events?turn={receipt['turn']}"
        return frames((await self.get(f"{path}&after={after}")).body)

    async def prune(self) -> None:
        """Drop every event of sessions at rest, as housekeeping does with old ones."""
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        await self.engine.database.write(feed.prune, before=tomorrow, limit=1000)


@asynccontextmanager
async def serving(
    database: Database, agents: ScriptedAgents | None = None, *, place: Place = LOCAL
) -> AsyncGenerator[Site]:
    """A site on a free port, over an engine that claims."""
    async with running(database, agents) as engine:
        ways = await open_ways(database, engine, AGENTS, LIMITS)
        tasks = {
            name: compile_task(name, config.Task(agent="assistant", **settings), BINDING, ())
            for name, settings in TASKS.items()
        }
        scheduler = Scheduler(database, engine.intake, engine.metrics, tasks, AGENTS)
        await scheduler.define()
        api = Api(
            database,
            engine.intake,
            engine.controls,
            engine.feed,
            engine.results,
            scheduler,
            AGENTS,
            Gate(database, (TOKEN,), place),
            LIMITS,
            abilities_of(engine.agents, AGENTS),
            compositions=Compositions(database, COMPOSITIONS, AGENTS, ("offline",)),
            catalog=engine.agents,
            outside=ways.outside,
        )
        application = web.Application(middlewares=[problems_middleware])
        application.add_routes([*api.routes(), *ways.webhooks.routes()])
        application.on_shutdown.append(api.sockets.close)
        async with (
            listening(application) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        ):
            yield Site(engine, api, client, port, ways)

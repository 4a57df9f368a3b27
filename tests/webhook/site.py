"""A real server with the webhook routes over a whole engine, and short cuts to post to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from handlers.http import BodyLimits, problems_middleware
from handlers.webhook.hook import Hook, compile_hook
from handlers.webhook.receive import Webhooks
from service import config
from service.config import Secret
from service.core.model import Binding, Cast, NewVoice
from service.core.signature import sign_standard
from service.engine.tokens import TurnTokens
from service.store.database import Database
from tests.engine.engine import BINDING, Engine, running
from tests.fakes import ScriptedAgents

SECRET = "correct horse battery staple"
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
LIMITS = BodyLimits(bytes=4096, depth=16, read=timedelta(seconds=10), file_bytes=8192, files=3)

HOOKS: Mapping[str, Mapping[str, Any]] = {
    "open": {"auth": "none"},
    "bearer": {"auth": {"scheme": "bearer", "secrets": [Secret("the old one"), Secret(SECRET)]}},
    "github": {"auth": {"scheme": "github", "secret": Secret(SECRET)}},
    "standard": {"auth": {"scheme": "standard-webhooks", "secret": Secret(STANDARD_SECRET)}},
    "fixed": {"auth": "none", "session": "fixed"},
    "keyed": {
        "auth": "none",
        "prompt": "{{ payload.who }} says {{ payload.what }}",
        "session": "{{ payload.who }}",
    },
    "headers": {"auth": "none", "prompt": "{{ headers }} {{ query.colour }} {{ webhook }}"},
    "waiting": {"auth": "none", "reply": "wait", "wait": "20s"},
    "hasty": {"auth": "none", "reply": "wait", "wait": "0s"},
    "streaming": {"auth": "none", "reply": "stream"},
    "panel": {"auth": "none", "session": "fixed"},
    "panels": {"auth": "none"},
}
_DUO = Cast(
    tuple(
        NewVoice(name, Binding(name.lower(), "offline", "echo", f"You are {name}."))
        for name in ("Ada", "Bob")
    ),
    composition="duo",
)
CASTS: Mapping[str, Cast] = {"panel": _DUO, "panels": _DUO}


@dataclass(frozen=True)
class Site:
    """A server that listens, the engine behind it, and a client of it."""

    engine: Engine
    port: int
    tokens: TurnTokens
    client: aiohttp.ClientSession

    async def post(
        self,
        hook: str,
        body: bytes | str = b"hello",
        headers: Mapping[str, str] | None = None,
        *,
        query: str = "",
    ) -> Answer:
        """Post a body as it is, as text unless the headers say otherwise."""
        sent = {"Content-Type": "text/plain", **(headers or {})}
        data = body.encode() if isinstance(body, str) else body
        async with self.client.post(f"/hooks/{hook}{query}", data=data, headers=sent) as response:
            return await _answer(response)

    async def post_json(
        self, hook: str, value: object, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Post a value as JSON."""
        return await self.post(
            hook, json.dumps(value), {"Content-Type": "application/json", **(headers or {})}
        )

    async def get(
        self, path: str, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Read an address, as whoever holds this token."""
        sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        async with self.client.get(path, headers=sent) as response:
            return await _answer(response)


@dataclass(frozen=True)
class Answer:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def type(self) -> str:
        """The media type without its parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip()

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Frame:
    """One server-sent event."""

    id: int
    kind: str
    data: Any


def frames(stream: bytes) -> list[Frame]:
    """The whole events of a stream; one that is cut in two counts for nothing."""
    blocks = [block.split("\n") for block in stream.decode().split("\n\n")[:-1]]
    fields = [dict(line.split(": ", 1) for line in block) for block in blocks]
    return [
        Frame(int(one["id"]), one["event"], json.loads(one["data"]))
        for one in fields
        if "id" in one
    ]


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Database]:
    """A database that is closed after the block."""
    database = Database(url)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def serving(
    database: Database,
    agents: ScriptedAgents | None = None,
    *,
    limits: BodyLimits = LIMITS,
) -> AsyncGenerator[Site]:
    """A site on a free port, over an engine that claims."""
    async with running(database, agents) as engine:
        tokens = await TurnTokens.load(database)
        application = web.Application(middlewares=[problems_middleware])
        webhooks = Webhooks(
            compiled_hooks(),
            engine.intake,
            engine.feed,
            engine.results,
            tokens,
            limits,
            controls=engine.controls,
        )
        application.add_routes(webhooks.routes())
        async with listening(application) as port:
            client = aiohttp.ClientSession(f"http://127.0.0.1:{port}")
            async with client:
                yield Site(engine, port, tokens, client)


@asynccontextmanager
async def listening(application: web.Application) -> AsyncGenerator[int]:
    """Serve an application on a free port of this machine."""
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=0.1,
        # How long the server reads on, and forgets, what follows after it has answered.
        lingering_time=0.1,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=256).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def standard_headers(
    body: bytes, *, id_: str = "msg_1", at: datetime | None = None
) -> dict[str, str]:
    """The headers of a post that the webhook `standard` believes."""
    return sign_standard(STANDARD_SECRET, id_, at or datetime.now(UTC), body)


async def exchange(port: int, request: bytes) -> Answer:
    """Send bytes over a connection of their own and read what is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.create_task(_send(writer, request))
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        answer = _parsed(head)
        length = int(answer.headers.get("Content-Length", "0"))
        return Answer(answer.status, answer.headers, await reader.readexactly(length))
    finally:
        sending.cancel()
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close our side of a connection, whatever became of the other."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def _send(writer: asyncio.StreamWriter, request: bytes) -> None:
    try:
        writer.write(request)
        await writer.drain()
    except ConnectionError:
        # The server may answer and hang up before it has read everything.
        return


def _parsed(head: bytes) -> Answer:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Answer(int(first.split(" ")[1]), {name: value.strip() for name, _, value in pairs}, b"")


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    return Answer(response.status, response.headers, await response.read())


def compiled_hooks() -> dict[str, Hook]:
    return {
        name: compile_hook(
            name, config.Webhook(agent="assistant", **settings), BINDING, (), CASTS.get(name)
        )
        for name, settings in HOOKS.items()
    }

"""The service that the browser tests look at, and a model whose words they hold in their hands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web

from service.core.access import UserRole
from service.core.model import SessionId
from service.store import lists, users
from service.store.database import Database
from tests import openai_server
from tests.browser.page import Page
from tests.process import service

TOKEN = "the-operators-token-of-the-browser-tests"


@dataclass(frozen=True, slots=True)
class Gate:
    """A place in an answer where the model waits until a test lets it go on."""

    _reached: asyncio.Event = field(default_factory=asyncio.Event)
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    async def reached(self) -> None:
        """Wait until the model is here."""
        async with asyncio.timeout(60):
            await self._reached.wait()

    def open(self) -> None:
        """Let it go on."""
        self._open.set()

    async def passed(self) -> None:
        """Wait at the gate."""
        self._reached.set()
        await self._open.wait()


@dataclass(frozen=True, slots=True)
class Calls:
    """A tool call that ends an answer; the next answer of the model goes on from its result."""

    tool: str
    arguments: Mapping[str, Any] | Callable[[str], Mapping[str, Any]]
    """What it is given, perhaps made of the last thing that the model was told."""


@dataclass(frozen=True, slots=True)
class Fails:
    """An error of the provider in place of an answer."""

    status: int = 400
    message: str = "The model is on strike."


Step = str | Gate | Calls | Fails
"""A piece of an answer: words, a stop, how it ends."""


class Storyteller:
    """An OpenAI-compatible provider: each model tells what it is told to, answer by answer."""

    def __init__(self) -> None:
        self.stories: dict[str, list[Sequence[Step]]] = {}
        self.prompts: dict[str, list[list[dict[str, Any]]]] = {}
        self.url = ""

    def play(self, model: str, *answers: Sequence[Step] | str) -> None:
        """Give a model its answers, one after the other; the last one repeats."""
        self.stories[model] = [[one] if isinstance(one, str) else one for one in answers]
        self.prompts[model] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request with the next story of its model."""
        body = await request.json()
        told = self.prompts.setdefault(body["model"], [])
        stories = self.stories.get(body["model"], [["Well."]])
        story = stories[min(len(told), len(stories) - 1)]
        told.append(body["messages"])
        if isinstance(story[0], Fails):
            error = {"message": story[0].message, "type": "invalid_request_error", "code": None}
            return web.json_response({"error": error}, status=story[0].status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in openai_server.words():
            await response.write(piece)
        finish = "stop"
        for place, step in enumerate(story):
            match step:
                case Gate():
                    await step.passed()
                case Calls(tool, arguments):
                    finish = "tool_calls"
                    call_id = f"{tool}-{len(told)}-{place}"
                    last = str(body["messages"][-1]["content"])
                    given = arguments(last) if callable(arguments) else arguments
                    pieces = openai_server.call(tool, json.dumps(given), call_id=call_id)
                    await response.write(b"".join(pieces))
                case str():
                    await response.write(openai_server.chunk({"content": step}))
        await response.write(b"".join(openai_server.end(finish)))
        return response


@asynccontextmanager
async def storyteller() -> AsyncGenerator[Storyteller]:
    """A provider that listens."""
    teller = Storyteller()
    application = web.Application(client_max_size=2**24)
    application.router.add_post("/v1/chat/completions", teller.answer)
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    teller.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield teller
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class House:
    """A running service with its model."""

    url: str
    model: Storyteller
    client: aiohttp.ClientSession
    database: str
    folder: Path

    async def clear(self) -> None:
        """Take away every session that the list shows, until it shows none."""
        self.model.stories.clear()
        self.model.prompts.clear()
        for view in ("active", "archived"):
            while sessions := (await self.call("GET", f"/api/sessions?view={view}"))["sessions"]:
                for one in sessions:
                    await self.call("DELETE", f"/api/sessions/{one['session']}")

    async def effects(self) -> list[str]:
        """What tools did that leave a line for it."""
        told = self.folder / "effects"
        return (await asyncio.to_thread(told.read_text, "utf-8")).splitlines()

    async def enter(self, page: Page, path: str = "/console/", *, url: str | None = None) -> None:
        """Sign in with the operator's token, and go to a page; `url` is a way around."""
        await page.open(f"{url or self.url}/console/signin?next={quote(path)}")
        await page.click("radio", "API token")
        await page.fill("API token", TOKEN)
        await page.press("Enter")
        await page.find("navigation", "Console")

    async def person(self, name: str, password: str, role: UserRole = UserRole.ADMIN) -> None:
        """Make somebody who may sign in."""
        stored = await asyncio.to_thread(users.hashed, password)
        await self._write(users.add, name, stored, role, at=datetime.now(UTC))

    async def stored(self, session: str, **values: object) -> None:
        """Let a session be as if it had another past: other values of its row."""
        await self._write(lists.change, SessionId(session), **values)

    async def _write(self, work: Callable[..., object], *args: object, **options: object) -> None:
        database = Database(self.database)
        await database.open(shared=True)
        try:
            await database.write(work, *args, **options)
        finally:
            await database.close()

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the API as the operator does; fail on any error."""
        async with self.client.request(method, path, json=body) as response:
            told = await response.text()
            assert response.status < 400, f"{method} {path}: {response.status} {told}"
            return json.loads(told) if told else None

    async def ring(self, hook: str, body: object) -> int:
        """Post to a webhook as its poster does; the status."""
        async with self.client.post(f"/hooks/{hook}", json=body) as response:
            return response.status

    async def session(self, *texts: str, **given: object) -> str:
        """Begin a session by the API, and have these messages answered in it."""
        made = await self.call("POST", "/api/sessions", given)
        session: str = made["session"]
        for text in texts:
            await self.say(session, text)
        return session

    async def say(self, session: str, text: str) -> None:
        """Send a message by the API and wait until its turn is over."""
        sent = await self.call("POST", f"/api/sessions/{session}/messages", {"text": text})
        ended = await self.call("GET", f"/api/turns/{sent['turn']}?wait=60")
        assert ended["finished_at"], ended


Houses = Callable[[str], Awaitable[House]]
"""Starts a service with more configuration."""


@asynccontextmanager
async def house(folder: Path, database: str, more: str = "") -> AsyncGenerator[House]:
    """Run a service on an offline agent and agents of the storyteller; `more` is configuration."""
    async with storyteller() as model:
        config = folder / "ringback.toml"
        await asyncio.to_thread(_configure, config, database, model.url, more)
        async with service(config, environ={"EFFECTS": str(folder / "effects")}) as running:
            url = await running.ready()
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with aiohttp.ClientSession(url, headers=headers) as client:
                yield House(url, model, client, database, folder)
            await running.stop()


def _configure(config: Path, database: str, model: str, more: str) -> None:
    token = config.parent / "token"
    token.write_text(TOKEN, "utf-8")
    (config.parent / "effects").touch()
    config.write_text(
        f"""
[server]
port = 0
drain = "0s"
tokens = ["file:{token}"]
[log]
format = "json"
[database]
url = {json.dumps(database)}
[providers.offline]
kind = "offline"
[providers.story]
kind = "openai"
base_url = "{model}"
[agents.assistant]
provider = "offline"
model = "echo"
tools = ["clock", "dice", "notes", "prompt_user"]
[agents.ann]
provider = "story"
model = "story/ann"
tools = ["dice"]
[agents.bob]
provider = "story"
model = "story/bob"
{more}
""",
        "utf-8",
    )

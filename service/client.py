"""The command line as a client of the HTTP API: of the running service, or of one it starts."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp

from service.config import Settings
from service.errors import BadInput, StoreDown
from service.store import control
from service.store.database import Database


class Client:
    """Calls the API; what it refuses is raised as BadInput with its own words."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, path: str, **query: str) -> Any:
        """The JSON under a path."""
        async with self._session.get(path, params=query) as response:
            return await _json(response)

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Post JSON; return what comes back."""
        async with self._session.post(path, json=body or {}) as response:
            return await _json(response)

    async def session(self, key: str, agent: str | None) -> str:
        """The id of the session with a key; made when there is none."""
        body = {"key": key, **({"agent": agent} if agent else {})}
        found = await self.post("/api/sessions", body)
        session: str = found["session"]
        return session

    async def ring(self, session: str, text: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Send a message; yield the events of its turn as (kind, data) until its end."""
        async with self._session.post(
            f"/api/sessions/{session}/messages",
            json={"text": text},
            headers={"Accept": "text/event-stream"},
        ) as response:
            if response.status != 200:
                await _json(response)
            kind = ""
            async for line in response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)


@asynccontextmanager
async def connect(
    settings: Settings, *, url: str | None, token: str | None
) -> AsyncGenerator[Client]:
    """Reach the service: the one at `url`, the one that holds our SQLite file, or start one.

    Raises StoreDown when a PostgreSQL installation is not told where its service is.
    """
    running = control.find(Database(settings.database.url).lock_path)
    if url is None and running is not None:
        url, token = running.url, running.token
    if url is not None:
        async with _client(url, token) as client:
            yield client
        return
    if settings.database.url.startswith("postgresql"):
        raise StoreDown(
            "with PostgreSQL the service may run anywhere: give --url and --token, "
            "or RINGBACK_URL and RINGBACK_TOKEN"
        )
    from service.app import open_app

    quiet = settings.model_copy(
        update={
            "server": settings.server.model_copy(
                update={"host": "127.0.0.1", "drain": timedelta(seconds=1)}
            )
        }
    )
    async with open_app(quiet, port=0, channels=False) as app, _client(app.url, app.token) as made:
        yield made


@asynccontextmanager
async def _client(url: str, token: str | None) -> AsyncGenerator[Client]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    try:
        async with aiohttp.ClientSession(url, headers=headers, timeout=timeout) as session:
            yield Client(session)
    except aiohttp.ClientConnectionError as error:
        raise StoreDown(f"the service at {url} cannot be reached: {error}") from error


async def _json(response: aiohttp.ClientResponse) -> Any:
    try:
        body = await response.json(content_type=None)
    except ValueError as error:
        raise BadInput(f"the service answered {response.status} without JSON") from error
    if response.status >= 400:
        raise BadInput(f"{body.get('title', response.status)}: {body.get('detail', '')}")
    return body


# -- what the commands do ---------------------------------------------------------------------


async def chat(client: Client, *, key: str, agent: str | None) -> None:
    """Talk in the terminal until the input ends; Ctrl-C stops the answer, twice leaves."""
    session = await client.session(key, agent)
    while (line := await asyncio.to_thread(_read_line)) is not None:
        if line.strip():
            await _answer(client, session, line)


async def send(client: Client, text: str, *, key: str, agent: str | None, as_json: bool) -> int:
    """Send one message and show the answer; return the exit code."""
    session = await client.session(key, agent)
    if not as_json:
        return await _answer(client, session, text)
    last: dict[str, Any] = {}
    async for kind, data in client.ring(session, text):
        if kind == "turn.finished":
            last = await client.get(f"/api/turns/{data['turn']}")
    _say(json.dumps(last, ensure_ascii=False, indent=2) + "\n")
    return 0 if last.get("state") == "succeeded" else 1


async def _answer(client: Client, session: str, text: str) -> int:
    """Stream one answer to the terminal."""
    loop = asyncio.get_running_loop()
    showing = asyncio.create_task(_show(client, session, text))
    presses = 0

    def pressed() -> None:
        nonlocal presses
        presses += 1
        if presses > 1:
            showing.cancel()
            return
        stopping = loop.create_task(client.post(f"/api/sessions/{session}/stop"))
        stopping.add_done_callback(lambda _: None)

    loop.add_signal_handler(signal.SIGINT, pressed)
    try:
        return await showing
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _show(client: Client, session: str, text: str) -> int:
    async for kind, data in client.ring(session, text):
        match kind:
            case "text":
                _say(data["text"])
            case "reply.reset":
                _say(f"\n[started again]\n{data['text']}")
            case "tool.started":
                _say(f"[{data['tool']}] ")
            case "turn.retrying":
                _say(f"\n[{data['reason']} Trying again in {data['wait_seconds']:g} s]\n")
            case "turn.finished":
                if data.get("error"):
                    _say(f"\n[failed: {data['error']}]")
                elif data["state"] == "stopped":
                    _say("\n[stopped]")
                _say("\n")
                return 0 if data["state"] == "succeeded" else 1
    return 1


def _read_line() -> str | None:
    if sys.stdin.isatty():
        _say("> ")
    line = sys.stdin.readline()
    return line or None


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()

"""The command line as a client of the HTTP API: of the running service, or of one it starts."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import aiohttp

from service.config import Log, Server, Settings
from service.egress import reason
from service.errors import BadInput, DatabaseBusy, StoreDown

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
_WAIT = "30"
# A stream that breaks off this often without bringing anything new is given up. The pauses grow to
# a quarter of a minute in all: a service that was killed is back before.
_CUTS = 5
_PAUSE_SECONDS = 0.5
# Another command may hold the file for a moment, or a service may just be starting.
_TRIES = 20
_STOPPING = 503

Receipt = Mapping[str, Any]
"""What the API says about an accepted message: its turn, its session, its number."""


class ServiceLeft(StoreDown):
    """The service stopped before it said that it took anything: the next one may be asked."""


class Client:
    """Calls the API; what it refuses is raised as BadInput with its own words.

    `key` names the first message it sends: sent again by another client, it is the same one.
    """

    def __init__(self, session: aiohttp.ClientSession, key: str | None = None) -> None:
        self._session = session
        self._key = key

    async def get(self, path: str, **query: str) -> Any:
        """The JSON under a path."""
        async with self._session.get(path, params=query) as response:
            return await _json(response)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> Any:
        """Post JSON; return what comes back."""
        async with self._session.post(path, json=body or {}, headers=headers) as response:
            return await _json(response)

    async def session(self, key: str, agent: str | None) -> str:
        """The id of the session with a key; made when there is none.

        Raises BadInput when it is bound to another agent than the one asked for.
        """
        body = {"key": key, **({"agent": agent} if agent else {})}
        found = await self._begin("/api/sessions", body)
        if agent is not None and found["agent"] != agent:
            raise BadInput(
                f"the session {key!r} is bound to the agent {found['agent']!r} for good; "
                "name another with --session KEY"
            )
        session: str = found["session"]
        return session

    async def send(self, session: str, text: str) -> Receipt:
        """Send a message. Raises ServiceLeft when it may be sent again under the same key."""
        key, self._key = self._key or str(uuid.uuid4()), None
        where = f"/api/sessions/{session}/messages"
        receipt: Receipt = await self._begin(where, {"text": text}, **{"Idempotency-Key": key})
        return receipt

    async def _begin(self, path: str, body: Mapping[str, Any], **headers: str) -> Any:
        """Post what may be posted twice; a service that is about to stop is told apart."""
        try:
            async with self._session.post(path, json=body, headers=headers) as response:
                if response.status == _STOPPING:
                    raise ServiceLeft("the service is stopping; try again")
                return await _json(response)
        except aiohttp.ClientError as error:
            raise ServiceLeft(f"the service cannot be reached: {reason(error)}") from error

    async def run_task(self, name: str) -> Receipt:
        """Run a task now."""
        receipt: Receipt = await self.post(f"/api/tasks/{quote(name, safe='')}/run")
        return receipt

    async def answer(self, session: str, question: str, answer: str) -> None:
        """Answer what a turn asks; one that was answered meanwhile is left as it is."""
        body = {"question": question, "answer": answer}
        with suppress(BadInput):
            await self.post(f"/api/sessions/{session}/answer", body)

    async def stop(self, session: str) -> None:
        """Stop what runs and what waits in a session."""
        await self.post(f"/api/sessions/{session}/stop")

    async def result(self, receipt: Receipt) -> Any:
        """The result of a turn, once it is final or waits for an answer."""
        while True:
            result = await self.get(receipt["status_url"], wait=_WAIT)
            if result["finished_at"] or result["state"] == "waiting":
                return result

    async def events(self, receipt: Receipt) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield the events of a turn as (kind, data) until its end.

        A stream that breaks off is taken up again after the last event that arrived.
        """
        after, cuts = receipt["number"] - 1, 0
        while True:
            try:
                async for number, kind, data in self._stream(receipt, after):
                    after, cuts = number, 0
                    yield kind, data
                    if kind == "turn.finished":
                        return
            except aiohttp.ClientError as error:
                if cuts >= _CUTS:
                    why = f"the service cannot be reached any more: {reason(error)}"
                    raise StoreDown(f"{why}; the answer goes on when it is back") from error
            cuts += 1
            if cuts > _CUTS:
                raise StoreDown("the service breaks off the answer again and again; it is kept")
            await asyncio.sleep(_PAUSE_SECONDS * 2 ** (cuts - 1))

    async def _stream(
        self, receipt: Receipt, after: int
    ) -> AsyncGenerator[tuple[int, str, dict[str, Any]]]:
        path = f"/api/sessions/{receipt['session']}/events"
        query = {"turn": str(receipt["turn"]), "after": str(after)}
        async with self._session.get(path, params=query) as response:
            if response.status != 200:
                await _json(response)
            frame: dict[str, str] = {}
            async for line in _lines(response.content):
                name, _, value = line.partition(": ")
                frame[name] = value
                if not line:
                    if "id" in frame:
                        yield int(frame["id"]), frame["event"], json.loads(frame["data"])
                    frame = {}


@asynccontextmanager
async def connect(
    settings: Settings, *, url: str | None, token: str | None, key: str | None = None
) -> AsyncGenerator[Client]:
    """Reach the service: the one at `url`, the one that holds our database, or one we start.

    Raises StoreDown when it cannot be reached, BadInput when nobody says with which token.
    """
    async with AsyncExitStack() as stack:
        where, shown = await _reach(settings, url, token, stack)
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        try:
            session = aiohttp.ClientSession(where, headers=headers, timeout=_TIMEOUT)
            yield Client(await stack.enter_async_context(session), key)
        except aiohttp.ClientError as error:
            raise StoreDown(f"the service at {where} cannot be reached: {reason(error)}") from error


async def _reach(
    settings: Settings, url: str | None, token: str | None, stack: AsyncExitStack
) -> tuple[str, str | None]:
    """Where the service answers, and the token for it."""
    if url is not None:
        return _checked(url), token
    if settings.database.url.startswith("postgresql"):
        return _configured(settings.server, token)
    from service.store import control

    lock = lock_of(settings.database.url)
    for _ in range(_TRIES):
        running = control.find(lock)
        if running is not None:
            return running.url, running.token
        try:
            return await _start(settings, stack)
        except DatabaseBusy as error:
            busy = error
        await asyncio.sleep(_PAUSE_SECONDS / 2)
    raise busy


def lock_of(database: str) -> Path:
    """The lock file of a SQLite database.

    It is `Database.lock_path` without SQLAlchemy, which would take longer to load than the
    running service takes to answer.
    """
    file = database.partition(":///")[2].partition("?")[0]
    return Path(f"{unquote(file)}.lock")


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        whole = False
    # Its calls stand below the root, wherever it answers.
    if not whole or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadInput(
            "--url: write an address such as http://127.0.0.1:8080, and nothing behind it"
        )
    return url


def _configured(server: Server, token: str | None) -> tuple[str, str]:
    """The service of a PostgreSQL installation: where the configuration makes it listen."""
    token = token or next((secret.reveal() for secret in server.tokens), None)
    if token is None:
        raise BadInput(
            "with PostgreSQL the service may run anywhere: give --token (make one: ringback token "
            "create NAME) and --url, or RINGBACK_TOKEN and RINGBACK_URL"
        )
    host = "127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104 - compared
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}", token


async def _start(settings: Settings, stack: AsyncExitStack) -> tuple[str, str]:
    """Start the service inside this process, for as long as the command runs."""
    from service.app import open_app
    from service.log import setup

    # The output belongs to the answer.
    setup(Log(level="error"), settings.secrets())
    server = settings.server.model_copy(update={"host": "127.0.0.1", "drain": timedelta(seconds=1)})
    ours = settings.model_copy(update={"server": server})
    app = await stack.enter_async_context(open_app(ours, port=0, channels=False))
    return app.url, app.token


async def _lines(content: aiohttp.StreamReader) -> AsyncGenerator[str]:
    """The lines of a stream, however long: one event holds a whole message."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode()


async def _json(response: aiohttp.ClientResponse) -> Any:
    try:
        body = await response.json(content_type=None)
    except ValueError as error:
        raise BadInput(f"the service answered {response.status} without JSON") from error
    if response.status < 400:
        return body
    said = body if isinstance(body, dict) else {}
    words = (str(said.get("title") or response.status), str(said.get("detail") or ""))
    raise BadInput(": ".join(word for word in words if word))

"""Wakes other replicas through LISTEN/NOTIFY: a hint that makes polling faster, never the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa
import structlog

from service.core.model import SessionId, TurnId, VoiceId
from service.errors import StoreError
from service.store.database import Database

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_CHANNEL = "ringback"
# NOTIFY takes a database-wide lock at commit: many hints become one statement.
_DEBOUNCE_SECONDS = 0.01
_RECONNECT_SECONDS = 2.0
_ROOM = 7000


class Hints:
    """Tells other replicas what changed, and tells this one what they changed.

    `feed` is called for sessions with new events, `work` when there may be turns or deliveries to
    claim, `stop` and `stop_voice` for what is to be stopped. On SQLite nothing is sent or heard.
    """

    def __init__(
        self,
        database: Database,
        *,
        owner: str,
        feed: Callable[[SessionId], None],
        work: Callable[[], None],
        stop: Callable[[TurnId], object],
        stop_voice: Callable[[TurnId, VoiceId], object],
    ) -> None:
        self._database = database
        # Begins every payload, because what we send comes back to us too.
        self._owner = owner
        self._feed = feed
        self._work = work
        self._stop = stop
        self._stop_voice = stop_voice
        self._pending: dict[str, None] = {}
        self._dirty = asyncio.Event()
        self._urgent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.listening = asyncio.Event()
        """Set while other replicas are heard."""

    def start(self) -> None:
        """Begin to listen and to send."""
        if self._database.is_sqlite:
            return
        self._tasks = [
            asyncio.create_task(self._listen(), name="hints-listen"),
            asyncio.create_task(self._send(), name="hints-send"),
        ]

    async def close(self) -> None:
        """Stop; what was not sent yet is left to polling."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = []

    def changed(self, session: SessionId) -> None:
        """A session has new events."""
        self._add(f"f{session}")

    def wanted(self) -> None:
        """There is a turn or a delivery to claim."""
        self._add("w")

    def stopping(self, turn: TurnId) -> None:
        """A turn is to be stopped wherever it runs."""
        self._add(f"s{turn}")
        self._urgent.set()

    def stopping_voice(self, turn: TurnId, voice: VoiceId) -> None:
        """One voice of a turn is to be stopped wherever it speaks."""
        self._add(f"v{turn}/{voice}")
        self._urgent.set()

    def _add(self, hint: str) -> None:
        if self._tasks:
            self._pending[hint] = None
            self._dirty.set()

    async def _send(self) -> None:
        while True:
            await self._dirty.wait()
            await _set_within(self._urgent, _DEBOUNCE_SECONDS)
            self._dirty.clear()
            self._urgent.clear()
            pending, self._pending = list(self._pending), {}
            try:
                await self._database.write(
                    _notify, [f"{self._owner} {hints}" for hints in _packed(pending)]
                )
            except StoreError as error:
                log.info("hints.not_sent", error=str(error))

    async def _listen(self) -> None:
        # Not needed on SQLite, where nobody listens.
        import asyncpg

        while True:
            try:
                await self._hear(asyncpg.connect)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                log.info("hints.deaf", error=str(error))
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _hear(self, connect: Callable[..., Awaitable[Any]]) -> None:
        url = self._database.url.set(drivername="postgresql")
        connection = await connect(url.render_as_string(hide_password=False), timeout=5)
        closed = asyncio.Event()
        connection.add_termination_listener(lambda _: closed.set())
        try:
            await connection.add_listener(_CHANNEL, self._heard)
            self.listening.set()
            await closed.wait()
        finally:
            self.listening.clear()
            connection.terminate()

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        owner, *hints = str(payload).split(" ")
        if owner == self._owner:
            return
        for hint in hints:
            match hint[:1]:
                case "f":
                    self._feed(SessionId(hint[1:]))
                case "s":
                    self._stop(TurnId(hint[1:]))
                case "v":
                    turn, _, voice = hint[1:].partition("/")
                    self._stop_voice(TurnId(turn), VoiceId(voice))
                case "w":
                    self._work()


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _packed(hints: list[str]) -> list[str]:
    """Join hints into payloads that PostgreSQL takes (less than 8000 bytes)."""
    payloads: list[list[str]] = [[]]
    size = 0
    for hint in hints:
        if size + len(hint) + 1 > _ROOM:
            payloads.append([])
            size = 0
        payloads[-1].append(hint)
        size += len(hint) + 1
    return [" ".join(payload) for payload in payloads if payload]


def _notify(conn: sa.Connection, payloads: list[str]) -> None:
    for payload in payloads:
        conn.execute(sa.select(sa.func.pg_notify(_CHANNEL, payload)))

"""A turn by the length of its history: what reading and telling it costs the whole service.

A conversation is summed up at three quarters of its budget, so that is the most a turn is told. The
turns measured here are told a little less: none of them has its conversation summed up after it.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import asyncpg
import sqlalchemy as sa

from bench.ground import BACKENDS, Ground, child, cpu, say, serving
from service.core.model import SessionId, TurnId
from service.store import sessions, tables
from service.store.database import Database
from service.store.ids import new_id
from service.store.sql import insert_many

_LENGTHS = (10, 1_000, 10_000)
_BUDGETS = (200_000, 20_000)
_TURNS = 10
_CHARACTERS = 200
_FULL = 0.75
# The provider's words make an answer of about as many characters.
_ASKED = f"{_CHARACTERS // 7} 0 ".ljust(_CHARACTERS, ".")
_SERVICE = """
[providers.local]
kind = "openai"
base_url = "{url}"
"""
_AGENT = """
[agents.budget{characters}]
provider = "local"
model = "bench"
limits = {{ history_characters = {characters} }}
[webhooks.budget{characters}]
agent = "budget{characters}"
auth = "none"
session = "{{{{ payload.session }}}}"
prompt = "{{{{ payload.text }}}}"
"""
# What a turn leaves behind under its own number; its replies have none.
_OF_SESSION = (tables.turns, tables.messages, tables.events)
# The messages a turn is told, as plainly as they can be had.
_SELECT = (
    "SELECT role, author, text, status FROM messages WHERE session_id = {place} "
    "ORDER BY turn_number DESC, number DESC LIMIT {limit}"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn takes, in milliseconds."""

    wall: float
    cpu: float


async def history(ground: Ground) -> None:
    """Print the milliseconds per turn by backend, budget and length of the history."""
    say(
        f"# A turn by its history, messages of {_CHARACTERS} characters; x the SELECT of those told"
    )
    async with child("bench.provider") as provider:
        for backend in BACKENDS:
            await _of_backend(ground, backend, provider.line)


async def _of_backend(ground: Ground, backend: str, provider: str) -> None:
    url = await ground.database(backend)
    agents = "".join(_AGENT.format(characters=characters) for characters in _BUDGETS)
    config = ground.config(url, _SERVICE.format(url=provider) + agents)
    async with (
        serving(config) as (pid, base),
        aiohttp.ClientSession(base) as session,
    ):
        ringing = Ringing(session, pid)
        for characters in _BUDGETS:
            for length in _LENGTHS:
                told = min(length, _most_told(characters))
                stored = await ringing.begin(characters, f"{length}")
                await _lengthen(url, stored, length=length, told=told)
                turn = await ringing.measured(characters, f"{length}")
                floor = await _selected(url, stored, told + _TURNS)
                say(
                    f"{backend:11} {length:6,} messages, {told:3} told of {characters:7,}   "
                    f"{turn.wall:6.1f} ms {turn.wall / floor.wall:6.1f} x   "
                    f"CPU {turn.cpu:6.1f} ms {turn.cpu / floor.cpu:6.1f} x   "
                    f"floor {floor.wall:5.2f} ms, CPU {floor.cpu:5.2f} ms"
                )


def _most_told(characters: int) -> int:
    """How many messages fit so that after all turns there is still nothing to be summed up."""
    return int(characters * _FULL / _CHARACTERS) - 2 * (_TURNS + 2)


class Ringing:
    """Rings a service, one turn after the other."""

    def __init__(self, session: aiohttp.ClientSession, pid: int) -> None:
        self._session = session
        self._pid = pid

    async def begin(self, characters: int, key: str) -> SessionId:
        """Have the first turn of a session; return the session."""
        return SessionId((await self._ring(characters, key))["session"])

    async def measured(self, characters: int, key: str) -> Turn:
        """The median turn of a session by the clock, and the mean one by what it computes."""
        await self._ring(characters, key)
        computed, walls = cpu(self._pid), []
        for _ in range(_TURNS):
            began = time.perf_counter()
            await self._ring(characters, key)
            walls.append(time.perf_counter() - began)
        mean = (cpu(self._pid) - computed) / _TURNS
        return Turn(statistics.median(walls) * 1e3, mean * 1e3)

    async def _ring(self, characters: int, key: str) -> Mapping[str, Any]:
        body = {"session": key, "text": _ASKED}
        headers = {"Prefer": "wait=60"}
        path = f"/hooks/budget{characters}"
        async with self._session.post(path, json=body, headers=headers) as response:
            answer: dict[str, Any] = await response.json()
        if answer.get("state") != "succeeded":
            raise RuntimeError(f"no answer: {answer}")
        return answer


# -- a past ---------------------------------------------------------------------------------------


async def _lengthen(url: str, session: SessionId, *, length: int, told: int) -> None:
    """Repeat the only turn of a session, with all that is stored of it, to so many messages.

    What is before those to be told is as if it had been summed up.
    """
    database = Database(url)
    await database.open(shared=True)
    try:
        await database.write(_repeat, session, (length - told) // 2, length // 2 - 1)
        if not database.is_sqlite:
            # As autovacuum does it in time.
            await database.write(_analyze)
    finally:
        await database.close()


def _repeat(conn: sa.Connection, session: SessionId, summed_up: int, times: int) -> None:
    """Copy its rows with new ids, and with numbers that go on where the last ones end."""
    mine = [_rows(conn, table, table.c.session_id == session) for table in _OF_SESSION]
    first, span = mine[0][0], max(row["number"] for row in mine[-1])
    replies = _rows(conn, tables.replies, tables.replies.c.turn_id == first["id"])
    ids = [TurnId(new_id()) for _ in range(times)]
    for table, rows in zip(_OF_SESSION, mine, strict=True):
        copies = [
            _copy(row, id_, span * place) for place, id_ in enumerate(ids, start=1) for row in rows
        ]
        insert_many(conn, table, copies)
    copies = [{**row, "id": new_id(), "turn_id": id_} for id_ in ids for row in replies]
    insert_many(conn, tables.replies, copies)
    numbers = tables.sessions.c
    conn.execute(
        tables.sessions.update()
        .where(numbers.id == session)
        .values(
            last_event=numbers.last_event + span * times,
            last_message=numbers.last_message + span * times,
        )
    )
    if summed_up:
        last = first["number"] + span * (summed_up - 1)
        sessions.begin_context(conn, session, after_turn=last, summary="They greeted each other.")


def _analyze(conn: sa.Connection) -> None:
    conn.execute(sa.text("ANALYZE"))


def _rows(
    conn: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]
) -> list[dict[str, Any]]:
    return [dict(row) for row in conn.execute(sa.select(table).where(which)).mappings()]


def _copy(row: Mapping[str, Any], turn: TurnId, later: int) -> dict[str, Any]:
    """A row of the same turn, as it would be of another one so many events later."""
    copy = {**row, "number": row["number"] + later}
    if "turn_number" in row:
        copy["turn_number"] += later
    if "turn_id" not in row:
        return {**copy, "id": turn}
    # The database numbers messages.
    copy.pop("id", None)
    return {**copy, "turn_id": turn}


# -- the floor ------------------------------------------------------------------------------------


async def _selected(url: str, session: SessionId, limit: int) -> Turn:
    """What it takes to have the newest messages of a session from the bare driver."""
    parts = sa.make_url(url)
    if parts.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parts.database))) as file:
            query = _SELECT.format(place="?", limit=limit)
            return await _timed(partial(_fetch, file, query, session))
    connection = await asyncpg.connect(
        host=parts.query["host"], user=parts.username, database=parts.database
    )
    try:
        query = _SELECT.format(place="$1", limit=limit)
        return await _timed(partial(connection.fetch, query, session))
    finally:
        await connection.close()


async def _fetch(file: sqlite3.Connection, query: str, session: SessionId) -> Sequence[object]:
    return file.execute(query, (session,)).fetchall()


async def _timed(select: Callable[[], Awaitable[Sequence[object]]]) -> Turn:
    await select()
    computed, walls = time.process_time(), []
    for _ in range(_TURNS):
        began = time.perf_counter()
        await select()
        walls.append(time.perf_counter() - began)
    mean = (time.process_time() - computed) / _TURNS
    return Turn(statistics.median(walls) * 1e3, mean * 1e3)

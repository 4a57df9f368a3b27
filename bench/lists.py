"""What people look at when there is much of it: lists, search, and a session that is opened."""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
import statistics
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Any

import aiohttp
import asyncpg
import sqlalchemy as sa

from bench import past
from bench.ground import BACKENDS, Ground, say, serving
from bench.past import COMMON, UNCOMMON, Past, Size
from service.core.model import SessionId

_FULL, _SMALL = Size(50_000, 2_000_000), Size(5_000, 200_000)
_TIMES, _WARM_UP = 50, 5
# What a service does once when it starts is no part of this.
_SETTLED = 3.0
_PAGE, _STEP, _HITS, _NEWEST = 50, 200, 50, 100
_LATER_PAGES = 10
_MARK = 0.1

# The rows that an answer was made of, fetched by their keys: no list can be had with less.
_SESSIONS = "SELECT * FROM sessions WHERE id IN ({ids})"
_VOICES = "SELECT * FROM voices WHERE session_id IN ({ids})"
_MESSAGES = "SELECT * FROM messages WHERE session_id IN ({ids}) AND number IN ({numbers})"
_HIT = (
    "WITH hits (id, at) AS (VALUES {hits}) SELECT messages.*, sessions.title FROM hits"
    " CROSS JOIN messages CROSS JOIN sessions"
    " WHERE session_id = hits.id AND number = hits.at AND sessions.id = hits.id"
)

Select = Callable[[str], Awaitable[Sequence[object]]]
Answer = tuple[int, Sequence[str]]
"""How many rows an answer shows, and the queries that fetch just those."""
Look = Callable[[], Awaitable[Answer]]


async def lists(ground: Ground) -> None:
    """Print the milliseconds that each way of looking takes, by backend."""
    size = _FULL if ground.thorough else _SMALL
    say(
        f"# Looking at {size.sessions:,} sessions with {size.messages:,} messages, by the API; "
        f"x their rows by key; the mark is {_MARK * 1e3:.0f} ms"
    )
    for backend in BACKENDS:
        url = await ground.database(backend)
        token = await past.operator(url)
        began = time.perf_counter()
        lived = await past.live(url, size)
        say(f"{backend:11} filled in {time.perf_counter() - began:.0f} s")
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            serving(ground.config(url)) as (_, base),
            aiohttp.ClientSession(base, headers=headers) as session,
            _selecting(url) as select,
        ):
            await asyncio.sleep(_SETTLED)
            looking = Looking(session, lived)
            for name, look in await looking.ways():
                await _measure(backend, name, look, select)


class Looking:
    """Looks at a service, each time at something else where there is a choice."""

    def __init__(self, session: aiohttp.ClientSession, lived: Past) -> None:
        self._session = session
        self._past = lived
        self._random = random.Random(lived.size.messages)

    async def ways(self) -> Sequence[tuple[str, Look]]:
        """What is measured, and how to do it once."""
        cursors = itertools.cycle(await self._later_pages())
        rare, common = itertools.cycle(self._past.rare), itertools.cycle(COMMON)
        return (
            ("active, first page", partial(self._page, "active", itertools.repeat(""))),
            ("active, half-way down", partial(self._page, "active", cursors)),
            ("archived, first page", partial(self._page, "archived", itertools.repeat(""))),
            ("search, in 5 messages", partial(self._search, rare)),
            ("search, in 1 of 1,000", partial(self._search, itertools.repeat(UNCOMMON))),
            ("search, in most", partial(self._search, common)),
            (f"open, newest {_NEWEST}", self._open),
        )

    async def _later_pages(self) -> Sequence[str]:
        """The cursors of some pages around the middle of the active list."""
        cursor, cursors = "", []
        for _ in range(max(_LATER_PAGES, self._past.size.sessions // 2 // _STEP)):
            query = {"limit": str(_STEP), **({"cursor": cursor} if cursor else {})}
            cursor = (await self._get("/api/sessions", query))["next"]
            cursors.append(cursor)
        return cursors[-_LATER_PAGES:]

    async def _page(self, view: str, cursors: Iterator[str]) -> Answer:
        cursor = next(cursors)
        query = {"view": view, "limit": str(_PAGE), **({"cursor": cursor} if cursor else {})}
        found = (await self._get("/api/sessions", query))["sessions"]
        return len(found), [_SESSIONS.format(ids=_quoted(one["session"] for one in found))]

    async def _search(self, words: Iterator[str]) -> Answer:
        query = {"q": next(words), "limit": str(_HITS)}
        hits = (await self._get("/api/search", query))["hits"]
        shown = ", ".join(f"('{one['session']}', {one['number']})" for one in hits)
        return len(hits), [_HIT.format(hits=shown)]

    async def _open(self) -> Answer:
        session = self._random.choice(self._past.long)
        await self._get(f"/api/sessions/{session}", {})
        query = {"after": str(self._past.after(session, _NEWEST)), "limit": str(_NEWEST)}
        found = (await self._get(f"/api/sessions/{session}/messages", query))["messages"]
        return len(found), _opened(session, [one["number"] for one in found])

    async def _get(self, path: str, query: Mapping[str, str]) -> Any:
        async with self._session.get(path, params=query) as response:
            response.raise_for_status()
            return await response.json()


def _opened(session: SessionId, numbers: Iterable[int]) -> Sequence[str]:
    ids = _quoted([session])
    return (
        _SESSIONS.format(ids=ids),
        _VOICES.format(ids=ids),
        _MESSAGES.format(ids=ids, numbers=", ".join(map(str, numbers))),
    )


def _quoted(ids: Iterable[str]) -> str:
    return ", ".join(f"'{one}'" for one in ids)


async def _measure(backend: str, name: str, look: Look, select: Select) -> None:
    """Look often, and fetch the same rows right after each time."""
    for _ in range(_WARM_UP):
        await look()
    looks, floors, shown = [], [], 0
    for _ in range(_TIMES):
        began = time.perf_counter()
        shown, queries = await look()
        looked = time.perf_counter()
        rows = [await select(query) for query in queries]
        floors.append(time.perf_counter() - looked)
        looks.append(looked - began)
        if len(rows[-1]) != shown:
            raise RuntimeError(f"{name}: {shown} shown, {len(rows[-1])} fetched")
    median, floor = statistics.median(looks), statistics.median(floors)
    say(
        f"{backend:11} {name:22} {shown:3} rows   median {median * 1e3:6.1f} ms   "
        f"worst {max(looks) * 1e3:6.1f} ms   floor {floor * 1e3:5.2f} ms {median / floor:6.1f} x   "
        f"{median / _MARK:4.0%} of the mark"
    )


# -- the floor ------------------------------------------------------------------------------------


@asynccontextmanager
async def _selecting(url: str) -> AsyncGenerator[Select]:
    """What fetches rows by the bare driver."""
    parts = sa.make_url(url)
    if parts.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parts.database))) as file:
            yield partial(_fetch, file)
        return
    connection = await asyncpg.connect(
        host=parts.query["host"], user=parts.username, database=parts.database
    )
    try:
        yield connection.fetch
    finally:
        await connection.close()


async def _fetch(file: sqlite3.Connection, query: str) -> Sequence[object]:
    return file.execute(query).fetchall()

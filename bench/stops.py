"""A stop from another replica: how soon the turn is over that runs in this one."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import aiohttp
import asyncpg
import sqlalchemy as sa

from bench.ground import Ground, child, say, serving
from service.app import App, open_app
from service.config import load
from service.core.model import SessionId, TurnId

_TIMES = 50
_ROUND_TRIPS = 200
_WARM_UP = 3
# The words of a reply are under way for this long when it is stopped.
_SECONDS_IN = 0.05
_LOOK_EVERY = 0.001
_PATIENCE = 10.0
_SERVICE = """
[providers.offline]
kind = "offline"
[providers.local]
kind = "openai"
base_url = "{url}"
[agents.talker]
provider = "local"
model = "bench"
[agents.napper]
provider = "offline"
model = "echo"
python = "bench.naps:agent"
[webhooks.talk]
agent = "talker"
auth = "none"
[webhooks.nap]
agent = "napper"
auth = "none"
"""
# The other replica runs nothing itself.
_ELSEWHERE = "[limits]\nturns_at_once = 0\n"
# What is rung, what says that it is in the middle, and the line it makes.
_CASES = (
    ("talk", "3000 0.02", "text", "in mid-text"),
    ("nap", "call nap {}", "tool.started", "in mid-tool"),
)


async def stops(ground: Ground) -> None:
    """Print the milliseconds from the commit of a stop to the commit of the end it brings."""
    say("# A stop from another replica, PostgreSQL: from its commit to the turn being stopped")
    url = await ground.database("postgresql")
    trips = await _round_trips(url)
    floor = statistics.median(trips)
    _say("LISTEN/NOTIFY", trips, floor)
    async with child("bench.provider") as provider:
        text = _SERVICE.format(url=provider.line)
        async with (
            serving(ground.config(url, text)) as (_, base),
            aiohttp.ClientSession(base) as session,
            open_app(load(ground.config(url, text + _ELSEWHERE))) as elsewhere,
        ):
            stopping = Stopping(session, elsewhere, await _connect(url))
            for hook, said, kind, name in _CASES:
                for _ in range(_WARM_UP):
                    await stopping.stopped(hook, said, kind)
                times = [await stopping.stopped(hook, said, kind) for _ in range(_TIMES)]
                _say(name, times, floor)
            await stopping.close()


class Stopping:
    """Rings one replica and stops the turn from the other."""

    def __init__(
        self, session: aiohttp.ClientSession, elsewhere: App, connection: asyncpg.Connection
    ) -> None:
        self._session = session
        self._elsewhere = elsewhere
        self._connection = connection

    async def close(self) -> None:
        """Let go of the database."""
        await self._connection.close()

    async def stopped(self, hook: str, said: str, kind: str) -> float:
        """The seconds that one stop took."""
        async with self._session.post(f"/hooks/{hook}", data=said) as response:
            accepted: Mapping[str, Any] = await response.json()
        turn = TurnId(accepted["turn"])
        await self._until(SessionId(accepted["session"]), turn, kind)
        async with self._elsewhere.controls.steps() as steps:
            await steps.stop_turn(turn, by="bench")
        return await self._seconds_until_over(turn)

    async def _until(self, session: SessionId, turn: TurnId, kind: str) -> None:
        following = self._elsewhere.feed.follow(session, after=0, turn=turn)
        async with asyncio.timeout(_PATIENCE), aclosing(following):
            async for event in following:
                if event.kind == kind:
                    break
        await asyncio.sleep(_SECONDS_IN)

    async def _seconds_until_over(self, turn: TurnId) -> float:
        """Look at the database until the turn is over there."""
        began = time.perf_counter()
        async with asyncio.timeout(_PATIENCE):
            while (state := await self._state(turn)) == "running":
                await asyncio.sleep(_LOOK_EVERY)
        if state != "stopped":
            raise RuntimeError(f"the turn ended {state}")
        return time.perf_counter() - began

    async def _state(self, turn: TurnId) -> str:
        return str(await self._connection.fetchval("SELECT state FROM turns WHERE id = $1", turn))


async def _round_trips(url: str) -> Sequence[float]:
    """The seconds from NOTIFY on one connection to its arrival on another."""
    talking, listening = await _connect(url), await _connect(url)
    heard = asyncio.Event()
    await listening.add_listener("bench", lambda *_: heard.set())
    times = []
    for _ in range(_ROUND_TRIPS):
        heard.clear()
        began = time.perf_counter()
        await talking.execute("NOTIFY bench")
        await heard.wait()
        times.append(time.perf_counter() - began)
    await talking.close()
    await listening.close()
    return times


async def _connect(url: str) -> asyncpg.Connection:
    parts = sa.make_url(url)
    return await asyncpg.connect(
        host=parts.query["host"], user=parts.username, database=parts.database
    )


def _say(name: str, seconds: Sequence[float], floor: float) -> None:
    median, worst = statistics.median(seconds), max(seconds)
    say(
        f"{name:14} median {median * 1e3:6.1f} ms   worst {worst * 1e3:6.1f} ms   "
        f"{median / floor:5.1f} x"
    )

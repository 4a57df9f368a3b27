"""Streams of a provider, read by the whole service and by its floors, and what that costs."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from bench.ground import Ground, child, cpu, rss, serving

Read = Callable[["Shape"], Coroutine[Any, Any, int]]
"""Reads one of the streams; returns how many words it brought."""
FLOORS = {"raw": "bare HTTP client", "library": "client library"}
_SERVICE = """
[limits]
turns_at_once = 1000
[providers.local]
kind = "openai"
base_url = "{url}"
[agents.talker]
provider = "local"
model = "bench"
[webhooks.bench]
agent = "talker"
auth = "none"
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many streams at once, of how many tokens, with how many seconds between them."""

    streams: int
    tokens: int
    every: float = 0.0

    @property
    def asked(self) -> str:
        """The message that asks the provider for one such stream."""
        return f"{self.tokens} {self.every}"


WARM_UP = Shape(1, 200)


@dataclass(frozen=True, slots=True)
class Cost:
    """What reading streams took of a process."""

    cpu: float
    """Seconds computed."""
    seconds: float
    grown: int
    """Bytes of resident memory, half-way through."""


async def measured(pid: int, read: Read, shape: Shape) -> Cost:
    """Let `read` read all the streams at once; the cost is that of the process `pid`."""
    before, computed, began = rss(pid), cpu(pid), time.perf_counter()
    reading = [asyncio.create_task(read(shape)) for _ in range(shape.streams)]
    await asyncio.sleep(shape.tokens * shape.every / 2)
    grown = rss(pid) - before
    found = await asyncio.gather(*reading)
    if set(found) != {shape.tokens}:
        raise RuntimeError(f"{shape} brought {sorted(set(found))} tokens")
    return Cost(cpu(pid) - computed, time.perf_counter() - began, grown)


async def of_floor(kind: str, provider: str, shape: Shape) -> Cost:
    """What a floor takes to read the streams."""
    arguments = (kind, provider, shape.streams, shape.tokens, shape.every)
    async with child("bench.reader", *arguments) as reader:
        return Cost(**json.loads(reader.line))


@asynccontextmanager
async def followed(
    ground: Ground, backend: str, provider: str
) -> AsyncGenerator[Callable[[Shape], Awaitable[Cost]]]:
    """Run the service; yield what measures turns in it that have one follower each."""
    url = await ground.database(backend)
    config = ground.config(url, _SERVICE.format(url=provider))
    async with (
        serving(config) as (pid, base),
        aiohttp.ClientSession(base, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        followers = Followers(session, pid)
        await followers.read(WARM_UP)
        yield followers.cost


class Followers:
    """Rings a service and follows the replies."""

    def __init__(self, session: aiohttp.ClientSession, pid: int) -> None:
        self._session = session
        self._pid = pid

    async def cost(self, shape: Shape) -> Cost:
        """What the service takes for the streams."""
        return await measured(self._pid, self.read, shape)

    async def read(self, shape: Shape) -> int:
        """Ring once, follow to the end; return the number of words that came."""
        headers = {"Accept": "text/event-stream"}
        async with self._session.post("/hooks/bench", data=shape.asked, headers=headers) as answer:
            answer.raise_for_status()
            events = (await answer.read()).split(b"\n\n")
        return sum(event.count(b"word") for event in events if b"event: text\n" in event)

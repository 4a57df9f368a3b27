"""Memory: of the idle service, of a session that exists, and of a reply that is under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

import aiohttp

from bench.ground import BACKENDS, Ground, child, rss, say, serving
from bench.streams import FLOORS, Cost, Shape, followed, of_floor
from service.demo.bot_api.server import BotApi

_SETTLED = 3.0
_SESSIONS, _FEWER_SESSIONS = 10_000, 2_000
_WARM_UP = 500
_AT_ONCE = 32
_CHARACTERS = 200
_ECHO = '[webhooks.kept]\nagent = "assistant"\nauth = "none"\n'
_FEW = Shape(streams=20, tokens=4, every=0.5)
# Half-way, when the memory is looked at, all of them have begun to speak.
_LIVE = Shape(streams=200, tokens=10, every=1.0)


async def idle(ground: Ground) -> None:
    """Print how soon the service is ready and what it holds, beside a bare server."""
    say("# Idle: SQLite, Telegram, one task")
    seconds, held = await _idle(ground)
    bare_seconds, bare = await _bare()
    say(
        f"start to ready {seconds:5.2f} s    bare aiohttp server {bare_seconds:5.2f} s    "
        f"{seconds / bare_seconds:4.1f} x"
    )
    say(
        f"memory (RSS)   {held / 1e6:5.0f} MB   bare aiohttp server {bare / 1e6:5.0f} MB   "
        f"{held / bare:4.1f} x"
    )


async def memory(ground: Ground) -> None:
    """Print what a session and a live stream add to the memory of the service."""
    backends = BACKENDS if ground.thorough else BACKENDS[:1]
    await _idle_sessions(ground, backends, _SESSIONS if ground.thorough else _FEWER_SESSIONS)
    say("")
    await _live_streams(ground, backends)


async def _idle_sessions(ground: Ground, backends: Sequence[str], times: int) -> None:
    say(f"# Memory per idle session, from {times:,} that were answered once")
    async with child("bench.floor") as server:
        bare = await _grown(server.pid, f"http://127.0.0.1:{server.line}", times)
    say(f"{'kept in a dictionary':20} {bare:7,.0f} bytes")
    for backend in backends:
        config = ground.config(await ground.database(backend), _ECHO)
        async with serving(config) as (pid, base):
            grown = await _grown(pid, base, times)
        say(f"{f'service, {backend}':20} {grown:7,.0f} bytes   {grown / bare:5.2f} x")


async def _live_streams(ground: Ground, backends: Sequence[str]) -> None:
    say(f"# Memory per live stream with one follower, from {_LIVE.streams} at once")
    async with child("bench.provider") as provider:
        raw = await of_floor("raw", provider.line, _LIVE)
        _say_live(FLOORS["raw"], raw, raw)
        _say_live(FLOORS["library"], await of_floor("library", provider.line, _LIVE), raw)
        for backend in backends:
            async with followed(ground, backend, provider.line) as measure:
                await measure(_FEW)
                _say_live(f"service, {backend}", await measure(_LIVE), raw)


def _say_live(name: str, cost: Cost, raw: Cost) -> None:
    say(f"{name:20} {cost.grown / _LIVE.streams / 1e3:7.1f} kB   {cost.grown / raw.grown:5.1f} x")


async def _idle(ground: Ground) -> tuple[float, int]:
    async with BotApi() as telegram:
        (ground.directory / "token").write_text(telegram.token, "utf-8")
        config = ground.config(
            await ground.database("sqlite"),
            f'[telegram]\ntoken = "file:{ground.directory}/token"\nagent = "assistant"\n'
            f'api_base_url = "{telegram.url}"\nallow = [1]\n'
            '[tasks.daily]\ncron = "0 8 * * *"\nagent = "assistant"\nprompt = "Good morning"\n',
        )
        async with serving(config):
            pass
        began = time.perf_counter()
        async with serving(config) as (pid, _):
            took = time.perf_counter() - began
            await asyncio.sleep(_SETTLED)
            return took, rss(pid)


async def _bare() -> tuple[float, int]:
    began = time.perf_counter()
    async with child("bench.floor") as server:
        return time.perf_counter() - began, rss(server.pid)


async def _grown(pid: int, base: str, times: int) -> float:
    """Bytes of memory that each of many sessions adds once it was answered."""
    async with aiohttp.ClientSession(base) as session:
        await _ring_often(session, _WARM_UP)
        before = rss(pid)
        await _ring_often(session, times)
        return (rss(pid) - before) / times


async def _ring_often(session: aiohttp.ClientSession, times: int) -> None:
    numbers = iter(range(times))
    await asyncio.gather(*(_ring_each(session, numbers) for _ in range(_AT_ONCE)))


async def _ring_each(session: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
    """Ring new sessions one after the other, as long as there are numbers left."""
    for number in numbers:
        said = f"Message {number}".ljust(_CHARACTERS, ".")
        headers = {"Prefer": "wait=60"}
        async with session.post("/hooks/kept", data=said, headers=headers) as response:
            answer = await response.json()
        if answer.get("state") != "succeeded":
            raise RuntimeError(f"no answer: {answer}")
